"""Predictors transport the marginal of a Gaussian prior, whose exact denoiser is linear.

A predictor is then x_s = gain x_t + offset + spread z, so that what it does to mean and variance can be
read from three evaluations and compared with closed forms, without sampling error.
"""

import math

import pytest
import torch
from oracles import GaussianDenoiser

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers.grids import karras_grid
from samplers.predictors import (
    AncestralPredictor,
    EulerMaruyamaPredictor,
    ProbabilityFlowPredictor,
    ReverseDiffusionPredictor,
    StillPredictor,
)  # fmt: skip

MEAN, VARIANCE = 0.3, 0.25
SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}
each_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())


def _scalar(value):
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def _moments_after(predictor, sde, t, s, mean, variance):
    """Mean and variance of x_s when x_t has the given ones."""
    denoiser = GaussianDenoiser(sde, _scalar(MEAN)[0], _scalar(VARIANCE)[0])

    x, z = torch.tensor([[0, 1, 0], [0, 0, 1]], dtype=torch.float64)[..., None, None, None]
    offset, at_one, noisy = predictor(sde, x, denoiser(x, t), t, s, z).flatten().tolist()
    gain, spread = at_one - offset, noisy - offset
    return gain * mean + offset, gain**2 * variance + spread**2


def _marginal(sde, t):
    alpha, sigma = (float(scale) for scale in sde.marginal(t))
    return alpha * MEAN, alpha**2 * VARIANCE + sigma**2


def _transport(predictor, sde, sigmas):
    """Mean and variance after a whole grid that starts from the exact marginal."""
    times = sde.time_of(torch.as_tensor(sigmas, dtype=torch.float64))
    moments = _marginal(sde, times[0])
    for t, s in zip(times[:-1], times[1:], strict=True):
        moments = _moments_after(predictor, sde, t, s, *moments)
    return moments, _marginal(sde, times[-1])


@each_sde
@pytest.mark.parametrize(("from_sigma", "to_sigma"), [(3.0, 1.0), (0.6, 0.5), (0.4, 0.01)])
def test_ancestral_step_lacks_the_posterior_variance_alone(sde, from_sigma, to_sigma):
    # Drawing x_s from p(x_s | x_t, x_0) with the mean of x_0 in its place keeps the mean, and loses the spread
    # (1 - k)^2 Var[x_0 | x_t] with k = (to / from)^2, in units where alpha_s = 1.
    times = sde.time_of(torch.tensor([from_sigma, to_sigma], dtype=torch.float64))
    mean, variance = _moments_after(AncestralPredictor(), sde, *times, *_marginal(sde, times[0]))
    exact_mean, exact_variance = _marginal(sde, times[1])
    alpha_s = float(sde.marginal(times[1])[0])
    share = 1 - (to_sigma / from_sigma) ** 2
    lost = alpha_s**2 * share**2 * VARIANCE * from_sigma**2 / (VARIANCE + from_sigma**2)
    assert mean == pytest.approx(exact_mean, rel=1e-9)
    assert variance == pytest.approx(exact_variance - lost, rel=1e-9)


@each_sde
def test_ancestral_step_is_exact_for_a_known_photo(sde):
    # With a prior of no variance the denoiser knows x_0, and one step is exact however long.
    t, s = sde.time_of(torch.tensor([3.0, 0.05], dtype=torch.float64))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((50000,), MEAN, dtype=torch.float64)
    z, noise = torch.randn(2, 50000, generator=generator, dtype=torch.float64)
    for renoise in (None, 0.0, 0.4, 1.0):
        x_s = AncestralPredictor(renoise)(sde, alpha_t * x_0 + sigma_t * z, x_0, t, s, noise)
        error = 4 * float(sigma_s) / math.sqrt(50000)
        assert float(x_s.mean()) == pytest.approx(float(alpha_s) * MEAN, abs=error)
        assert float(x_s.std()) == pytest.approx(float(sigma_s), rel=4 / math.sqrt(100000))


