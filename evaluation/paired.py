"""Captures with a reference: folders `<set>/{blurred,sharp}/<name>`, read whole.

An optional `<set>/blur_mask/<name>` (white: measured) restricts the comparison to a region.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from photos import find_photos, read

__all__ = ["PairedCapture", "paired_captures"]


@dataclass(frozen=True)
class PairedCapture:
    """A capture and its reference.

    Attributes:
        name: Path of the capture in `blurred/`, without its suffix.
        set_name: Name of the set's folder.
        x: Reference, in [0, 1] as stored, float32, shape (1, 3, H, W).
        y: Capture, likewise.
        mask: Pixels that are measured, shape (1, 1, H, W), or None for all.
    """

    name: str
    set_name: str
    x: Tensor
    y: Tensor
    mask: Tensor | None


def paired_captures(root: str | Path, count: int | None = None) -> Iterator[PairedCapture]:
    """Reads the captures of one set, or of every set in a folder.

    Args:
        root: A set, or a folder of sets.
        count: Number of captures of each set, first by name; all if None.

    Yields:
        Captures, read one after the other; names are paired without their suffixes.

    Raises:
        ValueError: If there is no set, a capture has no reference, or their sizes differ.
    """
    root = Path(root)
    folders = [root] if (root / "blurred").is_dir() else sorted(path.parent for path in root.glob("*/blurred"))
    folders = [folder for folder in folders if (folder / "sharp").is_dir()]
    if not folders:
        raise ValueError(f"expected a set with folders blurred and sharp, or a folder of such sets, got {root}")
    for folder in folders:
        references, masks = _by_name(folder / "sharp"), _by_name(folder / "blur_mask")
        for name, file in list(_by_name(folder / "blurred").items())[:count]:
            if name not in references:
                raise ValueError(f"{file} has no reference of the same name in {folder / 'sharp'}")
            x, y = _pixels(references[name]), _pixels(file)
            mask = _pixels(masks[name])[:, :1] > 0.5 if name in masks else None
            if x.shape != y.shape or (mask is not None and mask.shape[-2:] != y.shape[-2:]):
                raise ValueError(f"{file}: the capture, its reference and its mask must have the same size")
            yield PairedCapture(name, folder.resolve().name, x, y, mask)


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in find_photos(folder)}


def _pixels(file: Path) -> Tensor:
    return torch.from_numpy(read(file).pixels.transpose(2, 0, 1)[None].copy())
