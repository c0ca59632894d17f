"""The simulated protocol: sharp photos defocused by known radius maps, with noise and 8-bit rounding.

x is the CROP x CROP centre crop of a photo (offset floor((side - CROP) / 2)); the blur reads the real
pixels around it, so that x and y have the same size. Every pixel of y uses a disk of its own: each
source pixel weighs the fraction of its 16 x 16 subpixels whose centres lie within the radius of the
centre of the pixel of y, normalised to a sum of 1. (A radius below the nearest subpixel centre,
0.044 px, leaves the pixel as it is.) Neither radii nor disks are interpolated: nothing is shared with
the operator of a restorer. Values are sRGB as stored, blurred in float64.

Radius maps at pixel centres, with u = (column + 0.5) / CROP and d the distance to the centre, in pixels:

    ramp      6 u
    step      1 + 4 clip((d - 73.44) / 8 + 0.5, 0, 1)
    constant  3

The noise of photo i (its place in the sorted folder) and map j (0, 1, 2 in the order above) is
0.01 x `numpy.random.default_rng([0, i, j]).standard_normal((CROP, CROP, 3))`; the sum is clipped to
[0, 1] and rounded to 8 bits.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from evaluation.captures import Capture
from photos import find_photos, read

__all__ = [
    "CROP", "NOISE_STD", "RADIUS_MAPS", "Simulation", "defocus", "radius_map", "simulations",
]  # fmt: skip

CROP = 272
"""Side of x and y in pixels."""

NOISE_STD = 0.01
"""Standard deviation of the noise, for values in [0, 1]."""

_SUBPIXELS = 16
_ROWS_AT_ONCE = 4096

RADIUS_MAPS = {
    "ramp": lambda u, d: 6 * u,
    "step": lambda u, d: 1 + 4 * np.clip((d - 73.44) / 8 + 0.5, 0, 1),
    "constant": lambda u, d: np.full_like(u, 3.0),
}
"""Blur radius in pixels as a function of u and d; the order fixes the noise."""


@dataclass(frozen=True)
class Simulation:
    """One capture to simulate.

    Attributes:
        file: Sharp photo.
        name: Path of the photo in its folder, without its suffix.
        set_name: Name of the folder.
        index: Place of the photo in the sorted folder, which seeds the noise.
        map_name: Key of `RADIUS_MAPS`.
    """

    file: Path
    name: str
    set_name: str
    index: int
    map_name: str

    def capture(self) -> Capture:
        """Simulates it: pictures of shape (1, 3, CROP, CROP) in steps of 1/255, in the group of its radius map.

        Raises:
            ValueError: If the photo is too small or not of 8 bits.
        """
        stored = read(self.file)
        if stored.bit_depth != 8:
            raise ValueError(f"{self.file}: expected a photo of 8 bits per channel, got {stored.bit_depth}")
        photo = np.rint(255 * stored.pixels).astype(np.uint8)
        radii = radius_map(self.map_name)
        try:
            blurred = defocus(photo / 255, radii)
        except ValueError as error:
            raise ValueError(f"{self.file}: {error}") from None
        number = list(RADIUS_MAPS).index(self.map_name)
        noise = np.random.default_rng([0, self.index, number]).standard_normal(blurred.shape)
        y = np.rint(255 * np.clip(blurred + NOISE_STD * noise, 0, 1)).astype(np.uint8)
        x = _centre(photo, (CROP, CROP))
        radii = torch.from_numpy(radii).float()[None, None]
        return Capture(self.set_name, self.map_name, self.name, _tensor(y), _tensor(x), radii)


def simulations(folder: str | Path, count: int | None = 24, stride: int = 1) -> list[Simulation]:
    """The captures of the protocol on photos of a folder: every radius map, photo by photo; nothing is read yet.

    Args:
        folder: Folder of sharp photos, at least a little larger than CROP on both sides; searched recursively.
        count: Number of photos, in the order of their paths, or all there are; None for all.
        stride: Takes every stride-th photo, for tuning on a spread of a training folder.

    Raises:
        ValueError: If there is no such folder or it holds no photo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected a folder of sharp photos, got {folder}")
    if stride < 1 or (count is not None and count < 1):
        raise ValueError(f"count and stride must be at least 1, got {count} and {stride}")
    return [
        Simulation(file, file.relative_to(folder).with_suffix("").as_posix(), folder.resolve().name, index, name)
        for index, file in list(enumerate(find_photos(folder)))[::stride][:count]
        for name in RADIUS_MAPS
    ]