@each_sde
@pytest.mark.parametrize(
    "predictor",
    [
        AncestralPredictor(), AncestralPredictor(renoise=0.0), ReverseDiffusionPredictor(), EulerMaruyamaPredictor(),
        ProbabilityFlowPredictor(),
    ],
    ids=["ancestral", "ode", "reverse-diffusion", "euler-maruyama", "probability-flow"],
)  # fmt: skip
def test_converges_to_the_marginal_with_order_one(sde, predictor):
    errors = []
    for steps in (128, 256, 512):
        (mean, variance), (exact_mean, exact_variance) = _transport(predictor, sde, karras_grid(3.0, 0.05, steps + 1))
        errors.append(abs(variance - exact_variance) + abs(mean - exact_mean))
    orders = [math.log2(coarse / fine) for coarse, fine in zip(errors[:-1], errors[1:], strict=True)]
    assert orders == pytest.approx([1, 1], abs=0.2)
    assert errors[-1] < 0.02 * VARIANCE


@each_sde
def test_keeping_the_noise_is_the_ode(sde):
    # One infinitesimal step of dx = [f - g^2 score / 2] dt.
    denoiser = GaussianDenoiser(sde, _scalar(MEAN)[0], _scalar(VARIANCE)[0])
    t, x = torch.tensor(0.5, dtype=torch.float64), _scalar(0.8)
    slope = sde.drift(x, t) - sde.diffusion(t).square() * denoiser.score(x, t) / 2
    step = 1e-5
    noises = (_scalar(0.0), _scalar(5.0))
    for predictor in (AncestralPredictor(renoise=0.0), ProbabilityFlowPredictor()):
        results = [predictor(sde, x, denoiser(x, t), t, t - step, noise) for noise in noises]
        assert torch.equal(*results)
        assert float(results[0] - x) == pytest.approx(-step * float(slope), rel=1e-3)


@each_sde
@pytest.mark.parametrize("predictor", [AncestralPredictor(), ReverseDiffusionPredictor(), EulerMaruyamaPredictor()])
def test_small_steps_are_those_of_the_reverse_sde(sde, predictor):
    # dx = [f - g^2 score] dt + g dw, backwards.
    denoiser = GaussianDenoiser(sde, _scalar(MEAN)[0], _scalar(VARIANCE)[0])
    t, x, step = torch.tensor(0.5, dtype=torch.float64), _scalar(0.8), 1e-5
    slope = sde.drift(x, t) - sde.diffusion(t).square() * denoiser.score(x, t)
    still, moved = (predictor(sde, x, denoiser(x, t), t, t - step, _scalar(z)) for z in (0.0, 1.0))
    assert float(still - x) == pytest.approx(-step * float(slope), rel=1e-3)
    assert float(moved - still) == pytest.approx(float(sde.diffusion(t)) * math.sqrt(step), rel=1e-3)


@each_sde
def test_reverse_diffusion_is_the_forward_step_reversed(sde):
    # Song et al., appendix E: of the forward step x_t = a x_s + b z, the reverse (2 - a) x_t + b^2 score + b z.
    t, s = sde.time_of(torch.tensor([1.0, 0.4], dtype=torch.float64))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
    a = alpha_t / alpha_s
    b = (sigma_t**2 - a**2 * sigma_s**2).sqrt()
    x_t, estimate, noise = torch.randn(3, 1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 2 * x_t - a * x_t + b**2 * (alpha_t * estimate - x_t) / sigma_t**2 + b * noise
    torch.testing.assert_close(ReverseDiffusionPredictor()(sde, x_t, estimate, t, s, noise), expected)


def test_renewing_all_noise_forgets_the_state():
    sde = SDES["vp"]
    t, s = torch.tensor(0.6), torch.tensor(0.4)
    estimate, noise = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    predictor = AncestralPredictor(renoise=1.0)
    states = [predictor(sde, x, estimate, t, s, noise) for x in (estimate, 3 * estimate)]
    torch.testing.assert_close(*states)
    torch.testing.assert_close(states[0], sde.add_noise(estimate, noise, s))


@each_sde
def test_the_still_predictor_keeps_the_rescaled_state(sde):
    t, s = sde.time_of(torch.tensor([1.0, 0.4], dtype=torch.float64))
    x_t, estimate, noise = torch.randn(3, 1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_s = StillPredictor()(sde, x_t, estimate, t, s, noise)
    torch.testing.assert_close(x_s / sde.marginal(s)[0], x_t / sde.marginal(t)[0])
