"""Langevin corrections leave the marginal nearly alone and pull a wrong one towards it."""

import pytest
import torch
from oracles import GaussianDenoiser

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers.correctors import LangevinCorrector, SNRCorrector

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}
each_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
MEAN, VARIANCE = 0.3, 0.25


def _affine(corrector, sde, t):
    """Gain, offset and noise scale of a correction under the exact denoiser of a Gaussian prior, and marginal."""
    number = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)
    denoiser = GaussianDenoiser(sde, MEAN * number[0], VARIANCE * number[0])
    offset, at_one, noisy = (
        float(corrector(sde, x * number, denoiser(x * number, t), t, z * number)) for x, z in [(0, 0), (1, 0), (0, 1)]
    )
    marginal = denoiser.marginal(t)
    return at_one - offset, offset, noisy - offset, float(marginal.mean), float(marginal.variance)


@each_sde
@pytest.mark.parametrize("ratio", [0.05, 0.16, 0.4])
@pytest.mark.parametrize("sigma_ve", [0.05, 0.5, 3.0])
def test_stationary_bias_is_that_of_the_step(sde, ratio, sigma_ve):
    t = sde.time_of(torch.tensor(sigma_ve, dtype=torch.float64))
    gain, offset, scale, mean, variance = _affine(LangevinCorrector(ratio), sde, t)
    step = 2 * (ratio * float(sde.marginal(t)[1])) ** 2
    # x + e score + sqrt(2 e) z of a Gaussian: gain 1 - e / C; stationary variance C / (1 - e / 2C).
    assert gain == pytest.approx(1 - step / variance, rel=1e-9)
    assert offset / (1 - gain) == pytest.approx(mean, rel=1e-7)
    assert scale**2 / (1 - gain**2) == pytest.approx(variance / (1 - step / (2 * variance)), rel=1e-7)
    # So that one correction of the marginal changes its variance in second order only.
    assert gain**2 * variance + scale**2 == pytest.approx(variance * (1 + (step / variance) ** 2), rel=1e-9)


@each_sde
def test_corrections_repair_a_wrong_state(sde):
    t = sde.time_of(torch.tensor(0.4, dtype=torch.float64))
    gain, offset, scale, mean, variance = _affine(LangevinCorrector(0.3), sde, t)
    state_mean, state_variance = mean + 0.5, 2 * variance
    for _ in range(60):
        state_mean, state_variance = gain * state_mean + offset, gain**2 * state_variance + scale**2
    assert state_mean == pytest.approx(mean, abs=0.01)
    assert state_variance == pytest.approx(variance, rel=0.1)


@each_sde
def test_step_follows_the_noise_level_alone(sde):
    # The distance a correction moves by chance is 2 q sigma, at any noise level and for any estimate.
    corrector = LangevinCorrector(0.16)
    zeros, ones = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    for sigma_ve in (0.02, 0.3, 2.0):
        t = sde.time_of(torch.tensor(sigma_ve))
        alpha, sigma = sde.marginal(t)
        for estimate in (zeros, ones):
            moved = corrector(sde, alpha * estimate, estimate, t, ones) - alpha * estimate
            torch.testing.assert_close(moved, 2 * 0.16 * sigma * ones, rtol=1e-4, atol=1e-6)


@each_sde
def test_signal_to_noise_is_the_ratio_of_the_norms_of_each_photo(sde):
    # Song et al., algorithm 4, photo by photo.
    t = sde.time_of(torch.tensor(0.3))
    alpha, sigma = sde.marginal(t)
    x_t, estimate, noise = torch.randn(3, 3, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    estimate = estimate * torch.tensor([1.0, 10.0, 0.1])[:, None, None, None]
    corrector = SNRCorrector(0.16)
    pulled = corrector(sde, x_t, estimate, t, noise) - x_t
    score = (alpha * estimate - x_t) / sigma**2
    for index in range(3):
        step = 2 * (0.16 * noise[index].norm() / score[index].norm()) ** 2
        torch.testing.assert_close(pulled[index], step * score[index] + (2 * step).sqrt() * noise[index])
    # For the score of the state's own noise it is the step of `LangevinCorrector`.
    x_0, z = torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    moved = [c(sde, sde.add_noise(x_0, z, t), x_0, t, z) for c in (corrector, LangevinCorrector(0.16))]
    torch.testing.assert_close(*moved)


def test_without_a_score_the_state_stays():
    t = torch.tensor(0.5)
    x, z = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(SNRCorrector()(SDES["ve"], x, x, t, z), x)
