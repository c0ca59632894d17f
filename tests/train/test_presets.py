"""The presets: what their heads say, and that they fit one another and Accelerate."""

import re
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from training_runs import PROJECT

from diffusion import ScoreNetwork
from samplers.config import load_config
from train.config import ScoreConfig
from train.initial_weights import with_network_of_init

PRESETS = sorted((PROJECT / "configs" / "score").glob("*.yaml"))
MACHINES = sorted((PROJECT / "configs" / "accelerate").glob("*.yaml"))


def _network(preset, weights="small"):
    config = load_config(ScoreConfig, preset, ["data.root=photos", "run.dir=run", f"init=weights/{weights}"])
    config = with_network_of_init(config)
    with torch.device("meta"):
        return ScoreNetwork(**{key: getattr(config.network, key) for key in vars(config.network)})


def _head(file):
    return " ".join(line.strip("# \\") for line in file.read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_heads_say_how_to_launch_and_how_large_the_network_is(preset):
    head, network = _head(preset), _network(preset)
    assert f"train/score.py configs/score/{preset.name} data.root=" in head
    for count in re.findall(r"([\d,]+) parameters", head):
        assert int(count.replace(",", "")) == sum(parameter.numel() for parameter in network.parameters())
    for reach in re.findall(r"a pixel sees (\d+) pixels", head):
        assert int(reach) == network.receptive_field
    for file in re.findall(r"configs/\S+\.yaml", head):
        assert (PROJECT / file).is_file()


def test_shipped_sizes_stay_within_ten_million_bytes():
    # In half precision; names and shapes take some thousand bytes more.
    for name in ("small", "base"):
        network = _network(PROJECT / "configs" / "score" / f"{name}.yaml")
        assert 2 * sum(parameter.numel() for parameter in network.parameters()) < 9_900_000


def test_base_grows_from_small():
    small, base = (_network(PROJECT / "configs" / "score" / f"{name}.yaml") for name in ("small", "base"))
    ours, theirs = dict(base.named_parameters()), dict(small.named_parameters())
    assert theirs.keys() < ours.keys()
    assert all(ours[name].shape == tensor.shape for name, tensor in theirs.items())


@pytest.mark.parametrize("weights", ["small", "base"])
def test_any_shipped_weights_can_be_fine_tuned(weights):
    network = _network(PROJECT / "configs" / "score" / "finetune.yaml", weights)
    expected = _network(PROJECT / "configs" / "score" / f"{weights}.yaml")
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (network, expected)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda file: file.stem)
def test_accelerate_reads_its_configs(machine):
    config = load_config_from_file(str(machine))
    assert config.mixed_precision == "no" and config.num_processes >= config.num_machines
    assert f"configs/accelerate/{Path(machine).name}" in _head(machine)
