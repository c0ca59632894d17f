"""Marginals, drift and diffusion of each SDE belong together."""

import pytest
import torch

from diffusion import VESDE, VPSDE, SubVPSDE

SDES = [VESDE(), VESDE(sigma_min=0.01, sigma_max=50.0), VPSDE(), VPSDE(beta_min=0.5, beta_max=8.0), SubVPSDE()]
NAMES = ["ve", "ve-wide", "vp", "vp-slow", "sub-vp"]
each_sde = pytest.mark.parametrize("sde", SDES, ids=NAMES)


def _derivative(function, t):
    t = t.clone().requires_grad_()
    value = function(t)
    # The signal scale of VE is a constant, which autograd would rather not differentiate.
    return torch.autograd.grad(value.sum() + 0 * t.sum(), t)[0]


@each_sde
def test_marginal_solves_the_moment_equations(sde):
    t = torch.linspace(0.02, 1, 50, dtype=torch.float64)
    alpha, sigma = sde.marginal(t)
    rate, g = sde.drift_rate(t), sde.diffusion(t)
    # d alpha / dt = a alpha,  d sigma^2 / dt = 2 a sigma^2 + g^2
    torch.testing.assert_close(_derivative(lambda s: sde.marginal(s)[0].log(), t), rate, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        _derivative(lambda s: sde.marginal(s)[1].square(), t), 2 * rate * sigma.square() + g.square(), rtol=1e-8, atol=0
    )


@each_sde
def test_signal_starts_whole_and_noise_grows(sde):
    t = torch.linspace(0, 1, 200, dtype=torch.float64)
    alpha, _ = sde.marginal(t)
    assert alpha[0] == 1
    assert (sde.sigma_ve(t).diff() > 0).all()


def test_marginals_of_the_members():
    t = torch.tensor(0.7, dtype=torch.float64)
    ve, vp, sub_vp = VESDE(0.002, 3.0), VPSDE(0.1, 20.0), SubVPSDE(0.1, 20.0)
    assert ve.marginal(torch.ones(()))[1] == pytest.approx(3.0)
    assert ve.marginal(torch.zeros(()))[1] == pytest.approx(0.002)
    alpha, sigma = vp.marginal(t)
    assert alpha**2 + sigma**2 == pytest.approx(1)
    # The noise of sub-VP is the variance of VP, and it stays below VP.
    assert sub_vp.marginal(t)[0] == alpha
    assert sub_vp.marginal(t)[1] == pytest.approx(float(sigma) ** 2)


@each_sde
def test_time_inverts_noise_level(sde):
    sigma_ve = torch.logspace(-2, 0, 40, dtype=torch.float64)
    torch.testing.assert_close(sde.sigma_ve(sde.time_of(sigma_ve)), sigma_ve, rtol=1e-9, atol=0)
    single = sigma_ve.float()
    torch.testing.assert_close(sde.sigma_ve(sde.time_of(single)), single, rtol=2e-5, atol=0)


@each_sde
def test_noised_photos_have_the_marginal_moments(sde):
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((4000, 3, 2, 2), 0.7, dtype=torch.float64)
    t = torch.tensor(0.6, dtype=torch.float64)
    x_t = sde.add_noise(x_0, torch.randn(x_0.shape, generator=generator, dtype=torch.float64), t)
    alpha, sigma = sde.marginal(t)
    error = 4 * float(sigma) / x_0.numel() ** 0.5
    assert float(x_t.mean()) == pytest.approx(0.7 * float(alpha), abs=error)
    assert float(x_t.std()) == pytest.approx(float(sigma), rel=4 / (2 * x_0.numel()) ** 0.5)


@each_sde
def test_times_of_a_batch_apply_item_by_item(sde):
    x = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.1, 0.5, 0.9])
    drift, noised = sde.drift(x, t), sde.add_noise(x, 2 * x, t)
    for index in range(3):
        torch.testing.assert_close(drift[index], sde.drift(x[index : index + 1], t[index])[0])
        one = slice(index, index + 1)
        torch.testing.assert_close(noised[index], sde.add_noise(x[one], 2 * x[one], t[index])[0])


@each_sde
def test_saved_and_loaded_unchanged(sde, tmp_path):
    sde.save_pretrained(tmp_path)
    assert (tmp_path / "scheduler_config.json").is_file()
    loaded = type(sde).from_pretrained(tmp_path)
    t = torch.linspace(0, 1, 9)
    for ours, theirs in zip(sde.marginal(t), loaded.marginal(t), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: VESDE(sigma_min=0.0), "sigma_min"),
        (lambda: VESDE(sigma_min=2.0, sigma_max=1.0), "2.0 and 1.0"),
        (lambda: VESDE(sigma_max=float("nan")), "nan"),
        (lambda: VPSDE(beta_min=-0.1), "beta_min"),
        (lambda: SubVPSDE(beta_min=5.0, beta_max=5.0), "beta_max"),
    ],
)
def test_impossible_schedules_are_refused(make, named):
    with pytest.raises(ValueError, match=named):
        make()
