"""What a lens does beside the radius of its blur: the shape of the PSF, the colours' radii, the light that it mixes."""

from dataclasses import dataclass

from torch import Tensor

from optics.light import LinearLightDefocus
from optics.measured_psf import MeasuredPSF
from optics.operator import DefocusOperator

__all__ = ["DISK", "LIGHTS", "Lens"]

LIGHTS = ("srgb", "linear")

_TOLERANCE_OF_ESTIMATES = 0.02  # of the operator


@dataclass(frozen=True)
class Lens:
    """All of the model of a capture but the defocus map.

    Attributes:
        softness: PSF shape, see `optics.psf`.
        psf: Measured PSFs in place of the round ones; None for those.
        light: Where the blur happened: `srgb` (code values as stored) or `linear` (light).
        channel_scales: Factor of the blur radius in each channel; None for 1 in all.
        doubt: Error of this model as a share of what is usual where lens and map are guesses.

    Raises:
        ValueError: If the light is unknown.
    """

    softness: float = 0.0
    psf: MeasuredPSF | None = None
    light: str = "srgb"
    channel_scales: tuple[float, ...] | None = None
    doubt: float = 1.0

    def __post_init__(self) -> None:
        if self.light not in LIGHTS:
            raise ValueError(f"light must be one of {', '.join(LIGHTS)}, got {self.light!r}")

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
