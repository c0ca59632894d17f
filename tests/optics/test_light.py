"""The sRGB encoding and defocus of linear light."""

import pytest
import torch

from optics import DefocusOperator, LinearLightDefocus, to_linear, to_srgb
from optics.light import linear_slope, srgb_slope


def test_known_values():
    # IEC 61966-2-1: the end points, the knee, and middle grey (0.5 -> 0.21404).
    codes = torch.tensor([0.0, 1.0, 0.04045, 0.5, 0.02], dtype=torch.float64)
    light = torch.tensor([0.0, 1.0, 0.0031308, 0.2140411, 0.02 / 12.92], dtype=torch.float64)
    torch.testing.assert_close(to_linear(codes), light, rtol=0, atol=1e-7)
    torch.testing.assert_close(to_srgb(light), codes, rtol=0, atol=1e-6)


def test_encoding_and_decoding_are_inverse():
    codes = torch.linspace(-0.1, 1.2, 2001, dtype=torch.float64)
    torch.testing.assert_close(to_srgb(to_linear(codes)), codes, rtol=0, atol=1e-7)
    assert (to_linear(codes).diff() > 0).all()


@pytest.mark.parametrize(("function", "slope"), [(to_linear, linear_slope), (to_srgb, srgb_slope)])
def test_slopes_are_the_derivatives(function, slope):
    values = torch.cat([torch.linspace(-0.05, 0.03, 50), torch.linspace(0.05, 1.1, 200)]).double().requires_grad_()
    # The two pieces of the encoding meet within rounding of the standard's constants.
    gradient = torch.autograd.grad(function(values).sum(), values)[0]
    torch.testing.assert_close(slope(values.detach()), gradient, rtol=1e-9, atol=0)


@pytest.fixture(scope="module")
def operator():
    ramp = torch.linspace(0.5, 3.0, 15).expand(1, 1, 12, 15)
    return DefocusOperator(ramp)


def _canvas(operator, seed=0, low=-0.8, high=0.9):
    uniform = torch.rand((1, 3, *operator.canvas_size), generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * uniform


def test_blur_mixes_light_not_code_values(operator):
    x = _canvas(operator)
    expected = 2 * to_srgb(operator(to_linear((x + 1) / 2))) - 1
    y = LinearLightDefocus(operator)(x)
    torch.testing.assert_close(y, expected)
    # Half black, half white light is brighter than middle grey.
    assert (y - operator(x)).mean() > 0.02


def test_flat_pictures_keep_their_value(operator):
    flat = torch.full((1, 3, *operator.canvas_size), -0.3)
    torch.testing.assert_close(LinearLightDefocus(operator)(flat), torch.full((1, 3, 12, 15), -0.3), rtol=0, atol=1e-5)


def test_derivative_predicts_small_changes(operator):
    model = LinearLightDefocus(operator, steepest=13.0)
    x, direction = _canvas(operator), _canvas(operator, seed=1, low=-1, high=1)
    prediction, derivative = model.linearize(x)
    torch.testing.assert_close(prediction, model(x))
    step = 1e-2
    difference = (model(x + step * direction) - model(x - step * direction)) / (2 * step)
    torch.testing.assert_close(derivative(direction), difference, rtol=0, atol=2e-3)
    assert difference.abs().mean() > 0.05


def test_adjoint_of_the_derivative_is_exact(operator):
    _, derivative = LinearLightDefocus(operator).linearize(_canvas(operator))
    x = _canvas(operator, seed=2, low=-1, high=1)
    y = torch.randn(1, 3, 12, 15, generator=torch.Generator().manual_seed(3))
    forward, backward = (derivative(x) * y).sum(), (x * derivative.adjoint(y)).sum()
    assert abs(float(forward - backward)) < 1e-5 * float(derivative(x).norm() * y.norm())
    weight = torch.rand(1, 1, 12, 15, generator=torch.Generator().manual_seed(4))
    expected = derivative.adjoint(weight * derivative(x))
    torch.testing.assert_close(derivative.normal(x, weight), expected, rtol=0, atol=1e-5)


def test_slope_near_black_is_bounded(operator):
    black = torch.full((1, 3, *operator.canvas_size), -1.0)
    impulse = torch.ones_like(black)
    _, bounded = LinearLightDefocus(operator, steepest=8.0).linearize(black)
    _, free = LinearLightDefocus(operator, steepest=100.0).linearize(black)
    # The slopes of decoding (1 / 12.92) and encoding (12.92) cancel unless the latter is bounded.
    torch.testing.assert_close(free(impulse), torch.ones(1, 3, 12, 15), rtol=0, atol=1e-4)
    torch.testing.assert_close(bounded(impulse), torch.full((1, 3, 12, 15), 8 / 12.92), rtol=0, atol=1e-4)
