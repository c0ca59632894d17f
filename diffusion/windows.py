"""Layers go over the features of a whole photo window by window, with the result of the whole.

Windows carry the halo of one level's layers where tiles of a photo carry that of all levels, several times as much,
and are small enough for a processor's cache. All of a level's features are kept instead.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion.tiles import Window, tiles

__all__ = ["in_windows", "through_levels", "wanted_features"]

_SIDE = 256  # pixels of a level: of sides from 128 to 1000 the fastest on a CPU


def through_levels(
    photo: Tensor, down: Sequence[Callable[..., Tensor]], up: Sequence[Callable[..., Tensor]], cell: int,
    halos: Sequence[int], asked: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Takes a whole photo through a U-shaped network, level by level.

    Where gradients are enabled nothing is cut, for they need all features anyhow.

    Args:
        photo: Shape (B, C, H, W), H and W multiples of the cell.
        down: Layers of each level on the way down, from half resolution; they take a window of the level before, which
            has twice the resolution.
        up: Layers of each level on the way up, from the coarsest; they take a window of the level before, which has
            half the resolution, and one of the same level on the way down.
        cell: Side in pixels of the squares that are wanted or not as a whole, a multiple of all strides and of the
            attention windows; their features begin windows.
        halos: Reach of the layers of each level, from half resolution, in its own pixels, even.
        asked: Where a result is wanted, as of `wanted_features`.

    Returns:
        What the last layers give, at half resolution.
    """
    order = [*range(len(down)), *reversed(range(len(up)))]
    sizes = [(cell >> level + 1, halos[level]) for level in order]
    cut = not torch.is_grad_enabled()
    passes = (
        partial(in_windows, side=max(_SIDE // size, 1) * size if cut else None, halo=halo, wanted=wanted, grid=size)
        for (size, halo), wanted in zip(sizes, wanted_features(asked, cell, sizes), strict=True)
    )
    h, skips = photo, []
    for layers in down:
        h = next(passes)(layers, (h, 2))
        skips.append(h)
    del skips[-1]
    for layers in up:
        h = next(passes)(layers, (h, 0.5), (skips.pop(), 1))
    return h


def in_windows(
    layers: Callable[..., Tensor], *inputs: tuple[Tensor, float], side: int | None, halo: int,
    wanted: Tensor | None = None, grid: int = 2,
) -> Tensor:  # fmt: skip
    """Applies layers to features.

    Args:
        layers: From windows of the inputs to one of the result, (B, C, h, w), whose sides are even where the result's
            are.
        inputs: Features, (B, C_i, H_i, W_i), and how many times the resolution of the result they have: 2, 1 or 1/2.
        side: Of the kept part of a window in pixels of the result, a multiple of the grid; None for all at once.
        halo: Reach of the layers in pixels of the result, even.
        wanted: Where a result is wanted, bool, shape (H, W), somewhere at least; elsewhere it is zero but for some
            pixels around. None for everywhere.
        grid: Windows begin at multiples of it in pixels of the result, but for the halo.

    Returns:
        Shape (B, C, H, W).
    """
    if side is None:
        return layers(*(values for values, _ in inputs))
    first, finer = inputs[0]
    height, width = (int(length / finer) for length in first.shape[-2:])
    whole = None
    for part in tiles(height, width, side, halo, wanted, grid):
        result = layers(*(values[..., *_scaled(part.read, scale)] for values, scale in inputs))
        if result.shape[-2:] == (height, width):
            return result
        if whole is None:
            whole = _zeros(result, height, width)
        part.put(result, whole)
    return whole


def wanted_features(
    asked: Tensor | None, cell: int, levels: Sequence[tuple[int, int]]
) -> list[Tensor] | list[None]:  # fmt: skip
    """Where each of a network's levels, down and up again, has to give features for the pixels that are asked for.

    Args:
        asked: Bool, shape (H, W); None for everywhere.
        cell: Side in pixels of the squares that are wanted or not as a whole, the same for all levels.
        levels: Of each level in the order in which a photo passes them, side of a cell and reach of its layers in its
            own pixels.

    Returns:
        For each level a bool map in its own pixels, or None for everywhere.
    """
    if asked is None:
        return [None] * len(levels)
    cells = F.max_pool2d(asked[None, None].float(), cell, ceil_mode=True)
    wanted = []
    for side, reach in reversed(levels):
        wanted.append((cells[0, 0] > 0).repeat_interleave(side, 0).repeat_interleave(side, 1))
        around = -(-reach // side)
        cells = F.max_pool2d(cells, 2 * around + 1, 1, around)
    return wanted[::-1]


def _scaled(window: Window, scale: float) -> Window:
    return tuple(slice(int(span.start * scale), int(span.stop * scale)) for span in window)


def _zeros(like: Tensor, height: int, width: int) -> Tensor:
    """Features of another size in the layout that the next layers take fastest."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = *like.shape[:2], height, width
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout).zero_()
