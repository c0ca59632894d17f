"""Guided filter: smooths a map, or every slice of a cost volume, but not across the edges of a photo.

In every square window the output is an affine function of the guide, fitted to the source by least
squares; a pixel takes the mean of the functions of all windows that it lies in. Means over windows are
taken by running sums, so that the cost does not depend on the window.
"""

import torch
from torch import Tensor

__all__ = ["box_mean", "guided_filter"]


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Means over windows of 2 radius + 1 pixels a side, cut off at the border: (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: If the radius is negative.
    """
    if radius < 0:
        raise ValueError(f"the radius of a window must not be negative, got {radius}")
    for dim in (-2, -1):
        length = x.shape[dim]
        # Running sums of what differs from the mean, in double precision, stay exact along the longest photo.
        offset = x.mean(dim, keepdim=True)
        sums = (x - offset).cumsum(dim, dtype=torch.float64)
        before = sums.new_zeros(()).expand_as(sums.narrow(dim, 0, 1))
        after = sums.narrow(dim, length - 1, 1)
        repeats = [1] * x.dim()
        repeats[dim] = radius
        sums = torch.cat([before, before.repeat(repeats), sums, after.repeat(repeats)], dim)
        means = (sums.narrow(dim, 2 * radius + 1, length) - sums.narrow(dim, 0, length)).to(x.dtype)
        position = torch.arange(length, device=x.device)
        count = (position + radius + 1).clamp(max=length) - (position - radius).clamp(min=0)
        x = means.div_(count.to(x.dtype).view(-1, *[1] * (-1 - dim))).add_(offset)
    return x


def guided_filter(guide: Tensor, source: Tensor, radius: int, eps: float) -> Tensor:
    """Filters `source` along the structures of `guide`.

    Args:
        guide: Grey photo, shape (1, 1, H, W); its unit is that of sqrt(eps).
        source: Any number of slices, shape (B, K, H, W).
        radius: Windows are 2 radius + 1 pixels a side.
        eps: Variance of the guide below which a window counts as flat and is averaged.

    Returns:
        The filtered slices, shape (B, K, H, W).

    References:
        K. He, J. Sun, X. Tang, "Guided image filtering", ECCV 2010. C. Rhemann et al., "Fast cost-volume
        filtering for visual correspondence and beyond", CVPR 2011.
    """
    # Covariances of what differs from the mean: a bright photo must not cost digits.
    guide = guide - guide.mean()
    guide_mean, source_mean = box_mean(guide, radius), box_mean(source, radius)
    variance = (box_mean(guide.square(), radius) - guide_mean.square()).clamp(min=0)
    slope = (box_mean(guide * source, radius) - guide_mean * source_mean) / (variance + eps)
    intercept = source_mean - slope * guide_mean
    return box_mean(slope, radius) * guide + box_mean(intercept, radius)
