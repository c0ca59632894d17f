"""Solvers of the ODE converge with the order they declare, and sample a closed-form posterior."""

import math
from functools import partial

import pytest
import torch
from oracles import GaussianDenoiser, assert_drawn_from, row_posterior

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers import ode_solvers
from samplers.grids import karras_grid
from samplers.ode_solvers import DPMSolver, HeunSampler, exponential_weights
from samplers.predictor_corrector import PredictorCorrectorSampler, start_state
from samplers.predictors import AncestralPredictor
from samplers.restart import restart_grid

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}
each_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
MEAN, VARIANCE = 0.3, 0.25


def _denoiser(sde):
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return GaussianDenoiser(sde, MEAN * one, VARIANCE * one)


def _last_state(sampler, denoiser, u):
    """The rescaled state at the last level, of one at the first."""
    times, seen = denoiser.sde.time_of(sampler.sigmas), []
    scales = denoiser.sde.marginal(times)[0]
    sampler(denoiser, scales[0] * u, callback=seen.append)
    assert len(seen) == sampler.evaluations == seen[-1].total
    return seen[-1].x_t / scales[-1]


def _orders(errors):
    return [math.log2(coarse / fine) for coarse, fine in zip(errors[:-1], errors[1:], strict=True)]


@each_sde
@pytest.mark.parametrize(
    ("make", "order"),
    [
        (partial(DPMSolver, order=1), 1), (partial(DPMSolver, order=2), 2), (partial(DPMSolver, order=3), 3),
        (HeunSampler, 2),
    ],
    ids=["euler", "2m", "3m", "heun"],
)  # fmt: skip
def test_converges_with_the_declared_order(sde, make, order):
    # Along the ODE of a Gaussian prior, u - mean stays in proportion to the standard deviation of the marginal.
    errors = []
    for steps in (32, 64, 128):
        grid = karras_grid(3.0, 0.05, steps + 1, rho=4.0).double()
        high, low = grid[0], grid[-1]
        exact = MEAN + math.sqrt((VARIANCE + low**2) / (VARIANCE + high**2)) * (1.7 - MEAN)
        u = _last_state(make(grid), _denoiser(sde), torch.full((1, 1, 1, 1), 1.7, dtype=torch.float64))
        errors.append(abs(float(u) - exact))
    assert _orders(errors) == pytest.approx([order, order], abs=0.1)


@pytest.mark.parametrize(("order", "expected"), [(1, 1), (2, 2), (3, 2)])
def test_the_spread_of_the_sde_form_converges(order, expected, monkeypatch):
    # The state is affine in start and noises: one item of the batch for each of them gives its exact variance.
    errors = []
    for steps in (64, 128, 256):
        grid = karras_grid(3.0, 0.05, steps + 1, rho=4.0).double()
        draws = iter(range(2, steps + 2))

        def unit(like, generator, draws=draws):
            noise = torch.zeros_like(like)
            noise[next(draws)] = 1
            return noise

        monkeypatch.setattr(ode_solvers, "draw_noise", unit)
        start = torch.zeros(steps + 2, 1, 1, 1, dtype=torch.float64)
        start[1] = 1
        u = _last_state(DPMSolver(grid, order, eta=1.0), _denoiser(SDES["vp"]), start).flatten()
        gains = u[1:] - u[0]
        variance = gains[0] ** 2 * (VARIANCE + grid[0] ** 2) + gains[1:].square().sum()
        errors.append(abs(float(variance - VARIANCE - grid[-1] ** 2)))
        # Under the reverse SDE, E[x_0 | x_t] is a martingale: the mean is exact whatever the steps.
        assert float(u[0] + gains[0] * MEAN) == pytest.approx(MEAN, abs=1e-9)
    assert _orders(errors) == pytest.approx([expected, expected], abs=0.3)


@pytest.mark.parametrize("rate", [1.0, 2.0])
@pytest.mark.parametrize("levels", [[1.0], [1.0, 1.7], [1.0, 1.2, 2.9], [1.0, 0.4]])
def test_weights_integrate_polynomials_exactly(levels, rate):
    low = 0.4
    kept, weights = exponential_weights(levels, low, rate)
    step = math.log(levels[0] / low)
    assert kept == pytest.approx(math.exp(-rate * step))
    v = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    kernel = rate * step * torch.exp(-rate * step * (1 - v)) / 20000
    for power in range(len(levels)):
        sampled = [(math.log(levels[0] / level) / step) ** power for level in levels]
        got = sum(weight * value for weight, value in zip(weights, sampled, strict=True))
        assert got == pytest.approx(float((kernel * v**power).sum()), abs=1e-7)


@each_sde
def test_order_one_is_ddim(sde):
    grid = karras_grid(2.0, 0.1, 6)
    x_t = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    denoiser = GaussianDenoiser(sde, torch.zeros(1, 3, 3), torch.full((1, 3, 3), VARIANCE))
    ddim = PredictorCorrectorSampler(grid, AncestralPredictor(renoise=0.0))
    torch.testing.assert_close(DPMSolver(grid, 1)(denoiser, x_t), ddim(denoiser, x_t), rtol=1e-4, atol=1e-5)
    # With all the noise of the reverse SDE it is ancestral sampling.
    draws = [
        sampler(denoiser, x_t, generator=torch.Generator().manual_seed(1))
        for sampler in (DPMSolver(grid, 1, eta=1.0), PredictorCorrectorSampler(grid, AncestralPredictor()))
    ]
    torch.testing.assert_close(*draws, rtol=1e-4, atol=1e-5)


@each_sde
@pytest.mark.parametrize(
    "sampler",
    [
        HeunSampler(karras_grid(40.0, 0.003, 40, 5.0)), HeunSampler(karras_grid(40.0, 0.003, 100, 5.0), churn=20.0),
        DPMSolver(karras_grid(40.0, 0.003, 60, 5.0), 2), DPMSolver(karras_grid(40.0, 0.003, 60, 5.0), 3),
        DPMSolver(karras_grid(40.0, 0.003, 80, 5.0), 2, eta=1.0),
        DPMSolver(restart_grid(karras_grid(40.0, 0.003, 60, 5.0), 0.1, 2.0, 2), 3),
    ],
    ids=["heun", "churn", "2m", "3m", "sde-2m", "restarted"],
)  # fmt: skip
def test_samples_the_posterior_from_noise(sde, sampler):
    mean, covariance = row_posterior()
    denoiser, generator = GaussianDenoiser(sde, mean, covariance), torch.Generator().manual_seed(0)
    x_t = start_state(sde, torch.zeros(4000, *mean.shape).double(), sampler.sigmas[0], generator)
    assert_drawn_from(sampler(denoiser, x_t, generator=generator), mean, covariance)


@pytest.mark.parametrize("make", [HeunSampler, DPMSolver])
def test_a_run_ends_where_the_estimate_stands_still(make):
    grid, seen = karras_grid(0.6, 0.002, 60), []
    sampler = make(grid, stop_change=2e-3)
    result = sampler(_denoiser(SDES["vp"]), torch.ones(1, 1, 1, 1, dtype=torch.float64), callback=seen.append)
    assert 2 < len(seen) < sampler.evaluations
    assert torch.equal(result, seen[-1].estimate)
