import pytest
import torch

from diffusion.precision import check_precision, chosen_precision, computes_in_bf16, mixed_precision

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
