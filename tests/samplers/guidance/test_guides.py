"""Every guide equals the closed-form posterior mean where its assumptions hold, and samples that posterior."""

import pytest
import torch
from oracles import (
    GaussianDenoiser,
    MatrixModel,
    assert_drawn_from,
    linear_posterior,
    row_capture,
)

from diffusion import VESDE, VPSDE, Denoiser, SubVPSDE
from optics import DefocusOperator, LinearLightDefocus
from samplers.daps import DAPSSampler
from samplers.grids import karras_grid
from samplers.guidance import (
    DPSGuidance,
    GuidanceError,
    GuidedDenoiser,
    MomentMatchingGuidance,
    PiGDMGuidance,
    ProximalGuidance,
    RangeNullGuidance,
)
from samplers.ode_solvers import DPMSolver
from samplers.predictor_corrector import start_state
from samplers.red_diff import REDDiffSampler

SDES = {"ve": VESDE(sigma_max=50.0), "vp": VPSDE(), "sub-vp": SubVPSDE()}
each_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
STD = 0.5
WHITE, SMOOTH = "white", "smooth"
SOLVED = {"strength": 1.0, "photo_std": STD, "iterations": 40}
# Guide, the prior it is exact for, its options, and the noise of the capture.
EXACT = {
    "proximal": (ProximalGuidance, WHITE, SOLVED, "varying"),
    "pigdm": (PiGDMGuidance, WHITE, SOLVED, "varying"),
    "moment-matching": (MomentMatchingGuidance, SMOOTH, {"iterations": 20}, "varying"),
    "range-null": (RangeNullGuidance, WHITE, {"cutoff": 1e-3, "iterations": 40}, "none"),
}
GRADIENT = (DPSGuidance, PiGDMGuidance, MomentMatchingGuidance)
ALL = (ProximalGuidance, RangeNullGuidance, *GRADIENT)


def _world(sde, prior, noise):
    """A prior's denoiser, model, capture, noise, and the exact posterior."""
    mean, covariance, blur, y = row_capture()
    if prior == WHITE:
        covariance = STD**2 * torch.eye(8, dtype=torch.float64)
    # The blur of three cannot see one pattern of eight pixels at all; without noise it leaves that to the prior.
    noise_std = torch.linspace(0.05, 0.4, 8).double().reshape(1, 1, 1, 8)
    if noise == "none":
        noise_std = torch.tensor(1e-6)
        y = MatrixModel(blur, mean.shape)(mean[None] + 0.3)
    posterior = linear_posterior(mean, covariance, blur, y, noise_std.double().square())
    return GaussianDenoiser(sde, mean, covariance), MatrixModel(blur, mean.shape), y, noise_std, posterior


