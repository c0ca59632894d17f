"""Denoisers: one network for every SDE, and Tweedie's formula."""

import pytest
import torch
from oracles import GaussianDenoiser, smooth_covariance

from diffusion import VESDE, VPSDE, ScoreDenoiser, ScoreNetwork, SubVPSDE

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(8, 12), blocks=1, embedding=16).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(False)


@pytest.mark.parametrize("sigma_ve", [0.01, 0.3, 3.0])
def test_every_sde_gives_the_same_prediction(network, sigma_ve):
    x_0 = torch.rand(1, 3, 11, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = torch.randn(x_0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = network(x_0 + sigma_ve * z, torch.tensor(sigma_ve))
    for name, sde in SDES.items():
        t = sde.time_of(torch.tensor(sigma_ve, dtype=torch.float64))
        prediction = ScoreDenoiser(network, sde)(sde.add_noise(x_0, z, t), t)
        torch.testing.assert_close(prediction, expected, rtol=1e-7, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")
    assert (expected - x_0 - sigma_ve * z).abs().mean() > 1e-4 * sigma_ve


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
@pytest.mark.parametrize("sigma_ve", [0.05, 1.0])
def test_score_is_the_gradient_of_the_log_density(sde, sigma_ve):
    mean = torch.linspace(-0.5, 0.5, 12, dtype=torch.float64).reshape(1, 3, 4)
    denoiser = GaussianDenoiser(sde, mean, smooth_covariance(3, 4))
    t = sde.time_of(torch.tensor(sigma_ve, dtype=torch.float64))
    x_t = torch.randn(5, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    log_density = denoiser.marginal(t).log_prob(x_t.flatten(1)).sum()
    torch.testing.assert_close(denoiser.score(x_t, t), torch.autograd.grad(log_density, x_t)[0], rtol=1e-9, atol=1e-9)


def test_time_may_be_a_number(network):
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    denoiser = ScoreDenoiser(network, VESDE())
    torch.testing.assert_close(denoiser(x, 0.25), denoiser(x, torch.tensor(0.25)))
