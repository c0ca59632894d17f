"""Training of a conditioning: what learns, the loss, resumed bit for bit, exported whole, errors in one line."""

import shutil

import pytest
import torch
from command_line import files
from safetensors.torch import load_file
from training_runs import PROJECT, assert_same_run, checkpoint, log_lines, rewind

from diffusion import VESDE, EDMWeighting, NoiseLevels, ScoreNetwork
from diffusion.latent_prior import LatentFiLM, SwinDiff
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import load_conditioning
from train.conditioned_matching import ConditionedScoreMatching
from train.conditioning import main
from train.simulated_pairs import CropConfig, NoisyParts, PairedParts

SMOKE = str(PROJECT / "configs" / "conditioning" / "smoke.yaml")
PRIOR = {"channels": (32, 32), "blocks": (1, 1), "windows": (0, 4), "latent": 8, "encoder": 8, "steps": 2}


def _networks(stage=2):
    """Small networks of random parameters, as half precision can hold them."""
    torch.manual_seed(0)
    networks = ScoreNetwork(channels=(8, 8), blocks=1, embedding=8), SwinDiff(**PRIOR, stage=stage)
    for network in networks:
        for parameter in network.parameters():
            parameter.data = (parameter + 0.05 * torch.randn(parameter.shape)).half().float()
    return networks


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A saved pipeline to condition; not to be changed."""
    network, prior = _networks()
    folder = tmp_path_factory.mktemp("weights") / "old"
    DefocusDeblurPipeline(network, VESDE(), latent_prior=prior).save_pretrained(folder)
    return folder


def _settings(photos, weights, folder, *overrides):
    """The command line of a run of eight steps with checkpoints at steps 3, 6 and 8; later overrides win."""
    return [
        SMOKE, f"data.root={photos}", f"score={weights}", f"latent_prior={weights}", f"run.dir={folder}",
        "data.patch=24", "crops.first=[16]", "simulation.side=24", "simulation.captures=6", "simulation.reuse=4",
        "simulation.largest_radius=1.5", "data.min_contrast=0", "data.max_smoothness=null",
        "simulation.block_smoothness=null", "optim.batch=4", "optim.steps=8", "optim.warmup=2", "run.log_every=2",
        "run.save_every=3", "run.probe_every=4", "run.panel_every=100", "probes=2", *overrides,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(photos, weights, tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(_settings(photos, weights, folder, f"pipeline={weights}")) == 0
    return folder


def test_a_resumed_run_ends_with_the_same_bits(run, photos, weights, tmp_path):
    copy = tmp_path / "copy"
    rewind(run, copy, 6)
    shutil.rmtree(copy / "captures")
    assert main(_settings(photos, weights, copy)) == 0
    assert_same_run(run, copy)
    # Completing no pipeline, it is exported alone, with the same weights.
    name = "conditioning/diffusion_pytorch_model.safetensors"
    assert files(copy / "export") == ["SHA256SUMS", "conditioning", "conditioning/config.json", name]
    assert (copy / "export" / name).read_bytes() == (run / "export" / name).read_bytes()


def test_the_conditioning_alone_learns_and_is_kept(run, weights):
    old, new = (DefocusDeblurPipeline.from_pretrained(folder) for folder in (weights, run / "export"))
    for part in ("score_network", "latent_prior"):
        ours, theirs = (getattr(pipeline, part).state_dict() for pipeline in (new, old))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    learned = load_file(checkpoint(run, 8) / "model.safetensors")
    fresh = LatentFiLM.between(new.latent_prior, new.score_network, 16).state_dict()
    assert learned.keys() == {f"conditioning.{name}" for name in fresh}
    assert all(learned[f"conditioning.heads.{block}.weight"].any() for block in range(3))
    # What is exported is the average, in half precision.
    averages = torch.load(checkpoint(run, 8) / "custom_checkpoint_1.pkl", weights_only=False)["averages"]
    for ours, average in zip(load_conditioning(run / "export").parameters(), averages[0], strict=True):
        assert torch.equal(ours, average.half().float())


def test_the_log_says_what_it_is_worth(run, weights):
    probes = [line for line in log_lines(run) if "conditioning_gain/0.1" in line]
    assert [line["step"] for line in probes] == [4, 8]
    plain = [{key: line[key] for key in line if key.startswith("denoising_psnr")} for line in probes]
    assert plain[0] == plain[1] and len(plain[0]) == 6
    gains = [line[f"conditioning_gain{kind}/0.4"] for line in probes for kind in ("", "_other")]
    assert all(gains) and len(set(gains)) == 4
    assert [file.name for file in (run / "panels").iterdir()] == ["denoising_00000008.png"]


def test_the_gradient_is_that_of_the_weighted_error_and_reaches_nothing_else():
    network, prior = _networks()
    film = LatentFiLM.between(prior, network, 8)
    weighting = EDMWeighting(NoiseLevels(), sigma_data=0.5)
    objective = ConditionedScoreMatching(film, network, weighting)
    assert {*objective.parameters()} == {*film.parameters()}
    x, noise = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    sigma, tokens = torch.tensor([0.05, 0.5]), torch.randn(2, 16, 8)
    losses = objective(x, tokens, noise, sigma)
    estimate = network(x + sigma[:, None, None, None] * noise, sigma, film(tokens))
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    torch.testing.assert_close(losses, weight * (estimate - x).square().mean((1, 2, 3)))
    losses.mean().backward()
    assert all(head.weight.grad.any() for head in film.heads)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_parts_have_their_noise_by_their_number():
    class Twins:
        def draw(self, sample, rng):
            picture = rng.integers(0, 256, (3, 24, 24)).astype("uint8")
            return picture, picture

    class Data:
        patch, workers = 16, 0

    parts = PairedParts(Twins(), Data(), CropConfig(), steps=10, batch=4, prior_shape=(16, 8), dropout=0.0, seed=0)
    noisy = NoisyParts(parts)
    items = [noisy[number] for number in range(8)]
    again = noisy[5]
    assert all(torch.equal(tensor, again[name]) for name, tensor in items[5].items())
    spread = 127.5 * torch.stack([item["x"] - item["y"] for item in items])
    # Uniform over an interval of one code.
    assert spread.abs().max() <= 0.501 and float(spread.var()) == pytest.approx(1 / 12, rel=0.05)
    assert [int(4 * item["quantile"]) for item in items] == [0, 1, 2, 3] * 2
    noise = torch.stack([item["noise"] for item in items])
    assert float(noise.var()) == pytest.approx(1, rel=0.05) and float(noise[0].flatten() @ noise[1].flatten()) < 100


def test_other_settings_are_no_continuation(run, photos, weights, tmp_path, capsys):
    copy = tmp_path / "copy"
    rewind(run, copy, 6)
    assert main(_settings(photos, weights, copy, "width=8")) == 2
    assert "width was 16 and is now 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        ("score=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("latent_prior=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("latent_prior=STAGE1", 1, "conditioning: expected a latent_prior of stage 2"),
        ("pipeline=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("pipeline=OTHER", 1, "expected the score_network that is trained with, got another"),
        ("pipeline=WITHOUT", 1, "expected the latent_prior that is trained with, got none"),
        ("width=0", 2, "width must be at least 1, got 0"),
        ("probes=1", 2, "probes must be at least 2, got 1"),
        ("crops.first=[32]", 2, "simulation.side must be at least the largest crop, 32, got 24"),
        ("noise.sigma_max=0.001", 2, "sigma_min and sigma_max must satisfy"),
    ],
)
def test_mistakes_are_one_line(photos, weights, tmp_path, capsys, override, code, words):
    key, _, value = override.partition("=")
    network, prior = _networks(stage=1)
    other = ScoreNetwork(channels=(8, 8), blocks=1, embedding=8)
    made = {
        "STAGE1": lambda folder: prior.save_pretrained(folder / "latent_prior"),
        "OTHER": lambda folder: DefocusDeblurPipeline(other, VESDE()).save_pretrained(folder),
        "WITHOUT": lambda folder: DefocusDeblurPipeline(network, VESDE()).save_pretrained(folder),
    }
    if value in made:
        made[value](tmp_path / value)
        override = f"{key}={tmp_path / value}"
    assert main(_settings(photos, weights, tmp_path / "run", override)) == code
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and words in errors and errors.startswith("train/conditioning.py: ")
