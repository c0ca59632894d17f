"""Other objectives, and other ways to compute the same steps."""

import pytest
import torch
from training_runs import assert_same_run, log_lines, rewind, settings, weights

from diffusion import DenoisingScoreMatching, EDMWeighting, NoiseLevels, ScoreNetwork
from photos import find_photos
from train import score
from train.data_config import DataConfig
from train.loss_by_noise import LOSS_BINS
from train.sharp_photos import SharpPatches, StepSampler


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """A run with the default objective, in the plain way."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert score.main(settings(photos, folder)) == 0
    return folder


def _losses(folder):
    return [line["loss"] for line in log_lines(folder) if "loss" in line]


def test_gradient_checkpointing_trains_the_same(whole, photos, tmp_path, monkeypatch):
    from torch.utils import checkpoint

    recomputed, plain = [], checkpoint.checkpoint

    def counting(*arguments, **options):
        recomputed.append(1)
        return plain(*arguments, **options)

    monkeypatch.setattr(checkpoint, "checkpoint", counting)
    assert score.main(settings(photos, tmp_path / "run", "run.gradient_checkpointing=true")) == 0
    # Three levels of one block, in each of eight steps.
    assert len(recomputed) == 8 * 3
    assert _losses(tmp_path / "run") == pytest.approx(_losses(whole), rel=1e-5)
    ours, theirs = weights(tmp_path / "run", 8), weights(whole, 8)
    for name in theirs:
        if name.startswith("weights"):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-5)


def test_learned_uncertainty_is_trained_and_kept_and_not_exported(whole, photos, tmp_path):
    run = tmp_path / "run"
    assert score.main(settings(photos, run, "objective.weighting=uncertainty", "run.log_every=1")) == 0
    ours, theirs = weights(run, 8), weights(whole, 8)
    learned = {name for name in ours if name.startswith("weights.uncertainty")}
    assert {"weights.uncertainty.weight", "weights.uncertainty.bias"} < learned
    assert ours["weights.uncertainty.bias"].abs() > 0
    # It is neither averaged nor exported; the network is trained otherwise with it.
    assert [n for n in ours if n.startswith("average")] == [n for n in theirs if n.startswith("average")]
    assert not torch.equal(ours["weights.network.head.weight"], theirs["weights.network.head.weight"])
    # At first u = 0, which is the plain loss.
    plain = tmp_path / "plain"
    assert score.main(settings(photos, plain, "optim.steps=1")) == 0
    assert _losses(run)[0] == pytest.approx(_losses(plain)[0], rel=1e-6)


@pytest.mark.parametrize("sde", ["ve", "vp", "sub-vp"])
def test_likelihood_is_an_objective(photos, tmp_path, sde):
    options = ["objective.weighting=likelihood", f"objective.sde={sde}", "optim.steps=2"]
    assert score.main(settings(photos, tmp_path / "run", *options)) == 0
    losses = _losses(tmp_path / "run")
    assert all(0 < loss < 10 for loss in losses)


@pytest.mark.parametrize("weighting", ["edm", "uncertainty", "likelihood"])
def test_losses_by_noise_level_can_be_compared_whatever_is_learned(photos, tmp_path, weighting):
    options = [f"objective.weighting={weighting}", "optim.steps=1", "optim.batch=48"]
    assert score.main(settings(photos, tmp_path / "run", *options)) == 0
    losses = {key: value for line in log_lines(tmp_path / "run") for key, value in line.items() if key in LOSS_BINS}
    assert losses.keys() == set(LOSS_BINS)
    # An untrained network estimates c_skip x_t: its weighted error is variance of the photos / sigma_data^2 where noise
    # hides the photo and 1 where it does not; the blocks have uniform values, of variance 1 / 3 in [-1, 1] units.
    assert all(0.6 < loss < 2 for loss in losses.values()), losses


def test_a_run_by_likelihood_resumes_bitwise_between_lines_of_the_log(photos, tmp_path):
    command = ("objective.weighting=likelihood", "run.keep=9")
    assert score.main(settings(photos, tmp_path / "whole", *command)) == 0
    rewind(tmp_path / "whole", tmp_path / "resumed", 3)
    assert score.main(settings(photos, tmp_path / "resumed", *command)) == 0
    assert_same_run(tmp_path / "resumed", tmp_path / "whole")


def test_objectives_that_do_not_fit_are_refused(photos, tmp_path, capsys):
    assert score.main(settings(photos, tmp_path / "run", "objective.sde=vp")) == 2
    assert "belong to objective.weighting=likelihood" in capsys.readouterr().err
    options = ["objective.weighting=likelihood", "objective.sde=vp", "noise.sigma_max=999"]
    for mode in ([], ["--dry-run"]):
        assert score.main([*settings(photos, tmp_path / "run", *options), *mode]) == 2
        assert "noise.sigma_max must be at most 152.2, where the SDE ends, got 999" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_strata_of_the_noise_levels_are_shared_by_processes(photos):
    batch, world, levels = 8, 2, NoiseLevels()
    patches = SharpPatches(find_photos(photos), DataConfig(root=str(photos), patch=16), 0, batch)
    dealt = [list(StepSampler(3, 4, batch, rank, world)) for rank in range(world)]
    shares = [levels(torch.stack([patches[number]["quantile"] for number in numbers])) for numbers in dealt]
    # One level in each interval of probability 1 / batch over both processes, every other one in each of them.
    strata = [(torch.special.ndtr((s.log() - levels.log_mean) / levels.log_std) * batch).floor() for s in shares]
    assert torch.equal(torch.cat(strata).sort().values, torch.arange(float(batch)))
    assert [share.sort().values.diff().unique().tolist() for share in strata] == [[2.0], [2.0]]


def test_compiled_network_has_the_same_loss_and_gradient():
    # Traced forwards and backwards as for any backend; this one needs no compiler.
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(8,), blocks=1, embedding=16).to(memory_format=torch.channels_last)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    x, noise = torch.randn(2, 2, 3, 16, 16)
    sigma = torch.tensor([0.05, 0.7])
    results = []
    for compiled in (False, True):
        objective = DenoisingScoreMatching(network, EDMWeighting(NoiseLevels(), 0.5))
        if compiled:
            objective.compile_network("aot_eager")
        network.zero_grad()
        loss, _ = objective(x, noise, sigma)
        loss.sum().backward()
        results.append([loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
        assert set(objective.state_dict()) == {f"network.{name}" for name in network.state_dict()}
    for plain, other in zip(*results, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4)
