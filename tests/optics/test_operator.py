"""The defocus operator against slow, independent computations."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from optics import MAX_RADIUS, DefocusOperator, bank_radii, defocus_psf


def _map(height, width, low=0.0, high=4.0, seed=0):
    """A radius map with a ramp and a step, so that it holds many radii."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    ramp = low + (high - low) * (rows + columns) / 2
    ramp[rows > 0.6] = (low + high) / 3
    return ramp[None, None]


def _random(shape, seed, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("height", "width", "block"), [(33, 47, 128), (33, 47, 16), (1, 9, 4), (20, 1, 128), (24, 24, 7)]
)
def test_adjoint_is_exact(height, width, block, softness):
    operator = DefocusOperator(_map(height, width), softness, block)
    x, y = _random((2, 3, *operator.canvas_size), 1), _random((2, 3, height, width), 2)
    forward, backward = (operator(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(forward - backward)) < 1e-5 * float(operator(x).norm() * y.norm())


@pytest.mark.parametrize("weight", [(), (1, 1, 40, 70), (1, 3, 40, 70)])
@pytest.mark.parametrize(("low", "scales"), [(0.0, None), (2.0, None), (0.0, (1.2, 1.0, 0.8)), (-1.0, None)])
def test_the_normal_product_is_that_of_both_maps_to_the_bit(low, scales, weight):
    radius_map = _map(40, 70, low, 5.0).clamp(min=0)
    if low < 0:
        radius_map[..., :24] = 0  # whole blocks
    operator = DefocusOperator(radius_map, block=24, channel_scales=scales)
    x, weight = _random((2, 3, *operator.canvas_size), 1), _random(weight, 2)
    assert torch.equal(operator.normal(x, weight), operator.adjoint(weight * operator(x)))


@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("high", [0.0, 0.4, 3.0, 9.0])
def test_flat_light_stays_flat(high, softness):
    operator = DefocusOperator(_map(30, 21, high=high), softness)
    flat = torch.full((1, 3, *operator.canvas_size), 0.7)
    torch.testing.assert_close(operator(flat), torch.full((1, 3, 30, 21), 0.7), rtol=0, atol=1e-5)


@pytest.mark.parametrize("block", [5, 16, 31])
def test_block_size_does_not_matter(block):
    radius_map = _map(45, 38)
    whole, cut = (DefocusOperator(radius_map, block=side, tolerance=0) for side in (64, block))
    x, y = _random((1, 3, *whole.canvas_size), 3), _random((1, 3, 45, 38), 4)
    assert cut.canvas_size == whole.canvas_size
    torch.testing.assert_close(cut(x), whole(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(cut.adjoint(y), whole.adjoint(y), rtol=0, atol=1e-5)


@pytest.mark.parametrize("softness", [0.0, 1.0])
@pytest.mark.parametrize("radius", [0.0, 0.75, 2.5, 5.5])
def test_constant_map_is_a_plain_convolution(radius, softness):
    assert radius in bank_radii(radius)
    operator = DefocusOperator(torch.full((1, 1, 19, 26), radius), softness)
    x = _random((1, 1, *operator.canvas_size), 5)
    psf = defocus_psf(radius, softness).numpy()
    expected = convolve2d(x[0, 0].double().numpy(), psf, mode="same")
    m = operator.margin
    cropped = expected[m : m + 19, m : m + 26]
    np.testing.assert_allclose(operator(x)[0, 0].numpy(), cropped, atol=1e-5)


def _interpolated_psf(radius, reach, softness=0.0):
    radii = bank_radii(max(radius, 1e-9))
    lower, upper = float(radii[-2]), float(radii[-1])
    share = (radius - lower) / (upper - lower)
    return (1 - share) * defocus_psf(lower, softness, reach) + share * defocus_psf(upper, softness, reach)


@pytest.mark.parametrize(("low", "high", "softness"), [(0.3, 5.0, 0.0), (0.02, 0.6, 0.5)])
def test_each_pixel_gathers_through_its_own_psf(low, high, softness):
    radius_map = _map(14, 17, low, high)
    operator = DefocusOperator(radius_map, softness, block=8, tolerance=0)
    x = _random((1, 2, *operator.canvas_size), 6, torch.float64).float()
    y, m = operator(x), operator.margin
    for row, column in [(0, 0), (3, 11), (7, 7), (13, 16), (12, 2)]:
        window = x[..., row : row + 2 * m + 1, column : column + 2 * m + 1].double()
        psf = _interpolated_psf(float(radius_map[0, 0, row, column]), m, softness)
        expected = (window * psf).sum((-2, -1))
        torch.testing.assert_close(y[..., row, column].double(), expected, rtol=0, atol=1e-5)


def test_a_point_of_light_shows_the_map_at_the_right_place_and_the_right_way_up():
    # Sharp above row 12, defocused below it, more so to the right: nothing is symmetric.
    radius_map = torch.zeros(1, 1, 24, 30)
    radius_map[..., 12:, :] = torch.linspace(2, 4, 30)
    operator = DefocusOperator(radius_map, tolerance=0)
    m = operator.margin
    x = torch.zeros(1, 1, *operator.canvas_size)
    x[..., m + 11, m + 20] = 1.0
    y = operator(x)[0, 0]
    expected = torch.zeros(24, 30, dtype=torch.float64)
    for row in range(24):
        for column in range(30):
            up, left = row - 11, column - 20
            if max(abs(up), abs(left)) <= m:
                # The light arrives at (row, column) through the PSF there; its value at minus the offset.
                expected[row, column] = _interpolated_psf(float(radius_map[0, 0, row, column]), m)[m - up, m - left]
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-6)
    assert y[11, 20] == pytest.approx(1, abs=1e-6) and y[10].abs().max() < 1e-6
    assert y[14, 20] > 0.01 and float(y[12:, 21:].sum()) != pytest.approx(float(y[12:, :20].sum()), rel=1e-2)


def _photo_like(height, width, seed):
    """A random picture whose power falls with the square of frequency, of mean 0 and variance 1."""
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    amplitude = (rows**2 + columns**2 + 1 / 64**2) ** -0.5
    amplitude[0, 0] = 0
    photo = torch.fft.irfft2(torch.fft.rfft2(_random((1, 1, height, width), seed)) * amplitude, s=(height, width))
    return photo / photo.std()


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_what_is_left_out_of_the_psfs_is_within_the_tolerance_for_photos(softness):
    radius_map = _map(150, 170, high=7.0)
    exact = DefocusOperator(radius_map, softness, tolerance=0)
    x = _photo_like(*exact.canvas_size, 9)
    for tolerance in (0.005, 0.02):
        operator = DefocusOperator(radius_map, softness, tolerance=tolerance)
        change = (operator(x) - exact(x)).std()
        assert tolerance / 20 < change < tolerance


def test_radii_between_those_of_a_map_have_no_say():
    # A step from 1 to 6 px, each side a plain convolution.
    radius_map = torch.full((1, 1, 40, 60), 1.0)
    radius_map[..., 25:] = 6.0
    operator = DefocusOperator(radius_map, tolerance=0)
    x = _random((1, 1, *operator.canvas_size), 10)
    m = operator.margin
    for columns, radius in ((slice(0, 25), 1.0), (slice(25, 60), 6.0)):
        whole = convolve2d(x[0, 0].double().numpy(), defocus_psf(radius).numpy(), mode="same")
        expected = whole[m : m + 40, m : m + 60][:, columns]
        np.testing.assert_allclose(operator(x)[0, 0, :, columns].numpy(), expected, atol=1e-5)


def test_the_largest_radius_is_taken_whatever_the_colours_make_of_it():
    radius_map = torch.full((1, 1, 4, 5), MAX_RADIUS)
    assert DefocusOperator(radius_map, channel_scales=(1.05, 1.0, 0.95)).capture_size == (4, 5)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="channel_scales must be positive and finite"):
        DefocusOperator(torch.ones(1, 1, 4, 5), channel_scales=(1.0, scale, 1.0))


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="tolerance must not be negative, got -0.1"):
        DefocusOperator(torch.ones(1, 1, 4, 5), tolerance=-0.1)


