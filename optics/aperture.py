"""PSFs of apertures that are not ideal: polygons, cat's eyes, bright rims, anisotropy, coma.

The restorer's own family (`optics.psf`) is round and has one shape parameter. Lenses differ, and the
simulator draws from this wider family so that what is learned or calibrated on it meets other shapes.

References:
    Kolb et al., A Realistic Camera Model for Computer Graphics, SIGGRAPH 1995 (vignetting of the pupil).
    Born and Wolf, Principles of Optics, 7th ed., 1999, section 5.3 (ray aberrations: coma).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

__all__ = ["Aperture", "aperture_psf"]

_SUBPIXELS = 6
_RAYS = 2  # for each subpixel along an axis,
_LEAST_RAYS = 256  # and across the pupil at least


@dataclass(frozen=True)
class Aperture:
    """Shape of a pupil, as the blur of an out-of-focus point shows it.

    Attributes:
        softness: Share of the variance that a Gaussian contributes, in [0, 1], see `optics.psf`.
        blades: Sides of the polygon, at least 3; 0 for a round aperture.
        rotation: Of the polygon, of the cut and of the coma, in radians.
        cut: Distance between the centres of the two discs whose intersection a cat's eye is, in radii, in [0, 1.5].
        rim: Brightness of the edge over that of the centre, positive; 1 is uniform.
        stretch: Ratio of the widths along and across `rotation`, positive; 1 is isotropic.
        coma: Shift along `rotation` of the rays through the sides of the pupil's rim, in radii, in [0, 1]; those
            through its ends are shifted three times as far. It is part of the shape and grows with the blur radius;
            the same over the field, for captures are small parts of it.
    """

    softness: float = 0.0
    blades: int = 0
    rotation: float = 0.0
    cut: float = 0.0
    rim: float = 1.0
    stretch: float = 1.0
    coma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.softness <= 1:
            raise ValueError(f"softness must be in [0, 1], got {self.softness}")
        if self.blades and self.blades < 3:
            raise ValueError(f"blades must be 0 or at least 3, got {self.blades}")
        if not 0 <= self.cut <= 1.5:
            raise ValueError(f"cut must be in [0, 1.5], got {self.cut}")
        if self.rim <= 0 or self.stretch <= 0:
            raise ValueError(f"rim and stretch must be positive, got {self.rim} and {self.stretch}")
        if not 0 <= self.coma <= 1:
            raise ValueError(f"coma must be in [0, 1], got {self.coma}")

    def brightness(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Light at points of the pupil plane in units of its radius, along and across the rotation."""
        distance = np.hypot(u, v)
        inside = distance <= 1
        if self.blades:
            # Within a regular polygon: nearer to the centre than the side that the point's angle meets.
            sector = 2 * math.pi / self.blades
            angle = np.mod(np.arctan2(v, u), sector) - sector / 2
            inside &= distance * np.cos(angle) <= math.cos(sector / 2)
        if self.cut:
            inside &= np.hypot(u - self.cut, v) <= 1
        return inside * (1 + (self.rim - 1) * np.clip(distance, 0, 1) ** 6)

    def landing(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays through points of the pupil plane meet the sensor, in radii: defocus alone takes (u, v) to (u, v).

        A ray is displaced by the gradient of the wavefront's error, which is coma u (u^2 + v^2).
        """
        if not self.coma:
            return u, v
        return u + self.coma * (3 * u**2 + v**2), v + self.coma * 2 * u * v


def aperture_psf(aperture: Aperture, radius: float) -> Tensor:
    """Rasterises the PSF that an aperture makes of a blur radius.

    Args:
        aperture: Its shape.
        radius: Blur radius in pixels: 2 x the root mean square of the standard deviations along the axes,
            whatever the shape. At most 0.05 is an impulse.

    Returns:
        Values that sum to 1, centred on their centre of gravity to within a subpixel, float64, shape (h, h), h odd.

    Raises:
        ValueError: If the radius is negative or not finite.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"a blur radius must be finite and non-negative, got {radius}")
    if radius <= 0.05:
        return torch.ones(1, 1, dtype=torch.float64)
    hard = radius * math.sqrt(1 - aperture.softness)
    blur_std = radius * math.sqrt(aperture.softness) / 2
    scale, centre = _normalisation(aperture)
    # The widest ray from the centre of gravity, then 3 standard deviations.
    farthest = max(1 + abs(centre), 1 + 3 * aperture.coma - centre)
    widest = farthest * hard * scale * max(aperture.stretch, 1 / aperture.stretch) ** 0.5
    side = 2 * math.ceil(widest + 3 * blur_std + 0.5) + 1
    offsets = (np.arange(side * _SUBPIXELS) + 0.5) / _SUBPIXELS - side / 2
    fine = np.zeros((len(offsets), len(offsets)))
    if hard > 0.05 and aperture.coma:
        fine = _traced(aperture, hard * scale, centre, side)
    elif hard > 0.05:
        row, column = np.meshgrid(offsets, offsets, indexing="ij")
        cos, sin = math.cos(aperture.rotation), math.sin(aperture.rotation)
        root = math.sqrt(aperture.stretch)
        u = (cos * column + sin * row) / (hard * scale * root) + centre
        v = (cos * row - sin * column) / (hard * scale / root)
        fine = aperture.brightness(u, v)
    if not fine.any():
        middle = len(offsets) // 2
        fine[middle - 1 : middle + 1, middle - 1 : middle + 1] = 1
    if blur_std > 0:
        fine = gaussian_filter(fine.astype(np.float64), blur_std * _SUBPIXELS, mode="constant", truncate=3.0)
    coarse = fine.reshape(side, _SUBPIXELS, side, _SUBPIXELS).sum(axis=(1, 3))
    return torch.from_numpy(coarse / coarse.sum())


def _traced(aperture: Aperture, radius: float, centre: float, side: int) -> np.ndarray:
    """Light of the rays that meet each subpixel, (6 side, 6 side): they cross, so that there is no way back from it."""
    count = max(_LEAST_RAYS, math.ceil(2 * radius * _SUBPIXELS * _RAYS))
    grid = (2 * np.arange(count) + 1) / count - 1
    v, u = np.meshgrid(grid, grid, indexing="ij")
    light = aperture.brightness(u, v)
    along, across = (offsets[light > 0] for offsets in aperture.landing(u, v))
    root = math.sqrt(aperture.stretch)
    along, across = (along - centre) * radius * root, across * radius / root
    cos, sin = math.cos(aperture.rotation), math.sin(aperture.rotation)
    places = sin * along + cos * across, cos * along - sin * across
    extent = [[-side / 2, side / 2]] * 2
    return np.histogram2d(*places, bins=side * _SUBPIXELS, range=extent, weights=light[light > 0])[0]


def _normalisation(aperture: Aperture) -> tuple[float, float]:
    """Factor that gives the shape the variance of the unit disk, 1/4 along an axis on average, and its centre."""
    grid = (np.arange(256) + 0.5) / 128 - 1
    v, u = np.meshgrid(grid, grid, indexing="ij")
    light = aperture.brightness(u, v)
    light = light / light.sum()
    u, v = aperture.landing(u, v)
    centre = float((light * u).sum())
    along, across = (light * (u - centre) ** 2).sum() * aperture.stretch, (light * v**2).sum() / aperture.stretch
    return math.sqrt(0.25 / ((along + across) / 2)), centre
