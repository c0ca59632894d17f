"""The sampler draws from the closed-form posterior of a Gaussian prior and a linear blur."""

import pytest
import torch
from oracles import GaussianDenoiser, linear_posterior, smooth_covariance

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers.correctors import LangevinCorrector
from samplers.grids import karras_grid
from samplers.predictor_corrector import PredictorCorrectorSampler, count_evaluations, start_state
from samplers.predictors import AncestralPredictor, ReverseDiffusionPredictor
from samplers.settings import SamplerSettings

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}
SIZE, NOISE_STD, COUNT = 8, 0.1, 5000


@pytest.fixture(scope="module")
def posterior():
    """Mean and covariance of eight pixels in a row, seen through a box blur of three and noise."""
    mean = torch.linspace(-0.4, 0.6, SIZE, dtype=torch.float64).reshape(1, 1, SIZE)
    covariance = smooth_covariance(1, SIZE, std=0.5, length=2.0)
    blur = sum(torch.diag(torch.full((SIZE - abs(k),), 1 / 3, dtype=torch.float64), k) for k in (-1, 0, 1))
    x_0 = torch.distributions.MultivariateNormal(mean.flatten(), covariance)
    torch.manual_seed(5)
    y = blur @ x_0.sample() + NOISE_STD * torch.randn(SIZE, dtype=torch.float64)
    return linear_posterior(mean, covariance, blur, y, torch.tensor(NOISE_STD**2))


def _assert_drawn_from(samples, mean, covariance):
    """Moments within Monte-Carlo error (4.5 standard errors, over 8 + 64 figures) and 2 % of discretisation."""
    samples = samples.flatten(1)
    std = covariance.diagonal().sqrt()
    mean_error = (samples.mean(0) - mean.flatten()).abs() / std
    assert float(mean_error.max()) < 4.5 / COUNT**0.5 + 0.02
    # The variance of a sample covariance is (C_ii C_jj + C_ij^2) / count.
    scale = torch.sqrt(std[:, None] ** 2 * std**2 + covariance.square())
    covariance_error = (samples.T.cov() - covariance).abs() / scale
    assert float(covariance_error.max()) < 4.5 / COUNT**0.5 + 0.02


@pytest.mark.parametrize("corrector", [None, LangevinCorrector(ratio=0.1)], ids=["alone", "corrected"])
@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
@pytest.mark.parametrize(
    "predictor",
    [AncestralPredictor(), ReverseDiffusionPredictor(), AncestralPredictor(renoise=0.0)],
    ids=["ancestral", "reverse-diffusion", "ode"],
)
def test_samples_the_posterior_from_noise(posterior, sde, predictor, corrector):
    mean, covariance = posterior
    denoiser = GaussianDenoiser(sde, mean, covariance)
    sampler = PredictorCorrectorSampler(karras_grid(40.0, 0.003, 200), predictor, corrector)
    generator = torch.Generator().manual_seed(0)
    x_t = start_state(sde, torch.zeros(COUNT, 1, 1, SIZE, dtype=torch.float64), sampler.sigmas[0], generator)
    _assert_drawn_from(sampler(denoiser, x_t, generator=generator), mean, covariance)


def test_corrections_repair_a_coarse_grid(posterior):
    mean, covariance = posterior
    denoiser = GaussianDenoiser(SDES["ve"], mean, covariance)
    errors = []
    for corrector in (None, LangevinCorrector(ratio=0.35)):
        sampler = PredictorCorrectorSampler(karras_grid(40.0, 0.02, 12), AncestralPredictor(), corrector)
        generator = torch.Generator().manual_seed(1)
        x_t = start_state(denoiser.sde, torch.zeros(4000, 1, 1, SIZE).double(), sampler.sigmas[0], generator)
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