def test_light_from_the_margin_reaches_the_capture():
    operator = DefocusOperator(torch.full((1, 1, 10, 10), 3.0))
    x = torch.zeros(1, 1, *operator.canvas_size)
    x[..., operator.margin - 1, operator.margin + 5] = 1.0
    y = operator(x)[0, 0]
    assert y[0, 5] == pytest.approx(1 / (torch.pi * 9), rel=0.01)
    assert y[4:].abs().max() < 1e-6


def test_gradients_go_through_both_maps():
    operator = DefocusOperator(_map(20, 30), block=16)
    x, y = _random((1, 3, *operator.canvas_size), 1).requires_grad_(), _random((1, 3, 20, 30), 2).requires_grad_()
    for loss, by, expected in (
        ((operator(x) * y).sum(), x, operator.adjoint(y)), ((operator.adjoint(y) * x).sum(), y, operator(x))
    ):  # fmt: skip
        torch.testing.assert_close(torch.autograd.grad(loss, by)[0], expected.detach(), atol=1e-5, rtol=0)


def test_linearization_is_the_operator_itself():
    operator = DefocusOperator(_map(9, 9))
    x = _random((1, 3, *operator.canvas_size), 7)
    prediction, derivative = operator.linearize(x)
    assert torch.equal(prediction, operator(x)) and derivative is operator


