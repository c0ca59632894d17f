from unittest import mock

import pytest
import torch

import optics.defocus_map.network
from diffusion.pixel_norm import PixelNorm
from diffusion.precision import check_precision, chosen_precision, computes_in_bf16, mixed_precision
from samplers.devices import tried_device

FLAGS = [
    ({"avx512_bf16": True, "cpu_name": "AMD EPYC 9V74"}, True), ({"avx512_bf16": True}, True),
    ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, False), ({"amx_bf16": True}, True), ({}, False),
    ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "expected"), FLAGS)
def test_bfloat16_where_the_processor_is_faster_in_it(monkeypatch, flags, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **flags}, raising=False)
    assert computes_in_bf16(torch.device("cpu")) is expected
    assert chosen_precision("auto", torch.device("cpu")) == ("bf16" if expected else "fp32")
    network = torch.nn.Linear(8, 8)
    a, b = torch.rand(8, 8), torch.rand(8, 8)
    for precision, half in (("auto", expected), ("bf16", True), ("fp32", False)):
        with mixed_precision(network, precision):
            assert ((a @ b).dtype == torch.bfloat16) is half


def test_weights_in_half_precision_decide():
    network = torch.nn.Linear(8, 8).half()
    with mixed_precision(network, "fp32"):
        assert network(torch.rand(2, 8)).dtype == torch.float16


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="auto, fp32 or bf16, got 'fp8'"):
        check_precision("fp8")


@pytest.fixture
def coarse_convolutions():
    """What PyTorch begins with."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_a_device_that_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="^xla: expected a device of this machine, got an error: ") as refusal:
        tried_device("xla")
    assert len(str(refusal.value)) < 300 and "\n" not in str(refusal.value)


def test_commands_take_single_precision_at_its_word(coarse_convolutions):
    tried_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("norm", [PixelNorm, optics.defocus_map.network.PixelNorm])
def test_norms_keep_the_precision_of_what_they_are_given(norm):
    # CUDA's autocast would take single precision.
    x = torch.rand(2, 8, 3, 4).bfloat16()
    seen, layer_norm = [], torch.nn.functional.layer_norm

    def seen_norm(*arguments):
        seen.append(torch.is_autocast_enabled("cpu"))
        return layer_norm(*arguments)

    with torch.autocast("cpu", torch.bfloat16), mock.patch.object(torch.nn.functional, "layer_norm", seen_norm):
        assert norm()(x).dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]
