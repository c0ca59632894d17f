"""From the files of one capture to its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from evaluation.captures import Capture
from photos import read
from photos.metadata import exif_orientation
from photos.photo import Photo, upright

if TYPE_CHECKING:
    from evaluation.paired_sets.paired_set import PairFiles

__all__ = ["GREY_BORDER", "read_capture", "read_linear_grey"]

GREY_BORDER = 20
"""Pixels along each edge of a half-size linear grey capture that no figure counts."""

# Turning back a quarter turn takes the other quarter turn; every other orientation undoes itself.
_INVERSE = {6: 8, 8: 6}


def read_capture(files: PairFiles) -> Capture:
    """Reads a capture, its references and its mask as they are stored.

    Pictures of more than 8 bits keep their depth: `Capture.bits` is 16 then.

    Raises:
        ValueError: If a file cannot be read, or has another size than the capture.
    """
    photo = read(files.capture)
    y = _tensor(photo)

    def companion(file: Path | None) -> Tensor | None:
        return None if file is None else _same_size(_tensor(read(file)), file, y, files.capture)

    mask = companion(files.mask)
    return Capture(
        set_name=files.set_name, group=files.group, name=files.name, y=y, x=companion(files.reference),
        mask=None if mask is None else mask[:, :1] > 0.5, other_focus=companion(files.other_focus),
        bits=8 if photo.bit_depth == 8 else 16,
    )  # fmt: skip


def read_linear_grey(files: PairFiles) -> Capture:
    """Reads a 16-bit linear grey capture and its reference at half size, as they are looked at.

    With w the 99.8th percentile of the half-size reference, both are clip(v / w, 0, 1)^(1 / 2.2), repeated to three
    channels; a border of 20 pixels is left out of every figure. Restored pictures keep 16 bits, as the capture has.

    Raises:
        ValueError: If a file cannot be read or is no 16-bit grey picture, or the sizes differ.
    """
    y, x = _half_size(files.capture), _half_size(files.reference)
    _same_size(x, files.reference, y, files.capture)
    white = float(np.percentile(x.numpy(), 99.8))
    if white <= 0:
        raise ValueError(f"{files.reference}: expected a reference with light in it, got a black one")
    y, x = (_encoded(light, white) for light in (y, x))
    return Capture(files.set_name, files.group, files.name, y, x, border=GREY_BORDER, bits=16)


def _encoded(light: Tensor, white: float) -> Tensor:
    """Linear grey (1, 1, H, W) as a picture in [0, 1], (1, 3, H, W)."""
    return (light / white).clamp(0, 1).pow(1 / 2.2).float().repeat(1, 3, 1, 1)


def _half_size(file: Path) -> Tensor:
    """Means of 2 x 2 pixels of a 16-bit grey picture: (1, 1, H // 2, W // 2), float64."""
    photo = read(file)
    if photo.layout != "L" or photo.bit_depth != 16:
        raise ValueError(f"{file}: expected a 16-bit grey picture, got {photo.bit_depth} bits of {photo.layout}")
    return torch.nn.functional.avg_pool2d(_tensor(photo)[:, :1].double(), 2)


def _tensor(photo: Photo) -> Tensor:
    """Pixels in [0, 1], (1, 3, H, W); those of a PNG not turned, for pairs are aligned as they are stored."""
    pixels = photo.pixels
    orientation = exif_orientation(photo.exif) or 1
    if photo.format == "PNG" and orientation > 1:
        pixels = upright(pixels, _INVERSE.get(orientation, orientation))
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())


def _same_size(picture: Tensor, file: Path, y: Tensor, capture: Path) -> Tensor:
    if picture.shape[-2:] != y.shape[-2:]:
        (height, width), (rows, columns) = picture.shape[-2:], y.shape[-2:]
        raise ValueError(f"{file}: expected the size {columns} x {rows} of {capture}, got {width} x {height}")
    return picture
