"""Noise levels of training and what each of them counts."""

import math

import pytest
import torch

from diffusion import (
    VESDE,
    VPSDE,
    EDMWeighting,
    LikelihoodWeighting,
    NoiseLevels,
    ObjectiveConfig,
    ScoreDenoiser,
    SubVPSDE,
    denoising_error,
    weighting_of,
)

SDES = [VESDE(0.002, 3.0), VPSDE(), SubVPSDE()]
QUANTILES = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000


def test_quantiles_become_log_normal_noise_levels():
    levels = NoiseLevels(log_mean=-2.0, log_std=1.2, sigma_min=1e-6, sigma_max=1e6)
    assert levels(torch.tensor([0.5]))[0] == pytest.approx(math.exp(-2.0))
    # One standard deviation up: the 84.13447 % quantile of a normal distribution.
    assert levels(torch.tensor([0.8413447]))[0] == pytest.approx(math.exp(-0.8), rel=1e-5)
    logarithms = levels(QUANTILES).log()
    assert float(logarithms.mean()) == pytest.approx(-2.0, abs=1e-3)
    assert float(logarithms.std()) == pytest.approx(1.2, rel=2e-3)
    assert (logarithms.diff() > 0).all()
    assert torch.equal(EDMWeighting(levels, 0.5).noise_level(QUANTILES), levels(QUANTILES))


def test_noise_levels_stay_in_their_range():
    levels = NoiseLevels(sigma_min=0.05, sigma_max=0.5)
    extremes = levels(torch.tensor([0.0, 1e-7, 0.5, 1 - 1e-7, 1.0]))
    assert torch.equal(extremes[[0, 1, 3, 4]], torch.tensor([0.05, 0.05, 0.5, 0.5]))
    assert extremes[2] == pytest.approx(math.exp(-2.0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sigma_min": 0.0}, "sigma_min"), ({"sigma_max": 0.001}, "sigma_max"), ({"sigma_max": math.inf}, "sigma_max"),
        ({"log_std": 0.0}, "log_std"), ({"log_std": math.nan}, "log_std"), ({"log_mean": -math.inf}, "log_mean"),
    ],  # fmt: skip
)
def test_impossible_noise_levels_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        NoiseLevels(**options)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.7, 2.9])
def test_likelihood_weighs_the_score_error_with_the_squared_diffusion(sde, sigma):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 3, 3, 8, 8, dtype=torch.float64, generator=generator)
    network = lambda x_t, s: 0.8 * x_t + 0.1 * s.reshape(-1, *[1] * (x_t.dim() - 1))  # noqa: E731
    level = torch.full((3,), sigma, dtype=torch.float64)
    weighting = LikelihoodWeighting(sde, 0.002, 3.0, importance=False)
    ours = weighting.normaliser * weighting.weight(level) * denoising_error(network, x, noise, level)
    # Independently, on the SDE's own state: the score of x_t given x_0 is -z / sigma(t).
    t = sde.time_of(level[0])
    error = ScoreDenoiser(network, sde).score(sde.add_noise(x, noise, t), t) + noise / sde.marginal(t)[1]
    torch.testing.assert_close(ours, sde.diffusion(t).square() * error.square().mean((1, 2, 3)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
def test_uniform_times_are_uniform_times_of_the_sde(sde):
    weighting = LikelihoodWeighting(sde, 0.01, 2.0, importance=False)
    t = sde.time_of(weighting.noise_level(QUANTILES).double())
    torch.testing.assert_close(t, t[0] + (t[-1] - t[0]) * (QUANTILES - QUANTILES[0]) / (QUANTILES[-1] - QUANTILES[0]),
                               rtol=1e-5, atol=1e-6)  # fmt: skip
    assert float(sde.sigma_ve(t[0])) >= 0.01 and float(sde.sigma_ve(t[-1])) <= 2.0


@pytest.mark.parametrize("importance", [True, False])
@pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
def test_likelihood_objective_is_the_divergence_of_the_prior(sde, importance):
    """Photos N(0, 0.5^2), a prior N(0, 0.3^2) with its exact denoiser: both diverge by a known amount."""
    low, high = 0.05, 2.5
    weighting = LikelihoodWeighting(sde, low, high, importance)
    quantile = (torch.arange(200000, dtype=torch.float64) + 0.5) / 200000
    sigma = weighting.noise_level(quantile).double()

    def gain(std):
        return std**2 / (std**2 + sigma**2)

    # E |D - x_0|^2 of a linear denoiser, less that of the best one.
    excess = 0.5**2 * (gain(0.3) - gain(0.5)) ** 2 + sigma**2 * (gain(0.3) - gain(0.5)) ** 2
    objective = float((weighting.weight(sigma) * excess).mean()) * math.log(high / low)

    def divergence(level):
        ratio = (0.5**2 + level**2) / (0.3**2 + level**2)
        return 0.5 * (ratio - 1 - math.log(ratio))

    assert objective == pytest.approx(divergence(low) - divergence(high), rel=2e-3)


def test_importance_lowers_the_variance_of_the_weights():
    error = lambda sigma: 0.25 * sigma**2 / (0.25 + sigma**2)  # noqa: E731
    spread = []
    for importance in (True, False):
        weighting = LikelihoodWeighting(VPSDE(), 0.002, 3.0, importance)
        sigma = weighting.noise_level(QUANTILES).double()
        spread.append(float((weighting.weight(sigma) * error(sigma)).std()))
    assert spread[0] < spread[1] / 5


def test_settings_choose_the_weighting():
    noise = NoiseLevels(sigma_min=0.01, sigma_max=2.0)
    assert weighting_of(ObjectiveConfig(), noise, 0.4) == EDMWeighting(noise, 0.4)
    assert weighting_of(ObjectiveConfig("uncertainty"), noise, 0.4) == EDMWeighting(noise, 0.4)
    for name, kind in (("ve", VESDE), ("vp", VPSDE), ("sub-vp", SubVPSDE)):
        chosen = weighting_of(ObjectiveConfig("likelihood", name, "uniform"), noise, 0.4)
        assert type(chosen.sde) is kind and not chosen.importance
        sigma = chosen.noise_level(QUANTILES)
        assert float(sigma.min()) == pytest.approx(0.01, rel=0.1) and float(sigma.max()) == pytest.approx(2.0, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"weighting": "snr"}, "objective.weighting must be one of edm, uncertainty, likelihood, got snr"),
        ({"weighting": "likelihood", "sde": "cosine"}, "objective.sde"),
        ({"weighting": "likelihood", "times": "log"}, "objective.times"),
        ({"sde": "vp"}, "belong to objective.weighting=likelihood, got edm"),
    ],
)
def test_impossible_objectives_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        ObjectiveConfig(**options)


def test_noise_beyond_the_end_of_the_sde_is_refused():
    with pytest.raises(ValueError, match=r"sigma_max must be at most 152\.\d, where the SDE ends, got 200"):
        LikelihoodWeighting(VPSDE(), 0.002, 200.0)
