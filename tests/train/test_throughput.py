"""The benchmark of training: what it counts and which two steps it compares; not how fast this machine is."""

import json

import pytest
import torch
from torch import nn

from diffusion import ScoreNetwork
from samplers.config import load_config
from train import throughput
from train.config import ScoreConfig
from train.training_steps import convolution_pass, our_step, plain_step, step_flops

TINY = [
    "data.root=unused", "run.dir=unused", "data.patch=32", "network.channels=[8,16]", "network.blocks=1",
    "network.embedding=16", "optim.batch=4",
]  # fmt: skip


def _config(*overrides):
    return load_config(ScoreConfig, None, [*TINY, *overrides])


def _convolution_flops(backward_of_first):
    """Two operations for every weight at every place of the output (of the input, where it is transposed)."""
    # Stem, two in each of the two encoder and decoder blocks and of the middle, down, up, head: 4 patches of 32 x 32.
    half, quarter = 4 * 16 * 16, 4 * 8 * 8
    stem = 2 * half * 9 * 12 * 8
    rest = 2 * half * 9 * (2 * 2 * 8 * 8 + 8 * 12) + 2 * quarter * (9 * 2 * 16 * 16 + 4 * 2 * 8 * 16)
    # Backward: once for the weights, once for the input, which the first layer of a network does not need.
    return 3 * rest + (3 if backward_of_first else 2) * stem


def test_operations_are_those_of_the_layers():
    _, counted = convolution_pass(_config(), torch.device("cpu"))
    assert counted == _convolution_flops(backward_of_first=True)
    # The embedding of the noise level is the rest: small.
    extra = step_flops(_config()) - _convolution_flops(backward_of_first=False)
    assert 0 < extra < 0.01 * counted


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_our_step_trains_as_configured(precision, expected):
    from accelerate import Accelerator

    config = _config(f"run.precision={precision}", "run.log_every=2")
    step, network = our_step(config, Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", cpu=True))
    assert _seen(network, step) == {expected}
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert network.stem.weight.dtype == torch.float32
    _changes(network, step)


def test_plain_step_is_the_one_with_the_defaults():
    torch.manual_seed(0)
    step, network = plain_step(_config(), torch.device("cpu"))
    assert _seen(network, step) == {torch.float32}
    assert network.stem.weight.is_contiguous()
    _changes(network, step)
    # An untrained network predicts no noise; noise that is known is learned.
    losses = [step() for _ in range(1000)]
    assert sum(losses[-100:]) < 0.9 * sum(losses[:100])


def _seen(network, step):
    """Types of what the convolutions return."""
    seen = set()
    hooks = [
        module.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
        for module in network.modules() if isinstance(module, nn.Conv2d)
    ]  # fmt: skip
    step()
    for hook in hooks:
        hook.remove()
    return seen


def _changes(network, step):
    before = network.head.weight.detach().clone()
    step()
    assert not torch.equal(before, network.head.weight) and torch.isfinite(network.head.weight).all()


def test_report_holds_together(tmp_path, capsys):
    out = tmp_path / "throughput.json"
    file = tmp_path / "tiny.yaml"
    file.write_text("optim: {batch: 4}\n")
    assert throughput.main([str(file), *TINY[2:], "--rounds", "3", "--steps", "1", "-o", str(out)]) == 0
    report = json.loads(out.read_text())
    ours, plain = (report["patches_per_s"][name]["rounds"] for name in ("ours", "plain"))
    assert len(ours) == len(plain) == 3 and min(ours + plain) > 0
    ratios = sorted(mine / its for mine, its in zip(ours, plain, strict=True))
    assert [report["speed_ratio"][key] for key in ("lowest", "median", "highest")] == pytest.approx(ratios)
    rates = report["gflop_per_s"]
    assert rates["step"] == pytest.approx(report["gflop_per_patch"] * report["patches_per_s"]["ours"]["median"])
    assert report["share_of_convolution_rate"] == pytest.approx(rates["step"] / rates["bf16_convolutions"])
    assert report["settings"]["network"]["channels"] == [8, 16]
    printed = capsys.readouterr().out
    assert f"| ratio | {ratios[1]:.2f} " in printed and "batch 4" in printed
    parameters = sum(p.numel() for p in ScoreNetwork(channels=(8, 16), blocks=1, embedding=16).parameters())
    assert report["gflop_per_patch"] * 1e9 > 2 * parameters


def test_errors_are_one_line(tmp_path, capsys):
    assert throughput.main([str(tmp_path / "none.yaml")]) == 2
    file = tmp_path / "tiny.yaml"
    file.write_text("optim: {batch: 0}\n")
    assert throughput.main([str(file)]) == 2
    messages = capsys.readouterr().err.strip().splitlines()
    assert len(messages) == 2 and all(m.startswith("train/throughput.py: ") for m in messages)
    with pytest.raises(SystemExit) as exit_:
        throughput.main([str(file), "--rounds", "0"])
    assert exit_.value.code == 2


def test_files_that_are_no_reports_are_kept(tmp_path, capsys):
    report, other, config = (tmp_path / name for name in ("report.json", "other.json", "tiny.yaml"))
    config.write_text("optim: {batch: 4}\n")
    report.write_text('{"patches_per_s": {}}')
    other.write_text('{"optim": 3}')
    (tmp_path / "text").write_text("mine")
    throughput.check_output(report)
    throughput.check_output(tmp_path / "new.json")
    for file in (other, tmp_path / "text"):
        before = file.read_text()
        assert throughput.main([str(config), *TINY[2:], "-o", str(file)]) == 1
        assert f"{file}: expected no file or an earlier report, got another file" in capsys.readouterr().err
        assert file.read_text() == before
    assert throughput.main([str(config), *TINY[2:], "-o", str(tmp_path / "no" / "such.json")]) == 1
    assert "expected a folder that can be written to" in capsys.readouterr().err
