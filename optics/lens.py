"""What a lens does beside the radius of its blur: the shape of the PSF, the colours' radii, the light that it mixes."""

import math
from dataclasses import dataclass
from numbers import Real

from torch import Tensor

from optics.light import LinearLightDefocus
from optics.measured_psf import MeasuredPSF
from optics.operator import DefocusOperator

__all__ = ["DISK", "LIGHTS", "Lens", "check_known_of_lens"]

LIGHTS = ("srgb", "linear")

_TOLERANCE_OF_ESTIMATES = 0.02  # of the operator


def check_known_of_lens(softness: float, psf: MeasuredPSF | None, light: str) -> None:
    """Refuses values that are none; arguments as of `Lens`.

    Raises:
        ValueError: If there is one; names what is valid.
    """
    if not _within(softness, 1):
        raise ValueError(f"softness must be in [0, 1], got {softness!r}")
    if psf is not None and not isinstance(psf, MeasuredPSF):
        raise ValueError(f"psf must be a MeasuredPSF or None, got {type(psf).__name__}")
    if light not in LIGHTS:
        raise ValueError(f"light must be one of {', '.join(LIGHTS)}, got {light!r}")


def _within(value: float, bound: float) -> bool:
    """Whether a value is a finite number from 0 to a bound."""
    return isinstance(value, Real) and math.isfinite(value) and 0 <= value <= bound


@dataclass(frozen=True)
class Lens:
    """All of the model of a capture but the defocus map.

    Attributes:
        softness: PSF shape in [0, 1], see `optics.psf`.
        psf: Measured PSFs in place of the round ones; None for those.
        light: Where the blur happened: `srgb` (code values as stored) or `linear` (light).
        channel_scales: Factor of the blur radius in each channel, positive; None for 1 in all.
        doubt: Error of this model as a share of what is usual where lens and map are guesses; non-negative.

    Raises:
        ValueError: If the light is unknown, the PSFs are no `MeasuredPSF`, or a number is out of its range.
    """

    softness: float = 0.0
    psf: MeasuredPSF | None = None
    light: str = "srgb"
    channel_scales: tuple[float, ...] | None = None
    doubt: float = 1.0

    def __post_init__(self) -> None:
        check_known_of_lens(self.softness, self.psf, self.light)
        scales = self.channel_scales
        if scales is not None and not all(_within(scale, math.inf) and scale > 0 for scale in scales):
            raise ValueError(f"channel_scales must be positive and finite, got {scales!r}")
        if not _within(self.doubt, math.inf):
            raise ValueError(f"doubt must be finite and non-negative, got {self.doubt!r}")

    def operator(self, radius_map: Tensor, *, estimated: bool = False) -> DefocusOperator:
        """The blur of a defocus map in pixels, shape (1, 1, H, W), as a linear map of sRGB values or of light.

        Of a map that is estimated the PSFs need not be as exact, which saves a fifth of the time or more.
        """
        options = {"tolerance": _TOLERANCE_OF_ESTIMATES} if estimated else {}
        return DefocusOperator(radius_map, self.softness, psf=self.psf, channel_scales=self.channel_scales, **options)

    def model(self, operator: DefocusOperator) -> DefocusOperator | LinearLightDefocus:
        """What an operator of this lens does to sRGB values in [-1, 1]."""
        return operator if self.light == "srgb" else LinearLightDefocus(operator)


DISK = Lens()
"""The ideal round aperture, with blur in sRGB values as stored."""
