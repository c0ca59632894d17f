"""Light: the sRGB encoding of photos, and defocus that happens in linear light.

Blur mixes light, not code values: with g the sRGB encoding (IEC 61966-2-1), a capture is
y = g(A g^-1(x)). Photos stay in the encoding here; `LinearLightDefocus` linearises the whole chain
around an estimate, so that solvers of linear problems can use it.
"""

import torch
from torch import Tensor

from optics.operator import DefocusOperator

__all__ = ["LinearLightDefocus", "LinearizedDefocus", "to_linear", "to_srgb"]

_KNEE_SRGB, _KNEE_LINEAR, _SLOPE, _GAMMA, _OFFSET = 0.04045, 0.0031308, 12.92, 2.4, 0.055


def to_linear(x: Tensor) -> Tensor:
    """SRGB code values in [0, 1] to linear light in [0, 1]; values outside continue the straight segment or curve."""
    power = ((x.clamp(min=_KNEE_SRGB) + _OFFSET) / (1 + _OFFSET)) ** _GAMMA
    return torch.where(x <= _KNEE_SRGB, x / _SLOPE, power)


def to_srgb(light: Tensor) -> Tensor:
    """Linear light in [0, 1] to sRGB code values in [0, 1]; inverse of `to_linear`."""
    power = (1 + _OFFSET) * light.clamp(min=_KNEE_LINEAR) ** (1 / _GAMMA) - _OFFSET
    return torch.where(light <= _KNEE_LINEAR, light * _SLOPE, power)


def linear_slope(x: Tensor) -> Tensor:
    """Derivative of `to_linear` at sRGB values x."""
    power = _GAMMA / (1 + _OFFSET) * ((x.clamp(min=_KNEE_SRGB) + _OFFSET) / (1 + _OFFSET)) ** (_GAMMA - 1)
    return torch.where(x <= _KNEE_SRGB, torch.full_like(x, 1 / _SLOPE), power)


def srgb_slope(light: Tensor) -> Tensor:
    """Derivative of `to_srgb` at linear values."""
    power = (1 + _OFFSET) / _GAMMA * light.clamp(min=_KNEE_LINEAR) ** (1 / _GAMMA - 1)
    return torch.where(light <= _KNEE_LINEAR, torch.full_like(light, _SLOPE), power)


class LinearizedDefocus:
    """The linear map diag(output) A diag(input), with its adjoint; shapes as in `DefocusOperator`."""

    def __init__(self, operator: DefocusOperator, input_slope: Tensor, output_slope: Tensor) -> None:
        self.operator, self.input_slope, self.output_slope = operator, input_slope, output_slope

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(self.input_slope * x).mul_(self.output_slope)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(self.output_slope * y).mul_(self.input_slope)

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        """The adjoint of W times the map of x, as of `DefocusOperator.normal`."""
        weight = self.output_slope.square().mul_(weight)
        return self.operator.normal(self.input_slope * x, weight).mul_(self.input_slope)


class LinearLightDefocus:
    """Defocus in linear light of photos kept in sRGB, in the [-1, 1] units of the prior.

    Args:
        operator: Defocus of linear light.
        steepest: Bound of the encoding's slope near black, where it would amplify noise 13 times.
    """

    def __init__(self, operator: DefocusOperator, steepest: float = 8.0) -> None:
        self.operator, self.steepest = operator, steepest

    @property
    def capture_size(self) -> tuple[int, int]:
        """Height and width of captures."""
        return self.operator.capture_size

    def __call__(self, x: Tensor) -> Tensor:
        """Blurs a sharp canvas in [-1, 1] sRGB units: (B, C, H + 2m, W + 2m) -> (B, C, H, W)."""
        return 2 * to_srgb(self.operator(to_linear((x + 1) / 2))) - 1

    def linearize(self, x: Tensor) -> tuple[Tensor, LinearizedDefocus]:
        """The prediction at x and the derivative there, with its slopes near black bounded."""
        code = (x + 1) / 2
        light = self.operator(to_linear(code))
        # The factors 2 of the two changes of units cancel.
        derivative = LinearizedDefocus(self.operator, linear_slope(code), srgb_slope(light).clamp(max=self.steepest))
        return 2 * to_srgb(light) - 1, derivative


