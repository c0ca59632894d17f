"""The denoising loss, plain and with a learned uncertainty."""

import pytest
import torch

from diffusion import DenoisingScoreMatching, EDMWeighting, NoiseLevels, ScoreNetwork, Uncertainty, denoising_error

SIGMA = torch.tensor([0.01, 0.3, 2.0])


def _objective(network, sigma_data=0.5, uncertainty=None):
    return DenoisingScoreMatching(network, EDMWeighting(NoiseLevels(), sigma_data), uncertainty)


def _batch(count=3, std=0.5, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = std * torch.randn(count, 3, side, side, generator=generator)
    return x, torch.randn(x.shape, generator=generator)


def test_error_of_a_perfect_denoiser_is_zero():
    x, noise = _batch()
    error = denoising_error(lambda x_t, s: x_t - s[:, None, None, None] * noise, x, noise, SIGMA)
    torch.testing.assert_close(error, torch.zeros(3), atol=1e-12, rtol=0)


def test_loss_weighs_the_squared_error():
    x, noise = _batch()
    # Of a denoiser that is wrong by 0.1 everywhere, and of one that answers black.
    wrong, error = _objective(lambda x_t, s: x + 0.1, 0.4)(x, noise, SIGMA)
    torch.testing.assert_close(wrong, 0.01 * (SIGMA**2 + 0.16) / (0.16 * SIGMA**2), rtol=1e-5, atol=0)
    torch.testing.assert_close(error, torch.full((3,), 0.01), rtol=1e-4, atol=0)
    black, _ = _objective(lambda x_t, s: torch.zeros_like(x), 0.4)(x, noise, SIGMA)
    torch.testing.assert_close(black / wrong, x.square().mean((1, 2, 3)) / 0.01, rtol=1e-4, atol=0)


def test_network_sees_the_noisy_photo_and_its_level():
    x, noise = _batch()
    seen = []
    denoising_error(lambda x_t, s: seen.append((x_t, s)) or x_t, x, noise, SIGMA)
    torch.testing.assert_close(seen[0][0], x + SIGMA[:, None, None, None] * noise)
    assert torch.equal(seen[0][1], SIGMA)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("sigma_data", [0.5, 0.3])
def test_untrained_network_starts_at_a_loss_of_one(sigma, sigma_data):
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(4, 8), blocks=1, embedding=16, sigma_data=sigma_data)
    x, noise = _batch(count=8, std=sigma_data, side=64)
    for uncertainty in (None, Uncertainty(8)):
        with torch.no_grad():
            loss, _ = _objective(network, sigma_data, uncertainty)(x, noise, torch.full((8,), sigma))
        # A mean of squares of normal numbers: its relative standard error is sqrt(2 / count).
        assert float(loss.mean()) == pytest.approx(1, abs=4 * (2 / x.numel()) ** 0.5)


def test_learned_uncertainty_becomes_the_logarithm_of_the_error():
    """Of a denoiser that cannot learn: D - x_0 = d(sigma), so that u tends to ln(lambda d^2) and the loss to 1 + u."""
    torch.manual_seed(0)
    x, noise = _batch(count=64)
    sigma = torch.exp(torch.linspace(-4, 1, 64))
    objective = _objective(lambda x_t, s: x + 0.1 * s[:, None, None, None].sqrt(), uncertainty=Uncertainty(32))
    weighted = objective.weighting.weight(sigma) * 0.01 * sigma
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    for _ in range(400):
        loss, error = objective(x, noise, sigma)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    torch.testing.assert_close(error, 0.01 * sigma, rtol=1e-4, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(objective.uncertainty(sigma), weighted.log(), rtol=0, atol=0.15)
    assert float(loss.detach().mean()) == pytest.approx(1 + float(weighted.log().mean()), abs=0.01)


def test_uncertainty_scales_the_gradient_of_the_network_alone():
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(4,), blocks=1, embedding=16)
    x, noise = _batch(count=1)
    gradients = []
    for uncertainty in (None, Uncertainty(8)):
        if uncertainty is not None:
            torch.nn.init.constant_(uncertainty.bias, 1.5)
        network.zero_grad()
        _objective(network, uncertainty=uncertainty)(x, noise, SIGMA[1:2])[0].sum().backward()
        gradients.append(network.head.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0] * torch.exp(torch.tensor(-1.5)))
