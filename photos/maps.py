"""Maps: one number per pixel in a file. Of blur radii in pixels, also shown in colours; of distances of a scene."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from photos import png, tiff
from photos.files import explained, file_bytes, format_of, replacing, strict_decoding
from photos.photo import MAX_PIXELS, PhotoError, Refused

__all__ = ["COLOURS", "colour_maximum", "map_picture", "read_distances", "read_map", "write_map"]

COLOURS = (
    (16, 14, 44), (43, 30, 96), (60, 66, 134), (49, 104, 142), (33, 140, 141), (52, 174, 121), (122, 202, 84),
    (196, 221, 64), (252, 236, 130),
)  # fmt: skip
"""From none to all: sRGB colours of steadily growing lightness, also for readers who see fewer colours."""


def write_map(path: str | Path, values: np.ndarray) -> None:
    """Writes a map as a float32 TIFF file; an old file is replaced when the new one is complete.

    Args:
        path: The file to write; its name ends in .tif or .tiff.
        values: Blur radii in pixels, shape (H, W).

    Raises:
        PhotoError: If the name has another suffix, the values are no map, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise PhotoError(f"{path}: expected a name that ends in .tif or .tiff for a map, got {path.suffix!r}")
    with explained(path, "map"):
        values = _checked(np.asarray(values))
    with replacing(path) as temporary:
        # With compression a map of large sharp regions takes little space. The description is for later amendment.
        tifffile.imwrite(
            temporary, values, photometric="minisblack", compression="zlib", metadata=None, software=False,
            description="map",
        )  # fmt: skip


def read_map(path: str | Path) -> np.ndarray:
    """Reads a map of blur radii.

    Args:
        path: A grey TIFF file of floating-point or integer numbers, a grey PNG file, or a NumPy file (.npy). Its
            numbers are radii in pixels as they are.

    Returns:
        Blur radii in pixels, float32, shape (H, W).

    Raises:
        PhotoError: If the file cannot be read, is no grey picture, or holds negative or non-finite numbers.
    """
    return _read(Path(path), _checked)


def read_distances(path: str | Path) -> np.ndarray:
    """Reads the distances of a scene.

    Args:
        path: A file as of `read_map`, of distances in any unit; NaN and 0 where none is known.

    Returns:
        Distances, float32, shape (H, W): positive or infinite, NaN where the file has NaN or 0.

    Raises:
        PhotoError: If the file cannot be read, is no grey picture, or holds negative numbers or no distance at all.
    """
    return _read(Path(path), _checked_distances)


def _read(path: Path, checked: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    data = file_bytes(path)
    kind = format_of(data)
    with explained(path, kind), strict_decoding():
        if kind == "TIFF":
            samples = tiff.read_samples(data)
        elif kind == "PNG":
            if png.header(data).depth < 8:
                raise Refused("expected a map of 8 or 16 bits, got fewer")
            samples = png.decode(data).samples
        elif kind == "NumPy":
            # Mapped, a file that promises more numbers than it holds is refused before memory is taken.
            samples = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            raise Refused(f"expected a map in a TIFF, PNG or NumPy file, got {kind}")
        if samples.ndim == 3 and samples.shape[2] == 1:
            samples = samples[..., 0]
        return checked(samples)


def _checked(values: np.ndarray) -> np.ndarray:
    """A map of radii as float32, shape (H, W), or Refused."""
    values = _numbers(values)
    if not np.isfinite(values).all():
        raise Refused("expected finite radii, got NaN or infinity")
    if values.min() < 0:
        raise Refused(f"expected radii of at least 0 pixels, got {values.min():.6g}")
    return values


def _checked_distances(values: np.ndarray) -> np.ndarray:
    """A map of distances as float32, shape (H, W), NaN where unknown, or Refused."""
    values = _numbers(values)
    values[values == 0] = np.nan
    if np.isnan(values).all():
        raise Refused("expected positive distances, got none but 0 and NaN, which stand for unknown ones")
    if np.nanmin(values) < 0:
        raise Refused(f"expected positive distances, got {np.nanmin(values):.6g}")
    return values


def _numbers(values: np.ndarray) -> np.ndarray:
    """One real number per pixel as float32, shape (H, W), or Refused."""
    if values.dtype.kind not in "fiu":
        raise Refused(f"expected a map of real numbers, got {values.dtype}")
    if values.ndim != 2 or values.size == 0:
        raise Refused(f"expected a grey map of shape (H, W), got {values.shape}")
    if values.size > MAX_PIXELS:
        raise Refused(f"expected at most {MAX_PIXELS} pixels, got {values.shape[1]} x {values.shape[0]}")
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def colour_maximum(largest: float) -> float:
    """The end of a colour scale: the first of 1, 2, 4, 6, 8, 10, 12, 16, 20 ... that is not below the largest."""
    steps = (1, 2, 4, 6, 8, 10, 12, 16, 20)
    return float(next((step for step in steps if step >= largest), 10 * math.ceil(largest / 10)))


def map_picture(values: np.ndarray, maximum: float) -> np.ndarray:
    """Shows a map in colours, from dark (0) to bright (the maximum).

    Args:
        values: Blur radii in pixels, shape (H, W).
        maximum: Radius of the brightest colour in pixels; larger radii share it.

    Returns:
        sRGB picture, uint8, shape (H, W, 3).

    Raises:
        ValueError: If the maximum is not positive and finite.
    """
    if not (np.isfinite(maximum) and maximum > 0):
        raise ValueError(f"maximum must be positive and finite, got {maximum}")
    table = np.array(COLOURS, np.float32)
    steps = np.linspace(0, len(table) - 1, 256)
    fine = np.stack([np.interp(steps, np.arange(len(table)), table[:, channel]) for channel in range(3)], axis=1)
    index = np.rint(np.clip(np.asarray(values, np.float32) / maximum, 0, 1) * 255).astype(np.uint8)
    return np.rint(fine).astype(np.uint8)[index]
