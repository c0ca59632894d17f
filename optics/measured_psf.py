"""PSFs as they were measured: one kernel, or a grid of them over the field of view.

A calibration shows the blur at one distance. At another distance the same aperture makes the same figure
of another size; a measured kernel therefore serves every blur radius by scaling, and between the places
where kernels were measured they are interpolated.

References:
    Xin et al., Defocus Map Estimation and Deblurring from a Single Dual-Pixel Image, ICCV 2021 (scaling
    of measured kernels with distance).
"""

import math
from copy import copy
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

__all__ = ["MeasuredPSF", "read_measured_psf"]

_IMPULSE = 0.05  # pixels; a smaller blur radius is none
_SAMPLES = 6  # per pixel of the result, and twice per pixel of the measurement
_PIXEL_VARIANCE = 1 / 12  # square pixels; what a pixel's own width adds to a PSF's variance along an axis
_LINE_VARIANCE = 1 / 6  # square pixels; what linear interpolation between pixels adds
_NEGLIGIBLE = 1e-3  # share of a kernel's light that its tails may lose


class MeasuredPSF:
    """Measured kernels, scaled to any blur radius; immutable.

    Each kernel is centred on its centre of gravity, and its blur radius is 2 x the root mean square of
    its standard deviations along the axes, as everywhere.

    Args:
        kernels: Light in pixels, shape (h, w) for the whole field, or (rows, columns, h, w): kernel (i, j)
            belongs to the middle of cell (i, j) of a grid over the picture. Scaled to sum 1.

    Raises:
        ValueError: If the shape is another, values are negative or not finite, or a kernel holds no light.
    """

    def __init__(self, kernels: np.ndarray) -> None:
        kernels = np.asarray(kernels, dtype=np.float64)
        if kernels.ndim == 2:
            kernels = kernels[None, None]
        if kernels.ndim != 4 or kernels.size == 0:
            raise ValueError(f"PSFs must have shape (h, w) or (rows, columns, h, w), got {kernels.shape}")
        if not np.isfinite(kernels).all() or kernels.min() < 0:
            raise ValueError("PSFs must hold finite, non-negative light")
        light = kernels.sum((-2, -1), keepdims=True)
        if not light.all():
            raise ValueError("every PSF must hold light, got one without")
        kernels = kernels / light
        self.grid = kernels.shape[:2]
        self._cells = [[_Kernel(kernel) for kernel in row] for row in kernels]
        self._seen = (0.0, 1.0), (0.0, 1.0)

    def part(self, rows: tuple[float, float], columns: tuple[float, float]) -> "MeasuredPSF":
        """The PSFs of a part of the picture, from where to where as shares of its height and width."""
        part = copy(self)
        part._seen = tuple(
            (first + low * (last - first), first + high * (last - first))
            for (first, last), (low, high) in zip(self._seen, (rows, columns), strict=True)
        )
        return part

    def reach(self, radius: float) -> int:
        """Pixels from the centre to the edge of the support that every kernel has at a blur radius."""
        if radius <= _IMPULSE:
            return 0
        return math.ceil(max(cell.relative_reach for row in self._cells for cell in row) * radius + 0.5)

    def kernel(self, radius: float, position: tuple[float, float] = (0.5, 0.5)) -> Tensor:
        """The PSF of a blur radius at a place of the picture.

        Args:
            radius: Blur radius in pixels.
            position: Row and column as shares of the picture's height and width, in [0, 1].

        Returns:
            Values that sum to 1, float64, shape (2 reach + 1, 2 reach + 1).

        Raises:
            ValueError: If the radius is negative or not finite.
        """
        if not (math.isfinite(radius) and radius >= 0):
            raise ValueError(f"a blur radius must be finite and non-negative, got {radius}")
        if radius <= _IMPULSE:
            return torch.ones(1, 1, dtype=torch.float64)
        reach, result = self.reach(radius), 0.0
        position = [first + share * (last - first) for (first, last), share in zip(self._seen, position, strict=True)]
        for row, row_share in _neighbours(position[0], self.grid[0]):
            for column, column_share in _neighbours(position[1], self.grid[1]):
                result = result + row_share * column_share * self._cells[row][column].scaled(radius, reach)
        return torch.from_numpy(result)