@pytest.mark.parametrize(
    ("radius_map", "named"),
    [
        (torch.ones(4, 5), "shape"), (torch.ones(1, 3, 4, 5), "shape"), (torch.ones(2, 1, 4, 5), "shape"),
        (torch.full((1, 1, 4, 5), float("nan")), "finite"), (torch.full((1, 1, 4, 5), float("inf")), "finite"),
        (torch.full((1, 1, 4, 5), -0.1), "non-negative"), (torch.ones(1, 1, 0, 5), "shape"),
        (torch.full((1, 1, 4, 5), 1000.0), "up to 100 pixels, got 1000"),
    ],
)  # fmt: skip
def test_impossible_maps_are_refused(radius_map, named):
    with pytest.raises(ValueError, match=named):
        DefocusOperator(radius_map)


@pytest.mark.parametrize(("channels", "size"), [(4, 24), (3, 25)])
def test_pictures_of_other_channels_or_sizes_are_refused(channels, size):
    operator = DefocusOperator(torch.full((1, 1, 24, 24), 2.0), channel_scales=(1.05, 1.0, 0.95))
    with pytest.raises(ValueError, match="y must have"):
        operator.adjoint(torch.zeros(1, channels, size, size))
    with pytest.raises(ValueError, match="x must have"):
        operator(torch.zeros(1, channels, *(side + size - 24 for side in operator.canvas_size)))


def test_the_largest_radius_of_a_scaled_map_has_its_node():
    # In single precision 1.1 times this is more than in double precision.
    operator = DefocusOperator(torch.full((1, 1, 8, 8), 7.420848846435547), channel_scales=(1.1, 1.0, 0.9))
    assert torch.allclose(operator(torch.ones(1, 3, *operator.canvas_size)), torch.tensor(1.0), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(20, 31), (3, 40), (1, 12), (1, 1)])
def test_extension_fills_the_canvas_from_the_capture(height, width):
    operator = DefocusOperator(torch.full((1, 1, height, width), 5.0))
    y = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(8))
    canvas = operator.extend(y)
    assert canvas.shape[-2:] == operator.canvas_size
    assert torch.equal(operator.crop(canvas), y)
    assert canvas.min() >= y.min() and canvas.max() <= y.max()
    if min(height, width) > operator.margin:
        pad = [(0, 0), (0, 0), (operator.margin,) * 2, (operator.margin,) * 2]
        np.testing.assert_array_equal(canvas.numpy(), np.pad(y.numpy(), pad, mode="reflect"))


@pytest.mark.parametrize("size", [(19, 31), (20, 32), (60, 70)])
def test_captures_of_another_size_than_the_map_are_not_extended(size):
    operator = DefocusOperator(torch.full((1, 1, 20, 31), 5.0))
    with pytest.raises(ValueError, match=rf"\(20, 31\) of the map, got \({size[0]}, {size[1]}\)"):
        operator.extend(torch.zeros(1, 3, *size))