@each_sde
@pytest.mark.parametrize("sigma", [0.03, 0.3, 2.0])
@pytest.mark.parametrize("name", EXACT)
def test_exact_where_the_assumptions_hold(sde, name, sigma):
    guide, prior, options, noise = EXACT[name]
    denoiser, model, y, noise_std, posterior = _world(sde, prior, noise)
    t = sde.time_of(torch.tensor(sigma, dtype=torch.float64))
    x_t = torch.randn(3, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    guidance = guide(denoiser, model, y, noise_std, **options)
    with torch.no_grad():
        for _ in range(3):
            estimate = guidance(x_t, t)
    expected = GaussianDenoiser(sde, *posterior)(x_t, t)
    # The cut-off of range-null takes a millionth of the capture's weight.
    torch.testing.assert_close(estimate, expected, rtol=0, atol=max(1e-4 * sigma, 3e-5))
    assert (expected - denoiser(x_t, t)).abs().max() > 0.1 * min(sigma, STD)


@each_sde
@pytest.mark.parametrize("name", EXACT)
def test_samples_the_posterior_from_noise(sde, name):
    guide, prior, options, noise = EXACT[name]
    denoiser, model, y, noise_std, posterior = _world(sde, prior, noise)
    sampler, generator = DPMSolver(karras_grid(40.0, 0.003, 30, 5.0), 3), torch.Generator().manual_seed(0)
    x_t = start_state(sde, torch.zeros(1500, 1, 1, 8).double(), sampler.sigmas[0], generator)
    samples = sampler(guide(denoiser, model, y, noise_std, **options), x_t, generator=generator)
    mean, covariance = posterior
    if noise == "none":
        # What the capture shows has no spread: what is left is compared in the direction that it does not show.
        axis = torch.linalg.eigh(covariance)[1][:, -1]
        samples, mean = (samples.flatten(1) @ axis)[:, None], mean.flatten() @ axis[:, None]
        covariance = (axis @ covariance @ axis).reshape(1, 1)
    assert_drawn_from(samples, mean, covariance, discretisation=0.03)


@each_sde
@pytest.mark.parametrize("ode_steps", [1, 3])
def test_decoupled_annealing_samples_the_posterior(sde, ode_steps):
    denoiser, model, y, noise_std, posterior = _world(sde, WHITE, "varying")
    generator = torch.Generator().manual_seed(0)
    sampler = DAPSSampler(karras_grid(40.0, 0.003, 12, 5.0), ode_steps, photo_std=STD, iterations=40)
    seen = []
    x_t = start_state(sde, torch.zeros(2000, 1, 1, 8).double(), sampler.sigmas[0], generator)
    guided = GuidedDenoiser(denoiser, model, y, noise_std)
    samples = sampler(guided, x_t, generator=generator, callback=seen.append)
    assert len(seen) == sampler.evaluations == 11 * ode_steps + 1
    if ode_steps == 1:
        assert_drawn_from(samples, *posterior)
    else:
        # The end of an ODE is no mean of p(x_0 | x_t): the method is biased there, by measure.
        torch.testing.assert_close(samples.mean(0), posterior[0], rtol=0, atol=0.1)


def test_red_diff_ends_where_prior_and_capture_balance():
    denoiser, model, y, noise_std, _ = _world(SDES["vp"], WHITE, "varying")
    sampler = REDDiffSampler(torch.full((400,), 0.1), weight=0.25, temperature=0.0)
    guided = GuidedDenoiser(denoiser, model, y, noise_std)
    seen = []
    x = sampler(guided, torch.zeros(1, 1, 1, 8, dtype=torch.float64), callback=seen.append)
    assert len(seen) == sampler.evaluations == 400 and seen[-1].estimate is not x
    # White photos: D(x) - x = (mean - x) sigma^2 / (sigma^2 + std^2).
    pull = 0.25 * 0.1**2 / (0.1**2 + STD**2)
    weight = torch.diag(guided.likelihood.weight.flatten())
    blur = model.matrix
    expected = torch.linalg.solve(
        blur.mT @ weight @ blur + pull * torch.eye(8), blur.mT @ weight @ y.flatten() + pull * denoiser.mean.flatten()
    )
    residual = blur @ (x.flatten() - expected)
    assert float(residual.abs().max()) < 0.02
    assert float((model(denoiser.mean[None]) - y).abs().max()) > 0.2


def test_dps_neglects_how_pixels_hang_together():
    # Without blur all is exact; with it, A A^T v is replaced by v.
    denoiser, model, y, noise_std, posterior = _world(SDES["ve"], WHITE, "varying")
    t, x_t = SDES["ve"].time_of(torch.tensor(0.3).double()), torch.zeros(1, 1, 1, 8).double()
    none = MatrixModel(torch.eye(8, dtype=torch.float64), (1, 1, 8))
    exact = GaussianDenoiser(
        SDES["ve"], *linear_posterior(denoiser.mean, denoiser.covariance, none.matrix, y, noise_std.square())
    )
    guided = DPSGuidance(denoiser, none, y, noise_std, photo_std=STD)
    torch.testing.assert_close(guided(x_t, t), exact(x_t, t))
    blurred = DPSGuidance(denoiser, model, y, noise_std, photo_std=STD)(x_t, t)
    expected, prior = GaussianDenoiser(SDES["ve"], *posterior)(x_t, t), denoiser(x_t, t)
    assert 0.02 < float((blurred - expected).norm() / (prior - expected).norm()) < 0.9


@pytest.mark.parametrize("guide", ALL)
def test_after_a_restart_a_guide_is_a_new_one(guide):
    denoiser, model, y, noise_std, _ = _world(SDES["ve"], SMOOTH, "varying")
    if guide is RangeNullGuidance:
        noise_std = noise_std.mean()
    # Few iterations, so that the start of the solver shows in its result.
    options = {} if guide is DPSGuidance else {"iterations": 2}
    x_t = torch.randn(2, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    high, low = (torch.tensor(sigma, dtype=torch.float64) for sigma in (0.6, 0.2))
    times = [SDES["ve"].time_of(sigma) for sigma in (high, low)]
    used, fresh = (guide(denoiser, model, y, noise_std, **options) for _ in range(2))
    with torch.no_grad():
        for t in times:
            used(x_t, t)
        used.restart()
        assert torch.equal(used(x_t, times[1]), fresh(x_t, times[1]))


def test_moment_matching_owes_nothing_to_the_levels_before():
    denoiser, model, y, noise_std, _ = _world(SDES["ve"], SMOOTH, "varying")
    used, fresh = (MomentMatchingGuidance(denoiser, model, y, noise_std, iterations=2) for _ in range(2))
    x_t = torch.randn(2, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    high, low = (SDES["ve"].time_of(torch.tensor(sigma, dtype=torch.float64)) for sigma in (0.6, 0.05))
    with torch.no_grad():
        used(x_t, high)
        assert torch.equal(used(x_t, low), fresh(x_t, low))


@pytest.mark.parametrize("guide", [ProximalGuidance, *GRADIENT])
def test_pixels_without_weight_are_ignored(guide):
    denoiser, model, y, noise_std, _ = _world(SDES["vp"], SMOOTH, "varying")
    t, x_t = SDES["vp"].time_of(torch.tensor(0.3).double()), torch.zeros(1, 1, 1, 8).double()
    noise_std, changed = noise_std.clone(), y.clone()
    noise_std[..., 2:4], changed[..., 2:4] = torch.inf, 9.0
    first, second = (guide(denoiser, model, capture, noise_std)(x_t, t) for capture in (y, changed))
    assert torch.isfinite(first).all() and torch.equal(first, second)


@pytest.mark.parametrize("guide", ALL)
def test_items_of_a_batch_do_not_influence_one_another(guide):
    denoiser, model, y, _, _ = _world(SDES["vp"], SMOOTH, "varying")
    t = SDES["vp"].time_of(torch.tensor(0.3).double())
    x_t = torch.randn(3, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ys = torch.cat([y, -y, 2 * y])
    together = guide(denoiser, model, ys, 0.1)(x_t, t)
    for index in range(3):
        alone = guide(denoiser, model, ys[index : index + 1], 0.1)(x_t[index : index + 1], t)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("guide", [*ALL, GuidedDenoiser])
def test_the_misfit_of_the_prior_is_kept(guide):
    denoiser, model, y, _, _ = _world(SDES["vp"], SMOOTH, "varying")
    t, x_t = SDES["vp"].time_of(torch.tensor(0.3).double()), torch.zeros(1, 1, 1, 8).double()
    guided = guide(denoiser, model, y, 0.1)
    estimate = guided(x_t, t)
    prior = denoiser(x_t, t)
    assert float(guided.residual) == pytest.approx(float((model(prior) - y).square().mean().sqrt() / 0.1))
    assert torch.equal(estimate, prior) == (guide is GuidedDenoiser)


@pytest.mark.parametrize("guide", [ProximalGuidance, *GRADIENT])
def test_linear_light_is_fitted_in_the_encoding(guide):
    model = LinearLightDefocus(DefocusOperator(torch.full((1, 1, 12, 12), 1.5)))
    size = (1, *model.operator.canvas_size)
    x_0 = (0.5 * torch.randn(1, *size, generator=torch.Generator().manual_seed(3))).clamp(-0.8, 0.9)
    denoiser = GaussianDenoiser(SDES["ve"], torch.zeros(size), torch.full(size, STD**2))
    t, y = SDES["ve"].time_of(torch.tensor(0.2)), model(x_0)
    guided = guide(denoiser, model, y, 0.02)
    before = denoiser(torch.zeros_like(x_0), t)
    after = guided(torch.zeros_like(x_0), t)
    assert (model(after) - y).square().mean() < 0.7 * (model(before) - y).square().mean()


def test_range_null_refuses_what_it_cannot_take():
    denoiser, model, y, noise_std, _ = _world(SDES["ve"], WHITE, "varying")
    with pytest.raises(GuidanceError, match="range-null: .*same noise.*choose proximal, pigdm"):
        RangeNullGuidance(denoiser, model, y, noise_std)
    light = LinearLightDefocus(DefocusOperator(torch.full((1, 1, 6, 6), 1.5)))
    size = (1, *light.operator.canvas_size)
    denoiser = GaussianDenoiser(SDES["ve"], torch.zeros(size), torch.ones(size))
    with pytest.raises(GuidanceError, match="range-null: .*linear blur.*choose proximal, pigdm"):
        RangeNullGuidance(denoiser, light, torch.zeros(1, 1, 6, 6), 0.1)(torch.zeros(1, *size), torch.tensor(0.5))


class _Frozen(Denoiser):
    """A network without a gradient, as a compiled or quantised one."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.sde = denoiser, denoiser.sde

    @torch.no_grad()
    def forward(self, x_t, t):
        return self.denoiser(x_t, t)


@pytest.mark.parametrize("guide", ALL)
def test_a_missing_gradient_is_named(guide):
    denoiser, model, y, _, _ = _world(SDES["vp"], WHITE, "varying")
    guided, x_t, t = guide(_Frozen(denoiser), model, y, 0.1), torch.zeros(1, 1, 1, 8).double(), torch.tensor(0.5)
    if guide not in GRADIENT:
        assert torch.isfinite(guided(x_t, t)).all()
        return
    with pytest.raises(GuidanceError, match="expected a network with a gradient.*choose proximal, range-null or none"):
        guided(x_t, t)
    with torch.inference_mode(), pytest.raises(GuidanceError, match="got inference mode"):
        guide(denoiser, model, y, 0.1)(x_t, t)
