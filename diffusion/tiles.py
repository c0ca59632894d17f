"""Tiles: a large photo goes through a network piece by piece, with the result of the whole."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Tile", "tiles"]

Window = tuple[slice, slice]


class Tile(NamedTuple):
    """Rows and columns of one tile.

    Attributes:
        read: What the network sees.
        kept: What of its result is right.
        place: Where in the whole photo that goes.
    """

    read: Window
    kept: Window
    place: Window

    def wanted(self, asked: Tensor | None = None) -> Tensor | None:
        """Of the pixels that the network sees, those whose result is kept and asked for: bool, as large as `read`.

        None stands for all of them.
        """
        if asked is None and self.read == self.place:
            return None
        wanted = torch.zeros([span.stop - span.start for span in self.read], dtype=torch.bool)
        wanted[self.kept] = True if asked is None else asked[self.place]
        return wanted

    def put(self, result: Tensor, whole: Tensor, asked: Tensor | None = None) -> None:
        """Writes what is right of a network's result into the whole photo, (..., H, W), and only where it was asked."""
        new = result[..., *self.kept].to(whole)
        if asked is not None:
            # A tile covers more than was asked, and how much more depends on the tiles.
            new = torch.where(asked[self.place], new, whole[..., *self.place])
        whole[..., *self.place] = new


def tiles(
    height: int, width: int, side: int, halo: int, asked: Tensor | None = None, grid: int = 1
) -> Iterator[Tile]:
    """Cuts a photo into tiles that carry what the network reaches beyond them.

    Args:
        height: Of the photo in pixels.
        width: Of the photo in pixels.
        side: Of the kept part of a tile in pixels, a multiple of `grid`.
        halo: Reach of the network in pixels, a multiple of `grid`.
        asked: Pixels whose result is wanted, bool, shape (height, width); None for all. Tiles cover these at least,
            and no more than what is around them.
        grid: Tiles begin at multiples of it.
    """
    for top in range(0, height, side):
        for left in range(0, width, side):
            place = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            if asked is not None:
                part = asked[place]
                if not part.any():
                    continue
                place = tuple(_around(part.any(1 - axis), one, grid) for axis, one in enumerate(place))
            pairs = [_with_halo(one, length, halo) for one, length in zip(place, (height, width), strict=True)]
            yield Tile(*(tuple(both) for both in zip(*pairs, strict=True)), place)


def _around(asked: Tensor, span: slice, grid: int) -> slice:
    """The part of a span of rows or columns that holds those asked for; it begins at a multiple of the grid."""
    places = asked.nonzero()
    first, last = int(places[0]), int(places[-1])
    return slice(span.start + first // grid * grid, span.start + last + 1)


def _with_halo(span: slice, length: int, halo: int) -> tuple[slice, slice]:
    """What to read for a span, and where in that it lies."""
    first, last = max(span.start - halo, 0), min(span.stop + halo, length)
    return slice(first, last), slice(span.start - first, span.stop - first)
