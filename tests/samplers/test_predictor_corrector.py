"""The sampler draws from the closed-form posterior of a Gaussian prior and a linear blur."""

import math

import pytest
import torch
from oracles import GaussianDenoiser, assert_drawn_from, row_posterior

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers.correctors import LangevinCorrector, SNRCorrector
from samplers.grids import karras_grid
from samplers.predictor_corrector import PredictorCorrectorSampler, count_evaluations, start_state
from samplers.predictors import (
    AncestralPredictor,
    EulerMaruyamaPredictor,
    ProbabilityFlowPredictor,
    ReverseDiffusionPredictor,
    StillPredictor,
)  # fmt: skip
from samplers.settings import SamplerSettings

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}


@pytest.fixture(scope="module")
def posterior():
    """Mean and covariance of eight pixels in a row, seen through a box blur of three and noise."""
    return row_posterior()

def _draw(sampler, denoiser, mean, count=5000, seed=0):
    """Samples from noise alone."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(count, *mean.shape, dtype=torch.float64)
    x_t = start_state(denoiser.sde, start, sampler.sigmas[0], generator)
    return sampler(denoiser, x_t, generator=generator)


CORRECTED = LangevinCorrector(ratio=0.1)


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
@pytest.mark.parametrize(
    ("predictor", "corrector"),
    [
        (AncestralPredictor(), None), (AncestralPredictor(), CORRECTED), (ReverseDiffusionPredictor(), None),
        (ReverseDiffusionPredictor(), CORRECTED), (AncestralPredictor(renoise=0.0), None),
        (AncestralPredictor(renoise=0.0), CORRECTED), (ProbabilityFlowPredictor(), None),
        (EulerMaruyamaPredictor(), None),
    ],
    ids=[
        "ancestral", "ancestral-corrected", "reverse-diffusion", "reverse-diffusion-corrected", "ode", "ode-corrected",
        "probability-flow", "euler-maruyama",
    ],
)  # fmt: skip
def test_samples_the_posterior_from_noise(posterior, sde, predictor, corrector):
    mean, covariance = posterior
    sampler = PredictorCorrectorSampler(karras_grid(40.0, 0.003, 200), predictor, corrector)
    # Euler's method in time, without noise that would cover its traces, is the coarsest.
    discretisation = 0.13 if isinstance(predictor, ProbabilityFlowPredictor) else 0.02
    assert_drawn_from(_draw(sampler, GaussianDenoiser(sde, mean, covariance), mean), mean, covariance, discretisation)


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_corrections_by_signal_to_noise_keep_the_posterior(posterior, sde):
    # Over eight pixels the ratio of the norms, and with it the step, is chance; over many rows it is not.
    mean, covariance = posterior[0].repeat(1, 1, 12), torch.block_diag(*[posterior[1]] * 12)
    sampler = PredictorCorrectorSampler(karras_grid(40.0, 0.003, 120), corrector=SNRCorrector(ratio=0.1))
    samples = _draw(sampler, GaussianDenoiser(sde, mean, covariance), mean, count=250).reshape(-1, 1, 1, 8)
    assert_drawn_from(samples, *posterior)


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_annealed_langevin_dynamics_nears_the_posterior(posterior, sde):
    mean, covariance = posterior
    corrector = LangevinCorrector(ratio=0.3)
    sampler = PredictorCorrectorSampler(
        karras_grid(40.0, 0.01, 100, rho=20.0), StillPredictor(), corrector, corrections=8
    )
    assert sampler.evaluations == 100 + 8 * 99
    samples = _draw(sampler, GaussianDenoiser(sde, mean, covariance), mean, count=1000).flatten(1)
    torch.testing.assert_close(samples.mean(0), mean.flatten(), rtol=0, atol=0.03)
    # What corrections have not yet removed of the noise above leaves the variance too large.
    ratios = samples.T.cov().diagonal() / covariance.diagonal()
    assert 0.95 < float(ratios.min()) < float(ratios.max()) < 1.25


def test_corrections_repair_a_coarse_grid(posterior):
    mean, covariance = posterior
    denoiser = GaussianDenoiser(SDES["ve"], mean, covariance)
    errors = []
    for corrector in (None, LangevinCorrector(ratio=0.35)):
        sampler = PredictorCorrectorSampler(karras_grid(40.0, 0.02, 12), AncestralPredictor(), corrector)
        generator = torch.Generator().manual_seed(1)
        x_t = start_state(denoiser.sde, torch.zeros(4000, 1, 1, 8).double(), sampler.sigmas[0], generator)
        samples = sampler(denoiser, x_t, generator=generator).flatten(1)
        errors.append(float((samples.T.cov() - covariance).norm() / covariance.norm()))
    assert errors[1] < 0.9 * errors[0]


def _short_run(callback=None, seed=3, **options):
    sde = SDES["vp"]
    denoiser = GaussianDenoiser(sde, torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.25))
    sampler = PredictorCorrectorSampler(karras_grid(0.6, 0.02, 7), **options)
    generator = torch.Generator().manual_seed(seed)
    start = start_state(sde, torch.zeros(2, 3, 4, 4), sampler.sigmas[0], generator)
    return sampler, sampler(denoiser, start, generator=generator, callback=callback)


def test_extrapolation_makes_the_ancestral_ode_a_solver_of_order_two():
    variance, start = 0.25, 1.7
    denoiser = GaussianDenoiser(SDES["ve"], torch.zeros(1, 1, 1).double(), torch.full((1, 1, 1), variance).double())
    orders = []
    for extrapolate in (False, True):
        errors = []
        for steps in (64, 128):
            grid, seen = karras_grid(3.0, 0.05, steps + 1, rho=4.0).double(), []
            sampler = PredictorCorrectorSampler(grid, AncestralPredictor(renoise=0.0), extrapolate=extrapolate)
            sampler(denoiser, torch.full((1, 1, 1, 1), start).double(), callback=seen.append)
            exact = start * float(((variance + grid[-1] ** 2) / (variance + grid[0] ** 2)).sqrt())
            errors.append(abs(float(seen[-1].x_t) - exact))
        orders.append(math.log2(errors[0] / errors[1]))
    assert orders == pytest.approx([1, 2], abs=0.1)


def test_a_run_ends_where_the_estimate_stands_still(posterior):
    mean, covariance = posterior
    denoiser = GaussianDenoiser(SDES["vp"], mean, covariance)
    x_t = torch.ones(1, *mean.shape, dtype=torch.float64)
    grid, predictor = karras_grid(0.6, 0.002, 60), AncestralPredictor(renoise=0.0)
    seen, all_seen = [], []
    result = PredictorCorrectorSampler(grid, predictor, stop_change=2e-3)(denoiser, x_t, callback=seen.append)
    PredictorCorrectorSampler(grid, predictor)(denoiser, x_t, callback=all_seen.append)
    changes = [
        float((b.estimate - a.estimate).square().mean().sqrt())
        for a, b in zip(all_seen[:-1], all_seen[1:], strict=True)
    ]
    first = next(index for index, change in enumerate(changes) if change <= 2e-3)
    assert 0 < first < len(changes) - 1
    assert len(seen) == first + 2 and torch.equal(result, all_seen[first + 1].estimate)


class _Breaking(GaussianDenoiser):
    """A denoiser that fails at small noise."""

    def forward(self, x_t, t):
        return super().forward(x_t, t) / (0 if self.sde.sigma_ve(t) < 0.2 else 1)


def test_a_value_that_is_not_finite_stops_the_run():
    denoiser = _Breaking(SDES["ve"], torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    seen = []
    with pytest.raises(FloatingPointError, match="evaluation 4 of 5, at noise level 0.126: .*network"):
        PredictorCorrectorSampler(karras_grid(0.5, 0.001, 5, 1))(denoiser, torch.ones(1, 1, 2, 2), callback=seen.append)
    assert len(seen) == 3


def test_callback_sees_every_evaluation():
    steps = []
    sampler, result = _short_run(steps.append, corrector=LangevinCorrector(below=0.1))
    corrected = [float(s) for s in sampler.sigmas[1:] if s <= 0.1]
    assert 0 < len(corrected) < 6
    assert [step.index for step in steps] == list(range(1, 7 + len(corrected) + 1))
    assert {step.total for step in steps} == {7 + len(corrected)}
    assert torch.equal(result, steps[-1].estimate)
    assert steps[-1].sigma == pytest.approx(0.02)
    # Where a correction is made, its noise level is evaluated twice, at different states.
    seen = [step.sigma for step in steps]
    assert sorted(seen, reverse=True) == seen
    twice = [(a, b) for a, b in zip(steps[:-1], steps[1:], strict=True) if a.sigma == b.sigma]
    assert [a.sigma for a, _ in twice] == pytest.approx(corrected)
    assert all(not torch.equal(a.x_t, b.x_t) for a, b in twice)


@pytest.mark.parametrize(
    "settings",
    [
        SamplerSettings(), SamplerSettings(corrector=False), SamplerSettings(steps=2, corrector_below=3.0),
        SamplerSettings(steps=20, corrector_below=0.0), SamplerSettings(steps=5, predictor="reverse-diffusion"),
    ],
)  # fmt: skip
def test_evaluations_are_counted_before_they_are_done(settings):
    sampler, calls = settings.sampler(), []
    denoiser = GaussianDenoiser(SDES["ve"], torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    sampler(denoiser, torch.randn(1, 1, 2, 2), generator=torch.Generator(), callback=calls.append)
    assert settings.evaluations == len(calls) == count_evaluations(sampler.sigmas.tolist(), sampler.corrector)
    assert calls[0].total == len(calls)


@pytest.mark.parametrize(
    "options", [{}, {"corrector": LangevinCorrector()}, {"predictor": ReverseDiffusionPredictor()}]
)
def test_a_seed_fixes_the_result(options):
    (_, first), (_, again), (_, other) = (_short_run(seed=seed, **options) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_start_state_is_a_noised_photo():
    for sde in SDES.values():
        x = torch.full((1, 3, 100, 100), 0.4, dtype=torch.float64)
        x_t = start_state(sde, x, torch.tensor(0.3, dtype=torch.float64), torch.Generator().manual_seed(0))
        alpha, _ = sde.marginal(sde.time_of(torch.tensor(0.3, dtype=torch.float64)))
        assert float((x_t / alpha).mean()) == pytest.approx(0.4, abs=4 * 0.3 / 30000**0.5)
        assert float((x_t / alpha).std()) == pytest.approx(0.3, rel=4 / 60000**0.5)
