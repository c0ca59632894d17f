"""Restarts noise forward exactly, and repair what a coarse descent got wrong."""

import pytest
import torch
from oracles import GaussianDenoiser, row_posterior

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers.correctors import LangevinCorrector
from samplers.grids import karras_grid
from samplers.ode_solvers import DPMSolver
from samplers.predictor_corrector import PredictorCorrectorSampler, start_state
from samplers.restart import restart_grid
from samplers.reverse_process import forward_noise
from samplers.settings import SamplerSettings

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_forward_noise_follows_the_marginals(sde):
    s, t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = sde.marginal(s), sde.marginal(t)
    gain, spread = forward_noise(sde, one, s, t, zero), forward_noise(sde, zero, s, t, one)
    assert float(gain * alpha_s) == pytest.approx(float(alpha_t))
    assert float((gain * sigma_s) ** 2 + spread**2) == pytest.approx(float(sigma_t**2))


def test_the_grid_passes_its_own_levels_again():
    sigmas = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.05, 0.01])
    again = [0.5, 0.2, 0.1]
    assert restart_grid(sigmas, 0.1, 0.5).tolist() == pytest.approx([1.0, *again, *again, 0.05, 0.01])
    twice = restart_grid(sigmas, 0.09, 0.55, times=2)
    assert twice.tolist() == pytest.approx([1.0, *again, *again, *again, 0.05, 0.01])
    assert torch.equal(restart_grid(sigmas, 0.1, 0.5, times=0), sigmas)


@pytest.mark.parametrize("arguments", [(0.5, 0.1), (0.001, 0.1), (0.1, 2.0), (0.095, 0.105), (0.1, 0.5, -1)])
def test_impossible_restarts_are_refused(arguments):
    with pytest.raises(ValueError, match="restart"):
        restart_grid(torch.tensor([1.0, 0.5, 0.2, 0.1, 0.05, 0.01]), *arguments)


def test_the_ends_of_the_range_may_be_restarted_from():
    # Grids are of single precision, in which their ends are others.
    for settings in ({"sigma_start": 0.7, "restart_high": 0.7}, {"sigma_end": 0.05}):
        sigmas = SamplerSettings(restarts=1, **settings).sigmas()
        assert (sigmas.diff() > 0).sum() == 1


def test_a_grid_of_the_sde_without_levels_for_the_restart_is_refused_before_the_work():
    settings = SamplerSettings(restarts=1, grid="time", steps=4, restart_low=0.15, restart_high=0.2)
    settings.check(VESDE())
    with pytest.raises(ValueError, match="restart: expected a grid with two levels"):
        settings.check(VPSDE())


def test_restarts_forget_a_wrong_start():
    # The capture with noise has neither mean nor spread of the marginal; each round trip brings them nearer.
    mean, covariance = row_posterior()
    denoiser, errors = GaussianDenoiser(SDES["vp"], mean, covariance), []
    for times in (0, 1, 3):
        sampler = DPMSolver(restart_grid(karras_grid(0.2, 0.01, 20, 3.0), 0.02, 0.2, times))
        generator = torch.Generator().manual_seed(1)
        x_t = start_state(denoiser.sde, torch.zeros(2000, *mean.shape).double(), sampler.sigmas[0], generator)
        samples = sampler(denoiser, x_t, generator=generator).flatten(1)
        errors.append(float((samples.T.cov() - covariance).norm() / covariance.norm()))
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2]


@pytest.mark.parametrize("corrector", [None, LangevinCorrector(below=0.3)], ids=["alone", "corrected"])
def test_no_evaluation_is_spent_before_a_restart(corrector):
    sigmas = restart_grid(torch.tensor([1.0, 0.5, 0.2, 0.1, 0.05, 0.01]), 0.1, 0.5)
    sampler, seen = PredictorCorrectorSampler(sigmas, corrector=corrector), []
    denoiser = GaussianDenoiser(SDES["vp"], torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    sampler(denoiser, torch.ones(1, 1, 2, 2), generator=torch.Generator().manual_seed(0), callback=seen.append)
    levels = [0.2, 0.1, 0.2, 0.1, 0.05, 0.01]
    assert len(seen) == sampler.evaluations == 8 + (0 if corrector is None else len(levels))
