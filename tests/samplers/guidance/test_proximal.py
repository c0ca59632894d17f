"""Proximal guidance against dense solutions; nothing here depends on how the guidance is tuned."""

import pytest
import torch
from oracles import GaussianDenoiser, dense_matrix, linear_posterior, smooth_covariance

from diffusion import VESDE, VPSDE, Denoiser, SubVPSDE
from optics import DefocusOperator, LinearLightDefocus
from samplers.guidance import ProximalGuidance, SecondEstimate
from samplers.predictor_corrector import start_state
from samplers.settings import SamplerSettings

SDES = {"ve": VESDE(), "vp": VPSDE(), "sub-vp": SubVPSDE()}
PHOTO_STD, NOISE_STD = 0.5, 0.04


def _random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def operator():
    """Twelve by twelve pixels, of which every other column of blocks is defocused more."""
    radius_map = torch.linspace(0.5, 2.0, 12).expand(1, 1, 12, 12).clone()
    radius_map[..., 6:, :] = 1.2
    return DefocusOperator(radius_map)


@pytest.fixture(scope="module")
def matrix(operator):
    return dense_matrix(operator, (1, *operator.canvas_size)).double()


def _capture(operator, noise_std, seed=0):
    """A capture of a photo with smooth structure."""
    height, width = operator.canvas_size
    covariance = smooth_covariance(height, width, PHOTO_STD, length=4.0)
    x_0 = (torch.linalg.cholesky(covariance).float() @ _random((height * width,), seed)).reshape(1, 1, height, width)
    return x_0, operator(x_0) + noise_std * _random((1, 1, *operator.capture_size), seed + 1)


def _white(sde, operator):
    """The denoiser of photos whose pixels are independent."""
    canvas = (1, *operator.canvas_size)
    return GaussianDenoiser(sde, torch.full(canvas, 0.1), torch.full(canvas, PHOTO_STD**2))


def _converged(guidance, x_t, t):
    # The solver starts where it stopped, so that asking again at the same state finishes its work.
    for _ in range(30):
        estimate = guidance(x_t, t)
    return estimate


def _state(sde, x_0, sigma, seed=9):
    t = sde.time_of(torch.tensor(sigma))
    return sde.add_noise(x_0, _random(x_0.shape, seed), t), t


@pytest.mark.parametrize("noise", ["even", "per-pixel"])
@pytest.mark.parametrize("sigma", [0.03, 0.3, 2.0])
@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_exact_for_white_photos_and_linear_blur(operator, matrix, sde, sigma, noise):
    noise_std = NOISE_STD
    if noise == "per-pixel":
        noise_std = NOISE_STD * torch.linspace(1, 4, 12)[:, None].expand(1, 1, 12, 12)
    x_0, y = _capture(operator, NOISE_STD)
    prior = _white(sde, operator)
    posterior = linear_posterior(
        prior.mean.double(), prior.covariance.double(), matrix, y, torch.as_tensor(noise_std).double().square()
    )
    exact = GaussianDenoiser(sde, *posterior)
    x_t, t = _state(sde, x_0, sigma)
    guidance = ProximalGuidance(prior, operator, y, noise_std, strength=1.0, photo_std=PHOTO_STD)
    expected = exact(x_t.double(), t.double())
    torch.testing.assert_close(_converged(guidance, x_t, t).double(), expected, rtol=0, atol=2e-3 * sigma)
    # The capture does make a difference.
    assert (expected - prior(x_t, t)).abs().max() > 0.2 * min(sigma, PHOTO_STD)


@pytest.mark.parametrize("sigma", [0.03, 0.3, 2.0])
@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_exact_with_a_second_estimate_of_errors_known_pixel_by_pixel(operator, matrix, sde, sigma):
    x_0, y = _capture(operator, NOISE_STD)
    error_std = 0.05 + 0.3 * torch.rand(x_0.shape, generator=torch.Generator().manual_seed(5))
    x = x_0 + error_std * _random(x_0.shape, 6)
    known = torch.ones(x_0.shape, dtype=torch.bool)
    known[..., :3, :] = False
    prior = _white(sde, operator)
    # One more measurement of every pixel that is known.
    posterior = linear_posterior(
        prior.mean.double(), prior.covariance.double(),
        torch.cat([matrix, torch.eye(x_0.numel()).double()[known.flatten()]]),
        torch.cat([y.flatten(), x[known]]),
        torch.cat([torch.full((y.numel(),), NOISE_STD**2), error_std[known].square()]).double(),
    )  # fmt: skip
    exact = GaussianDenoiser(sde, *posterior)
    x_t, t = _state(sde, x_0, sigma)
    second = SecondEstimate(x, known / error_std.square())
    guidance = ProximalGuidance(
        prior, operator, y, NOISE_STD, strength=1.0, photo_std=PHOTO_STD, second=second
    )
    expected = exact(x_t.double(), t.double())
    torch.testing.assert_close(_converged(guidance, x_t, t).double(), expected, rtol=0, atol=2e-3 * sigma)
    without = ProximalGuidance(prior, operator, y, NOISE_STD, strength=1.0, photo_std=PHOTO_STD)
    assert (expected - _converged(without, x_t, t)).abs().max() > 0.2 * min(sigma, 0.1)


