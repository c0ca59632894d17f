"""The overlay: a photo in grey with its blur radii in colours, and a bar that says how many pixels a colour is."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from photos.files import explained, replacing
from photos.maps import colour_maximum, map_picture
from photos.photo import Refused

__all__ = ["overlay_picture", "write_overlay"]

_LONGEST_SIDE, _SHORTEST_SIDE = 1600, 320  # of the photo's longer side as shown
_OPACITY = 0.6
_PAPER, _INK = (255, 255, 255), (30, 30, 30)
_TICKS = 4


def write_overlay(path: str | Path, picture: np.ndarray, radius_map: np.ndarray) -> None:
    """Writes the overlay as a PNG file; an old file is replaced when the new one is complete.

    Args:
        path: The file to write.
        picture: The photo, values in [0, 1], shape (H, W, 3).
        radius_map: Blur radii in pixels, shape (H, W).

    Raises:
        PhotoError: If the two do not fit each other, or the file cannot be written.
    """
    path = Path(path)
    with explained(path, "overlay"):
        overlay = overlay_picture(np.asarray(picture), np.asarray(radius_map))
    with replacing(path) as temporary:
        Image.fromarray(overlay).save(temporary, "PNG", optimize=True)


def overlay_picture(picture: np.ndarray, radius_map: np.ndarray) -> np.ndarray:
    """Draws the overlay. Large photos are shown with a longer side of 1600 pixels, small ones enlarged.

    Where the radius is 0, and nothing will be done, the photo is plain grey; from a pixel on colours are in full.

    Args:
        picture: The photo, values in [0, 1], shape (H, W, 3).
        radius_map: Blur radii in pixels, shape (H, W).

    Returns:
        sRGB picture with the bar beneath the photo, uint8, shape (h, w, 3).

    Raises:
        Refused: If the two do not fit each other.
    """
    if radius_map.ndim != 2 or picture.shape != (*radius_map.shape, 3):
        raise Refused(f"expected a photo of shape (H, W, 3) and its map, got {picture.shape} and {radius_map.shape}")
    maximum = colour_maximum(float(radius_map.max()))
    colours = map_picture(radius_map, maximum)
    grey = np.clip(picture, 0, 1) @ np.array([0.299, 0.587, 0.114], np.float32) * 255
    opacity = _OPACITY * np.minimum(radius_map, 1)[..., None]
    mixed = Image.fromarray(np.rint((1 - opacity) * grey[..., None] + opacity * colours).astype(np.uint8))
    longest = max(mixed.size)
    if longest > _LONGEST_SIDE:
        mixed.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    elif longest < _SHORTEST_SIDE:
        factor = math.ceil(_SHORTEST_SIDE / longest)
        mixed = mixed.resize((factor * mixed.width, factor * mixed.height), Image.Resampling.NEAREST)
    width = max(mixed.width, _SHORTEST_SIDE)
    bar = _bar(width, maximum)
    sheet = Image.new("RGB", (width, mixed.height + bar.height), _PAPER)
    sheet.paste(mixed, ((width - mixed.width) // 2, 0))
    sheet.paste(bar, (0, mixed.height))
    return np.asarray(sheet)


def _bar(width: int, maximum: float) -> Image.Image:
    """The colours from 0 to the maximum with their radii below."""
    size = max(12, width // 60)
    font = ImageFont.load_default(size)
    left, right, top = 2 * size, width - 2 * size, size // 2
    bar = Image.new("RGB", (width, 4 * size + top), _PAPER)
    colours = map_picture(np.linspace(0, maximum, right - left)[None].repeat(size, 0), maximum)
    bar.paste(Image.fromarray(colours), (left, top))
    draw = ImageDraw.Draw(bar)
    for step in range(_TICKS + 1):
        x = left + round(step * (right - left - 1) / _TICKS)
        draw.line([(x, top + size), (x, top + size + size // 3)], fill=_INK)
        draw.text((x, top + size + size // 3), f"{maximum * step / _TICKS:g}", _INK, font, anchor="ma")
    draw.text((width // 2, bar.height - size // 3), "blur radius (pixels)", _INK, font, anchor="md")
    return bar
