"""What of a restoration is taken over: all of it, or less where the photo is meant to stay as it is.

    result = photo + share (restoration - photo),    share = strength x mask x s(r)

A background far out of focus is often meant to be. s falls from 1 to 0 as the radius r grows from 0.8 R to the
largest radius R that is to be restored. It is then smoothed over a few pixels, but only downwards, so that no pixel
whose radius is at least R is touched.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["compose", "share_of_radius", "where_blurred"]

_FALL = 0.2  # share of the largest radius over which restoration fades out
_FEATHER = 4  # pixels


def compose(
    before: Tensor, after: Tensor, radius_map: Tensor, *, mask: Tensor | None = None, max_radius: float | None = None,
    strength: float = 1.0,
) -> Tensor:  # fmt: skip
    """Mixes a photo and its restoration.

    Where the share is 0 the result has the photo's bits, where it is 1 the restoration's.

    Args:
        before: The photo, shape (B, C, H, W).
        after: Its restoration, same shape.
        radius_map: Blur radii in pixels, shape (B, 1, H, W).
        mask: How much of each pixel may change, in [0, 1], shape (B, 1, H, W); None for all of it.
        max_radius: R in pixels, positive; None for no limit.
        strength: In [0, 1].

    Returns:
        Same shape as `before`.
    """
    share = torch.full_like(radius_map, strength, dtype=before.dtype)
    if mask is not None:
        share = share * mask
    if max_radius is not None:
        share = share * share_of_radius(radius_map, max_radius)
    # Exact at both ends, which a sum of two products is not.
    return torch.lerp(before, after, share.expand_as(before))


def where_blurred(before: Tensor, after: Tensor, radius_map: Tensor) -> Tensor:
    """A restoration where there is blur; arguments as of `compose`.

    Blur below a pixel cannot be told from none: from 1 px down to 0 ever more of it is the photo, and what is sharp
    stays as it was taken.
    """
    return torch.lerp(before, after, radius_map.to(before).clamp(max=1))


def share_of_radius(radius_map: Tensor, max_radius: float) -> Tensor:
    """s: 0 where the radius is at least `max_radius`, 1 well below it and away from there.

    Args:
        radius_map: Blur radii in pixels, shape (B, 1, H, W).
        max_radius: R in pixels, positive.

    Returns:
        Values in [0, 1], float32, same shape.
    """
    room = ((max_radius - radius_map.float()) / (_FALL * max_radius)).clamp(0, 1)
    fall = room.square() * (3 - 2 * room)
    # The mean over a window of minima over such windows exceeds no value: each of these windows holds the pixel.
    size = 2 * _FEATHER + 1
    least = -F.max_pool2d(-fall, size, 1, _FEATHER)
    return F.avg_pool2d(least, size, 1, _FEATHER, count_include_pad=False)
