"""Starting from saved weights: the same network, and one that grows."""

import json
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from training_runs import settings, weights

from diffusion import VESDE, ScoreNetwork
from samplers import DefocusDeblurPipeline
from train import score
from train.initial_weights import start_from


def _network(channels=(8, 12), blocks=1, seed=0, **options):
    """A network whose weights are all random, as if it had been trained."""
    torch.manual_seed(seed)
    return ScoreNetwork(channels=channels, blocks=blocks, embedding=16, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved pipeline with a network that seems trained, and that network."""
    folder, network = tmp_path_factory.mktemp("weights") / "pipeline", _network()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    DefocusDeblurPipeline(score_network=network, sde=VESDE()).save_pretrained(folder)
    return folder, network


@pytest.mark.parametrize("blocks", [1, 3, [1, 2], [4, 1]])
def test_growth_preserves_the_function(saved, blocks):
    folder, trained = saved
    grown = _network(blocks=blocks, seed=5)
    x = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sigma = torch.tensor([0.05, 0.8])
    with torch.no_grad():
        expected = trained(x, sigma)
        assert float((grown(x, sigma) - expected).abs().max()) > 0.01
        # The encoder and decoder of the fine level count twice.
        assert start_from(grown, folder) == sum(grown.depths) - 2
        torch.testing.assert_close(grown(x, sigma), expected, rtol=1e-6, atol=1e-6)
    # What is new learns: the zero convolution at once, what lies before it as soon as it is not zero.
    grown(x, sigma).square().mean().backward()
    for name, module in grown.named_modules():
        if name.endswith("conv_out"):
            assert module.weight.grad.abs().max() > 0, name


def test_network_folder_and_half_precision_are_read(saved, tmp_path):
    folder, trained = saved
    half = ScoreNetwork.from_config(trained.config)
    half.load_state_dict(trained.state_dict())
    half.half().save_pretrained(tmp_path / "half")
    for place, precision in ((folder / "score_network", 0), (tmp_path / "half", 1e-3)):
        network = _network(seed=3)
        assert start_from(network, place) == 0
        for ours, theirs in zip(network.parameters(), trained.parameters(), strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=precision, atol=precision * 1e-2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"channels": (8, 16)}, r"network.channels is \[8, 12\] there and \[8, 16\] here"),
        ({"channels": (8, 12, 16)}, "network.channels"),
        ({"sigma_data": 0.4}, "network.sigma_data is 0.5 there and 0.4 here"),
    ],
)
def test_other_networks_are_refused(saved, options, expected):
    with pytest.raises(ValueError, match=expected):
        start_from(_network(**options), saved[0])


def test_networks_do_not_shrink(saved, tmp_path):
    _network(blocks=[1, 3]).save_pretrained(tmp_path / "deep")
    with pytest.raises(ValueError, match=r"expected at most \[2, 2\] residual blocks of each level, got \[1, 3\]"):
        start_from(_network(blocks=2), tmp_path / "deep")


def test_folders_of_something_else_are_named(saved, tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected the folder of a saved pipeline"):
        start_from(_network(), tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected a saved score network, got none that loads"):
        start_from(_network(), tmp_path)
    broken = shutil.copytree(saved[0] / "score_network", tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    for change in ({"_class_name": "UNet2DModel"}, {"attention": True}, {"blocks": 2}):
        (broken / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match="broken: expected a saved score network"):
            start_from(_network(), broken)


def test_run_starts_from_weights_once(saved, photos, tmp_path, capsys):
    pipeline = shutil.copytree(saved[0], tmp_path / "pipeline")
    network = ["network.channels=[8,12]", "network.embedding=16", "network.blocks=2", f"init={pipeline}"]
    command = settings(photos, tmp_path / "run", *network, "optim.steps=2", "optim.lr=1e-9", "optim.weight_decay=0")
    assert score.main(command) == 0
    assert f"starting from {pipeline}, grown by 2 residual blocks" in capsys.readouterr().out
    tensors = weights(tmp_path / "run", 2)
    for name, parameter in saved[1].named_parameters():
        torch.testing.assert_close(tensors[f"weights.network.{name}"], parameter.detach(), rtol=0, atol=1e-6)
    # A run that goes on needs them no more.
    shutil.rmtree(pipeline)
    assert score.main(command) == 0
    assert "resuming" in capsys.readouterr().out


LEFT_OPEN = [f"network.{key}=null" for key in ("channels", "blocks", "embedding", "sigma_data")]


def test_a_network_left_open_is_that_of_the_weights(saved, photos, tmp_path, capsys):
    pipeline = shutil.copytree(saved[0], tmp_path / "pipeline")
    command = settings(photos, tmp_path / "run", *LEFT_OPEN, f"init={pipeline}", "optim.steps=2", "optim.lr=1e-9")
    assert score.main(command) == 0
    printed = capsys.readouterr().out
    assert f"starting from {pipeline}\n" in printed and "grown" not in printed
    for name, parameter in saved[1].named_parameters():
        found = weights(tmp_path / "run", 2)[f"weights.network.{name}"]
        torch.testing.assert_close(found, parameter.detach(), rtol=0, atol=1e-6)
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").network == {
        "channels": [8, 12], "blocks": 1, "embedding": 16, "sigma_data": 0.5
    }  # fmt: skip
    # The record of the run decides when it goes on; what is asked for is compared with it.
    shutil.rmtree(pipeline)
    assert score.main(command) == 0
    assert "resuming" in capsys.readouterr().out
    assert score.main([*command, "network.blocks=2"]) == 2
    assert "network.blocks was 1 and is now 2" in capsys.readouterr().err


def test_what_is_asked_for_wins_over_the_weights(saved, photos, tmp_path, capsys):
    command = settings(photos, tmp_path / "run", *LEFT_OPEN, f"init={saved[0]}", "network.blocks=2")
    assert score.main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "grown by 2 residual blocks" in printed and "blocks: 2" in printed and "- 12" in printed


def test_a_network_left_open_needs_weights(photos, tmp_path, capsys):
    assert score.main(settings(photos, tmp_path / "run", "network.embedding=null")) == 2
    assert "network.embedding must be given unless init names the weights" in capsys.readouterr().err
