"""The bank of deconvolutions: each against another algorithm for the same objective, and the choice among them."""

import pytest
import torch

from optics import DefocusOperator
from restorers.tv import TVDeconvolution, gradient_length
from restorers.tv_bank import TVBank, _gradient, _gradient_adjoint, tent_weights

NOISE = 0.01


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _capture(radius_map, cell=7, noise_std=NOISE, softness=0.0):
    """A blocky colour picture and its capture."""
    operator = DefocusOperator(radius_map, softness)
    generator = torch.Generator().manual_seed(1)
    side = operator.canvas_size[0]
    cells = 0.1 + 0.8 * torch.rand(1, 3, side // cell + 1, side // cell + 1, generator=generator)
    x = cells.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :side, :side].contiguous()
    blurred = operator(x)
    y = blurred + noise_std * torch.randn(blurred.shape, generator=generator)
    return operator.crop(x), y.clamp(0, 1), operator


def _constant(radius, side=64):
    return torch.full((1, 1, side, side), float(radius))


def _error(a, b):
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize(("radius", "softness"), [(2.0, 0.0), (2.0, 1.0)])
def test_a_scale_is_a_stationary_point_of_its_objective(radius, softness):
    _, y, _ = _capture(_constant(radius, 24), softness=softness)
    weight, smoothing = 2e-3, 1e-5
    x, corner = TVBank(softness=softness, iterations=1500).solve(y.double(), radius, weight)
    operator = DefocusOperator(_constant(radius, 24), softness)
    reach = operator.margin

    def objective(x, smoothing):
        # The operator's own canvas, cut out of the bank's: another implementation of the blur.
        inside = slice(corner - reach, corner + reach + y.shape[-1])
        residual = operator(x.float()[..., inside, inside]).double() - y
        length = (gradient_length(_gradient(x)).square() + smoothing**2).sqrt()
        return 0.5 * residual.square().sum() + weight * length.sum()

    best = float(objective(x, 0))
    generator = torch.Generator().manual_seed(3)
    for scale in (1e-3, 1e-2):
        for _ in range(5):
            assert float(objective(x + scale * torch.randn(x.shape, generator=generator), 0)) > best
    # Nor does a descent on the smoothed objective find anything below.
    z = x.clone().requires_grad_()
    step = torch.optim.Adam([z], lr=1e-4)
    for _ in range(40):
        step.zero_grad()
        objective(z, smoothing).backward()
        step.step()
    assert float(objective(z.detach(), 0)) > best * (1 - 1e-4)
    # The default comes close.
    default, _ = TVBank(softness=softness).solve(y.double(), radius, weight)
    assert float(objective(default, 0)) < 1.01 * best


@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_a_scale_is_what_the_operator_gives_for_a_constant_map(radius):
    _, y, operator = _capture(_constant(radius))
    expected = TVDeconvolution(iterations=80, cg_iterations=6).solve(y, operator, 7.5e-4)
    found = TVBank(iterations=80).deconvolve(y, radius, 7.5e-4)
    # Differences wrap round on the bank's canvas, which is felt near the border alone.
    assert _error(found[..., 8:-8, 8:-8], operator.crop(expected)[..., 8:-8, 8:-8]) < 1.5e-3


def test_the_minimiser_does_not_depend_on_the_penalties():
    _, y, _ = _capture(_constant(2, 32))
    found = [
        TVBank(penalty=penalty, data_penalty=data, iterations=300).deconvolve(y, 2.0, 1e-3)
        for penalty, data in ((7.0, 0.1), (15.0, 0.4))
    ]
    torch.testing.assert_close(*found, rtol=0, atol=3e-3)