def radius_map(name: str) -> np.ndarray:
    """Blur radius in pixels of one of `RADIUS_MAPS`, float64, shape (CROP, CROP)."""
    centres = np.arange(CROP) + 0.5
    row, column = np.meshgrid(centres, centres, indexing="ij")
    return RADIUS_MAPS[name](column / CROP, np.sqrt((row - CROP / 2) ** 2 + (column - CROP / 2) ** 2))


def defocus(photo: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Blurs the centre of a photo, each pixel with the disk of its own radius.

    Args:
        photo: Sharp values, shape (H, W, C).
        radii: Blur radius in pixels of each pixel of the centre, finite, non-negative, shape (h, w).

    Returns:
        Blurred centre, float64, shape (h, w, C).

    Raises:
        ValueError: If the photo is smaller than the centre and the reach of the largest disk around it.
    """
    margin = _reach(float(radii.max()))
    height, width = radii.shape
    source = _centre(np.asarray(photo, dtype=np.float64), radii.shape, margin)
    blurred = np.empty((height * width, photo.shape[2]))
    # Pixels of exactly equal radius share a disk: sorted, they form runs.
    unique, inverse = np.unique(radii, return_inverse=True)
    order = np.argsort(inverse, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(inverse.ravel()))
    for radius, pixels in zip(unique, np.split(order, ends[:-1]), strict=True):
        disk = _disk(float(radius))
        side, start = len(disk), margin - _reach(float(radius))
        windows = sliding_window_view(source, (side, side), axis=(0, 1))  # (rows, columns, C, side, side)
        for chunk in np.split(pixels, range(_ROWS_AT_ONCE, len(pixels), _ROWS_AT_ONCE)):
            row, column = np.divmod(chunk, width)
            gathered = windows[row + start, column + start]
            blurred[chunk] = gathered.reshape(len(chunk), photo.shape[2], -1) @ disk.ravel()
    return blurred.reshape(height, width, -1)


def _reach(radius: float) -> int:
    """Pixels from the centre of a disk to the last that it may touch, whose near edge is half a pixel nearer."""
    return math.floor(radius + 0.5)


@lru_cache(maxsize=2048)
def _disk(radius: float) -> np.ndarray:
    side = 2 * _reach(radius) + 1
    offsets = (np.arange(side * _SUBPIXELS) + 0.5) / _SUBPIXELS - side / 2
    inside = offsets[:, None] ** 2 + offsets**2 <= radius**2
    disk = inside.reshape(side, _SUBPIXELS, side, _SUBPIXELS).mean(axis=(1, 3))
    # Too small to hold a subpixel's centre: the limit is the pixel itself.
    return disk / disk.sum() if disk.any() else np.ones((1, 1))


def _centre(photo: np.ndarray, size: tuple[int, int], margin: int = 0) -> np.ndarray:
    """The centre crop of a photo and `margin` pixels around it."""
    corner = [(side - core) // 2 - margin for side, core in zip(photo.shape, size, strict=False)]
    extent = [core + 2 * margin for core in size]
    if any(c < 0 or c + e > side for c, e, side in zip(corner, extent, photo.shape, strict=False)):
        raise ValueError(
            f"a photo of {photo.shape[0]} x {photo.shape[1]} pixels is too small for the centre crop of "
            f"{size[0]} x {size[1]} and {margin} pixels around it for the largest disk"
        )
    return photo[corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1]]


def _tensor(picture: np.ndarray) -> Tensor:
    """8-bit picture to [0, 1]: (H, W, 3) -> (1, 3, H, W), float32."""
    return torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32)) / 255
