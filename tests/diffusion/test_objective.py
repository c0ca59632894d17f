"""Noise levels and the weighted denoising loss."""

import math

import pytest
import torch

from diffusion import NoiseLevels, ScoreNetwork, denoising_loss


def test_quantiles_become_log_normal_noise_levels():
    levels = NoiseLevels(log_mean=-2.0, log_std=1.2, sigma_min=1e-6, sigma_max=1e6)
    assert levels(torch.tensor([0.5]))[0] == pytest.approx(math.exp(-2.0))
    # One standard deviation up: the 84.13447 % quantile of a normal distribution.
    assert levels(torch.tensor([0.8413447]))[0] == pytest.approx(math.exp(-0.8), rel=1e-5)
    quantiles = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    logarithms = levels(quantiles).log()
    assert float(logarithms.mean()) == pytest.approx(-2.0, abs=1e-3)
    assert float(logarithms.std()) == pytest.approx(1.2, rel=2e-3)
    assert (logarithms.diff() > 0).all()


def test_noise_levels_stay_in_their_range():
    levels = NoiseLevels(sigma_min=0.05, sigma_max=0.5)
    extremes = levels(torch.tensor([0.0, 1e-7, 0.5, 1 - 1e-7, 1.0]))
    assert torch.equal(extremes[[0, 1, 3, 4]], torch.tensor([0.05, 0.05, 0.5, 0.5]))
    assert extremes[2] == pytest.approx(math.exp(-2.0))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"sigma_min": 0.0}, "sigma_min"), ({"sigma_max": 0.001}, "sigma_max"), ({"log_std": 0.0}, "log_std")],
)
def test_impossible_noise_levels_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        NoiseLevels(**options)


def _batch(count=3, std=0.5, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = std * torch.randn(count, 3, side, side, generator=generator)
    return x, torch.randn(x.shape, generator=generator)


def test_loss_of_a_perfect_denoiser_is_zero():
    x, noise = _batch()
    sigma = torch.tensor([0.01, 0.3, 2.0])
    loss = denoising_loss(lambda x_t, s: x_t - s[:, None, None, None] * noise, x, noise, sigma, 0.5)
    torch.testing.assert_close(loss, torch.zeros(3), atol=1e-8, rtol=0)


def test_loss_weighs_the_squared_error():
    x, noise = _batch()
    sigma = torch.tensor([0.01, 0.3, 2.0])
    # Of a denoiser that is wrong by 0.1 everywhere, and of one that answers black.
    wrong = denoising_loss(lambda x_t, s: x + 0.1, x, noise, sigma, 0.4)
    torch.testing.assert_close(wrong, 0.01 * (sigma**2 + 0.16) / (0.16 * sigma**2), rtol=1e-5, atol=0)
    black = denoising_loss(lambda x_t, s: torch.zeros_like(x), x, noise, sigma, 0.4)
    torch.testing.assert_close(black / wrong, x.square().mean((1, 2, 3)) / 0.01, rtol=1e-4, atol=0)


def test_network_sees_the_noisy_photo_and_its_level():
    x, noise = _batch()
    sigma = torch.tensor([0.01, 0.3, 2.0])
    seen = []
    denoising_loss(lambda x_t, s: seen.append((x_t, s)) or x_t, x, noise, sigma, 0.5)
    torch.testing.assert_close(seen[0][0], x + sigma[:, None, None, None] * noise)
    assert torch.equal(seen[0][1], sigma)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("sigma_data", [0.5, 0.3])
def test_untrained_network_starts_at_a_loss_of_one(sigma, sigma_data):
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(4, 8), blocks=1, embedding=16, sigma_data=sigma_data)
    x, noise = _batch(count=8, std=sigma_data, side=64)
    with torch.no_grad():
        loss = denoising_loss(network, x, noise, torch.full((8,), sigma), sigma_data).mean()
    # A mean of squares of normal numbers: its relative standard error is sqrt(2 / count).
    assert float(loss) == pytest.approx(1, abs=4 * (2 / x.numel()) ** 0.5)