def test_gradient_and_its_adjoint():
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(2, 3, 6, 5, generator=generator, dtype=torch.float64)
    slope = torch.rand(2, 2, 3, 6, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((_gradient(x) * slope).sum(), (x * _gradient_adjoint(slope)).sum())


def test_tent_weights_interpolate():
    radii = torch.tensor([0.0, 1.0, 1.5, 2.0])
    radius_map = torch.tensor([0.0, 0.25, 1.0, 1.2, 1.9, 2.0]).reshape(1, 1, 2, 3)
    weights = tent_weights(radius_map, radii)
    torch.testing.assert_close(weights.sum(1, keepdim=True), torch.ones_like(radius_map))
    torch.testing.assert_close((weights * radii[:, None, None]).sum(1, keepdim=True), radius_map)
    assert (weights > 0).sum(1).max() <= 2


@pytest.mark.parametrize("radius", [2.0, 3.5])
def test_every_pixel_takes_the_scale_of_its_radius(radius):
    x, y, _ = _capture(_constant(radius, 80))
    bank = TVBank(ringing=1e9)
    restored = bank(y, _constant(radius, 80), NOISE)
    torch.testing.assert_close(
        restored, bank.deconvolve(y, radius, bank.weight * NOISE**1.5).clamp(0, 1), rtol=0, atol=1e-5
    )
    # And that is the best of them.
    others = [_error(bank(y, _constant(other, 80), NOISE), x) for other in (radius - 1, radius + 1)]
    assert _error(restored, x) < min(*others, _error(y, x))


def test_two_regions_take_two_scales_and_what_is_sharp_stays():
    radius_map = _constant(0, 96)
    radius_map[..., 48:] = 3.0
    x, y, _ = _capture(radius_map)
    restored = TVBank()(y, radius_map, NOISE)
    torch.testing.assert_close(restored[..., :47], y[..., :47], rtol=0, atol=1e-6)
    assert _error(restored[..., 56:], x[..., 56:]) < 0.75 * _error(y[..., 56:], x[..., 56:])


def test_a_scale_that_rings_is_refused():
    # Told of twice the blur that there is, deconvolution rings; the choice must fall on less.
    x, y, _ = _capture(_constant(2.5, 80), noise_std=0.002)
    trusting, wary = (TVBank(ringing=ringing)(y, _constant(5, 80), 0.002) for ringing in (1e9, 1.2))
    assert _error(wary, x) < 0.85 * _error(trusting, x)
    # Where the map is right nothing is refused.
    right = [TVBank(ringing=ringing)(y, _constant(2.5, 80), 0.002) for ringing in (1e9, 1.5)]
    assert _error(*right) < 5e-3


def test_without_a_map_it_estimates_its_own():
    radius_map = _constant(3, 96)
    x, y, _ = _capture(radius_map, cell=24)
    assert _error(TVBank()(y, None, NOISE), x) < 0.85 * _error(y, x)


def test_a_flat_picture_stays():
    y = torch.full((1, 3, 40, 40), 0.3)
    torch.testing.assert_close(TVBank()(y, _constant(3, 40), NOISE), y, rtol=0, atol=1e-5)
    assert torch.equal(TVBank()(y, None, NOISE), y)


@pytest.mark.parametrize("size", [(1, 1), (3, 20), (9, 8)])
def test_small_pictures(size):
    y = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(5))
    restored = TVBank()(y, torch.full((1, 1, *size), 4.0), NOISE)
    assert restored.shape == y.shape and torch.isfinite(restored).all()


@pytest.mark.parametrize(
    "options",
    [{"weight": 0}, {"penalty": 0}, {"data_penalty": 0}, {"iterations": 0}, {"relaxation": 2.0}, {"ringing": 1.0}],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TVBank(**options)


@pytest.mark.parametrize(
    ("radius_map", "noise_std", "name"),
    [(_constant(1, 8), NOISE, "radius_map"), (_constant(-1, 16), NOISE, "radius_map"),
     (_constant(float("nan"), 16), NOISE, "radius_map"), (_constant(1, 16), 0.0, "noise_std")],
)  # fmt: skip
def test_impossible_captures_are_refused(radius_map, noise_std, name):
    with pytest.raises(ValueError, match=name):
        TVBank()(torch.rand(1, 3, 16, 16), radius_map, noise_std)
