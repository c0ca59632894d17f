"""Point spread functions of a defocused lens.

One family with one shape parameter connects the ideal aperture (a disk) and the Gaussian: the disk of
radius r sqrt(1 - s), convolved with a Gaussian of standard deviation r sqrt(s) / 2, where s in [0, 1]
is the `softness`. Its standard deviation along each axis is r / 2 for every s, so that a radius means
the same amount of blur whatever the shape. Values are integrals over pixels.
"""

import math

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

__all__ = ["PSF_SOFTNESS", "bank_radii", "defocus_psf", "psf_bank", "psf_reach"]

PSF_SOFTNESS = {"disk": 0.0, "disk-gaussian": 0.3, "gaussian": 1.0}
"""Softness of the named PSF shapes."""

_SUBPIXELS = 8


def psf_reach(radius: float, softness: float = 0.0) -> int:
    """Pixels from the centre of a PSF to the edge of its support: the disk, then 3 standard deviations."""
    return math.ceil(radius * math.sqrt(1 - softness) + 3 * radius * math.sqrt(softness) / 2)


def defocus_psf(radius: float, softness: float = 0.0, reach: int | None = None) -> Tensor:
    """Rasterises the PSF of one blur radius.

    Args:
        radius: Blur radius in pixels: 2 x the standard deviation along an axis; for a disk, its radius.
        softness: 0 for a disk, 1 for a Gaussian, between them for their convolution.
        reach: Pixels from the centre to the edge; `psf_reach` by default.

    Returns:
        Values that sum to 1, float64, shape (2 reach + 1, 2 reach + 1).

    Raises:
        ValueError: If the radius is negative or not finite, or softness is outside [0, 1].
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"a blur radius must be finite and non-negative, got {radius}")
    if not 0 <= softness <= 1:
        raise ValueError(f"softness must be in [0, 1], got {softness}")
    reach = psf_reach(radius, softness) if reach is None else reach
    side = 2 * reach + 1
    disk_radius, blur_std = radius * math.sqrt(1 - softness), radius * math.sqrt(softness) / 2
    fine = _disk_coverage(disk_radius, side) if disk_radius > 0 else _impulse(side)
    spread = _gaussian_shares(side, blur_std)
    coarse = spread @ fine @ spread.T
    return torch.from_numpy(coarse / coarse.sum())


def bank_radii(largest: float) -> Tensor:
    """Radii of a bank for maps up to `largest` pixels, where linear interpolation between them is accurate.

    Spacing is 0.25 px below 2 px, 0.5 px to 6 px and about 8 % beyond.

    Returns:
        Increasing radii from 0 to at least `largest`, float64, shape (K,).
    """
    radii = [0.0]
    while radii[-1] < largest:
        last = radii[-1]
        step = 0.25 if last < 2 else 0.5 if last < 6 else 0.08 * last
        radii.append(last + step)
    return torch.tensor(radii, dtype=torch.float64)


def psf_bank(radii: Tensor, softness: float = 0.0) -> Tensor:
    """PSFs of several radii on the support of the largest: (K,) -> (K, h, w), float64, each summing to 1."""
    reach = psf_reach(float(radii.max()), softness)
    return torch.stack([defocus_psf(float(radius), softness, reach) for radius in radii])


def _gaussian_shares(side: int, std: float) -> np.ndarray:
    """Share of the light of each subpixel's centre that a Gaussian blur brings to each pixel: (side, 8 side)."""
    subpixels = (np.arange(side * _SUBPIXELS) + 0.5) / _SUBPIXELS
    distance = np.arange(side + 1)[:, None] - subpixels
    if std > 0:
        # Integrated over pixels, which stays exact for a Gaussian narrower than a subpixel.
        return np.diff(ndtr(distance / std), axis=0)
    return np.diff((distance > 0).astype(float), axis=0)


def _impulse(side: int) -> np.ndarray:
    # A point of light seen by a pixel that integrates over its area: a delta at the centre subpixels.
    fine = np.zeros((side * _SUBPIXELS, side * _SUBPIXELS))
    centre = side * _SUBPIXELS // 2
    fine[centre - 1 : centre + 1, centre - 1 : centre + 1] = 0.25
    return fine


def _disk_coverage(radius: float, side: int) -> np.ndarray:
    """Area of a disk within each subpixel, exact vertically and by 4 points horizontally."""
    count = side * _SUBPIXELS
    edges = (np.arange(count + 1) - count / 2) / _SUBPIXELS
    points = 4
    columns = (np.arange(count * points) + 0.5) / (points * _SUBPIXELS) - side / 2
    half_chord = np.sqrt(np.clip(radius**2 - columns**2, 0, None))
    # The chord of each column, cut by the rows: cumulative length below each row edge.
    below = np.clip(edges[:, None], -half_chord, half_chord) + half_chord
    return np.diff(below, axis=0).reshape(count, count, points).mean(axis=2)