class _Kernel:
    """One measured kernel: its light as a function of the distance from its centre of gravity."""

    def __init__(self, kernel: np.ndarray) -> None:
        rows, columns = (np.arange(side, dtype=np.float64) for side in kernel.shape)
        self.centre = float(kernel.sum(1) @ rows), float(kernel.sum(0) @ columns)
        distances = (rows - self.centre[0])[:, None] ** 2, (columns - self.centre[1]) ** 2
        variance = float((kernel * (distances[0] + distances[1])).sum()) / 2
        if variance <= 2 * _PIXEL_VARIANCE:
            raise ValueError("a measured PSF must be wider than a pixel, for it is scaled to the blur radius")
        # The pixels of the measurement are in it for good, and lines between their middles widen it once more.
        self.radius = 2 * math.sqrt(variance + _LINE_VARIANCE)
        # Where a border of the measurement is all but dark it is no part of the support.
        span = np.sqrt(np.maximum(*np.broadcast_arrays(*distances)))
        order = np.argsort(span, axis=None)
        lit = int(np.searchsorted(np.cumsum(kernel.ravel()[order]), 1 - _NEGLIGIBLE))
        self.relative_reach = (span.ravel()[order][min(lit, kernel.size - 1)] + 0.5) / self.radius
        self.kernel = kernel

    def scaled(self, radius: float, reach: int) -> np.ndarray:
        """Integrals over pixels of the kernel that is scaled to a blur radius, on 2 reach + 1 pixels a side."""
        scale = self.radius / radius
        samples = max(_SAMPLES, math.ceil(2 * scale))
        side = 2 * reach + 1
        offsets = ((np.arange(side * samples) + 0.5) / samples - side / 2) * scale
        positions = np.meshgrid(*(offsets + middle for middle in self.centre), indexing="ij")
        fine = map_coordinates(self.kernel, positions, order=1, mode="grid-constant")
        pixels = fine.reshape(side, samples, side, samples).sum((1, 3))
        return pixels / pixels.sum()


def _neighbours(position: float, cells: int) -> list[tuple[int, float]]:
    """The one or two cells next to a place, with their shares by linear interpolation between cells' middles."""
    place = min(max(position * cells - 0.5, 0.0), cells - 1.0)
    lower = min(int(place), cells - 1)
    share = place - lower
    return [(lower, 1.0)] if share == 0 else [(lower, 1 - share), (lower + 1, share)]


def read_measured_psf(file: str | Path, grid: tuple[int, int] | None = None) -> MeasuredPSF:
    """Reads PSFs from a NumPy file.

    Args:
        file: `.npy` file of shape (h, w), (rows, columns, h, w), or, with `grid`, (rows columns, h, w).
        grid: Rows and columns of a file of K kernels, row by row; of another file None, or what it has.

    Raises:
        ValueError: If it cannot be read or holds something else; the message names the file.
    """
    try:
        # Mapped, for a header may promise more than any memory holds; only arrays can be, and no archives.
        kernels = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(kernels, np.ndarray):
            kernels.close()
            raise ValueError("an archive")
        if kernels.dtype.kind not in "fiu":
            raise ValueError(f"an array of {kernels.dtype}")
        kernels = np.array(kernels)
    except (OSError, ValueError, EOFError, BadZipFile, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected a NumPy file of PSFs, an array of numbers, got {reason}") from None
    if kernels.ndim == 3:
        if grid is None or grid[0] * grid[1] != len(kernels):
            got = "no grid" if grid is None else f"a grid of {grid[0]} x {grid[1]}"
            raise ValueError(f"{file}: expected the rows and columns of the grid of its {len(kernels)} PSFs, got {got}")
        kernels = kernels.reshape(*grid, *kernels.shape[1:])
    elif grid is not None and kernels.ndim in (2, 4):
        own = (1, 1) if kernels.ndim == 2 else kernels.shape[:2]
        if grid != own:
            raise ValueError(
                f"{file}: expected a grid of {own[0]} x {own[1]}, which the file has, got one of {grid[0]} x {grid[1]}"
            )
    try:
        return MeasuredPSF(kernels)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
