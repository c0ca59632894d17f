"""Masks: where a photo may be changed, painted in any program that saves grey, a selection or a cut-out."""

from pathlib import Path

import numpy as np

from photos.files import explained, read
from photos.photo import Photo, PhotoError, Refused, Unscaled

__all__ = ["read_mask"]

_GREY = 3 / 255  # channels that differ by no more are grey: JPEG rounds colours


def read_mask(path: str | Path) -> np.ndarray:
    """Reads a mask: 1 (white) where a photo may be changed, 0 (black) where it is kept, between them in part.

    Any PNG, TIFF or JPEG file that `photos.read` takes will do, of 1, 8 or 16 bits or floating point in [0, 1], with
    a palette or without. Where a picture is not opaque throughout its opacity is the mask, whatever its colours:
    programs save selections so. Else its grey values are.

    Args:
        path: The file.

    Returns:
        Values in [0, 1], float32, shape (H, W).

    Raises:
        PhotoError: If the file cannot be read, holds NaN or values outside [0, 1], or is an opaque picture in colours.
    """
    path = Path(path)
    photo = _read(path)
    if photo.alpha is not None and photo.alpha.min() < 1:
        return photo.alpha
    with explained(path, photo.format):
        spread = float(np.ptp(photo.pixels, axis=2).max())
        if spread > _GREY:
            raise Refused("expected a grey mask or one with transparency, got an opaque picture in colours")
    return np.ascontiguousarray(photo.pixels[..., 0])


def _read(path: Path) -> Photo:
    try:
        return read(path)
    except PhotoError as error:
        if not isinstance(error.__cause__, Unscaled):
            raise
        # A photo's range of values can be named, a mask's cannot.
        raise PhotoError(
            f"{path}: expected a mask from 0 (kept) to 1 (restored), got floating-point values "
            f"{error.__cause__.extent} (divide them by that of white, or save the mask with 8 bits)"
        ) from error
