"""Tiny training runs, and what is compared of them."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from train import score

PROJECT = Path(score.__file__).resolve().parent.parent
SMOKE = str(PROJECT / "configs" / "score" / "smoke.yaml")


def settings(photos, folder, *overrides):
    """The command line of a run of eight steps with checkpoints at steps 3, 6 and 8; later overrides win."""
    return [
        SMOKE, f"data.root={photos}", f"run.dir={folder}", "data.patch=16", "network.channels=[16,8]", "optim.batch=4",
        "optim.optimizer=adamw", "optim.lr=5e-4", "optim.steps=8", "optim.warmup=2", "run.log_every=2",
        "run.save_every=3", "run.panel_every=100", "run.probe_every=0", "run.samples=0", *overrides,
    ]  # fmt: skip


def checkpoint(folder, step):
    """The folder of a checkpoint."""
    return Path(folder) / "checkpoints" / f"step_{step:08d}"


def rewind(folder, copy, step):
    """Copies a run as it was just after a checkpoint, but for the log, which had gone on."""
    shutil.copytree(folder, copy)
    for other in (copy / "checkpoints").iterdir():
        if other != checkpoint(copy, step):
            shutil.rmtree(other)
    shutil.rmtree(copy / "export")


def log_lines(folder):
    """The log of a run without the figures that measure the machine, and differ between two runs of the same bits."""
    machine = ("patches_per_s", "memory_mib", "gpu_memory_mib")
    lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in machine} for line in lines]


def weights(folder, step):
    """Weights, averages and optimizer moments of a checkpoint, flat, by name; the first average is exported."""
    place = checkpoint(folder, step)
    tensors = {f"weights.{name}": tensor for name, tensor in load_file(place / "model.safetensors").items()}
    averages = torch.load(place / "custom_checkpoint_1.pkl", weights_only=False)["averages"]
    for length, average in enumerate(averages):
        tensors |= {f"average.{length}.{index}": tensor for index, tensor in enumerate(average)}
    saved = torch.load(place / "optimizer.bin", weights_only=False)
    for number, part in enumerate(saved.get("parts", [saved])):
        for index, state in part["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return tensors


def assert_same_run(one, other, step=8):
    """Two runs ended with the same bits: weights, averages, moments and log."""
    ours, theirs = weights(one, step), weights(other, step)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
    assert log_lines(one) == log_lines(other)