def test_a_second_estimate_fades_with_the_noise():
    second = SecondEstimate(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 8.0), fade=0.1)
    for sigma, share in ((0.1, 1 / 2), (0.2, 4 / 5), (0.05, 1 / 5)):
        torch.testing.assert_close(second.precision_at(torch.tensor(sigma)), torch.full((1, 1, 2, 2), 8.0 * share))


class _Compared(Denoiser):
    """A guide that measures at every evaluation how far it is from the finished solution, in units of sigma."""

    def __init__(self, guide, *rest, **options):
        super().__init__()
        self.sde, self.make = guide.sde, lambda: ProximalGuidance(guide, *rest, **options)
        self.guidance, self.errors = self.make(), []

    def forward(self, x_t, t):
        estimate = self.guidance(x_t, t)
        error = (estimate - _converged(self.make(), x_t, t)).square().mean().sqrt()
        self.errors.append(float(error / self.sde.sigma_ve(t)))
        return estimate


@pytest.mark.parametrize("noise_std", [0.02, 0.06])
def test_the_iterations_of_a_restoration_suffice(operator, noise_std):
    settings = SamplerSettings()
    _, y = _capture(operator, noise_std)
    height, width = operator.canvas_size
    covariance = smooth_covariance(height, width, PHOTO_STD, length=4.0).float()
    prior = GaussianDenoiser(SDES["ve"], torch.zeros(1, height, width), covariance)
    options = {"strength": settings.guidance_strength, "iterations": settings.solver_iterations}
    denoiser = _Compared(prior, operator, y, noise_std, **options)
    sampler, generator = settings.sampler(), torch.Generator().manual_seed(0)
    sampler(
        denoiser, start_state(denoiser.sde, operator.extend(y), sampler.sigmas[0], generator), generator=generator
    )
    assert len(denoiser.errors) == settings.evaluations
    assert max(denoiser.errors) < 0.1


def test_noisy_capture_is_ignored(operator):
    x_0, y = _capture(operator, NOISE_STD)
    prior = _white(SDES["vp"], operator)
    x_t, t = _state(SDES["vp"], x_0, 0.3)
    guided = _converged(ProximalGuidance(prior, operator, y, 1e3), x_t, t)
    torch.testing.assert_close(guided, prior(x_t, t), rtol=0, atol=1e-4)


def test_noise_free_capture_without_blur_is_believed():
    operator = DefocusOperator(torch.zeros(1, 1, 9, 11))
    y = _random((1, 1, 9, 11), 1).clamp(-1, 1)
    prior = _white(SDES["ve"], operator)
    x_t, t = _state(SDES["ve"], torch.zeros(1, 1, 9, 11), 0.3)
    guided = _converged(ProximalGuidance(prior, operator, y, 1e-4), x_t, t)
    torch.testing.assert_close(operator.crop(guided), y, rtol=0, atol=1e-4)


def test_noisy_pixels_count_less(operator):
    x_0, y = _capture(operator, NOISE_STD)
    prior = _white(SDES["ve"], operator)
    x_t, t = _state(SDES["ve"], x_0, 0.3)
    noise_std = torch.full((1, 1, 12, 12), NOISE_STD)
    noise_std[..., :6, :] = 1e3
    changed = y.clone()
    changed[..., :6, :] += 0.8
    estimates = [_converged(ProximalGuidance(prior, operator, c, noise_std), x_t, t) for c in (y, changed)]
    torch.testing.assert_close(*estimates, rtol=0, atol=1e-4)
    residual = operator(estimates[0]) - y
    before = operator(prior(x_t, t)) - y
    assert residual[..., 7:, :].square().mean() < 0.2 * before[..., 7:, :].square().mean()


def test_smaller_strength_fits_the_capture_better(operator):
    x_0, y = _capture(operator, NOISE_STD)
    prior = _white(SDES["ve"], operator)
    x_t, t = _state(SDES["ve"], x_0, 0.3)
    misfits = []
    for strength in (4.0, 1.0, 0.25):
        guided = _converged(ProximalGuidance(prior, operator, y, 0.2, strength=strength), x_t, t)
        misfits.append(float((operator(guided) - y).square().mean()))
    assert misfits[0] > misfits[1] > misfits[2]


def test_items_of_a_batch_do_not_influence_one_another(operator):
    x_0, y = _capture(operator, NOISE_STD)
    prior = _white(SDES["ve"], operator)
    x_t, t = _state(SDES["ve"], torch.cat([x_0, -x_0, 2 * x_0]), 0.2)
    ys = torch.cat([y, -y, y])
    together = ProximalGuidance(prior, operator, ys, NOISE_STD)(x_t, t)
    for index in range(3):
        alone = ProximalGuidance(prior, operator, ys[index : index + 1], NOISE_STD)(x_t[index : index + 1], t)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)


def test_linear_light_is_fitted_in_the_encoding(operator):
    model = LinearLightDefocus(operator)
    x_0 = _capture(operator, 0.0)[0].clamp(-0.8, 0.9)
    y = model(x_0)
    prior = _white(SDES["ve"], operator)
    x_t, t = _state(SDES["ve"], x_0, 0.05)
    guided = _converged(ProximalGuidance(prior, model, y, 0.01), x_t, t)
    before, after = ((model(x) - y).square().mean() for x in (prior(x_t, t), guided))
    assert after < 0.1 * before
