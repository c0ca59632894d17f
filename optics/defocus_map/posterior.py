"""From how likely every radius is in every cell to a map of radii.

A posterior is a histogram over the blur radius: bin k holds the candidate radius r_k and ends half way to
its neighbours, and probability is spread evenly within a bin.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "bin_edges", "candidate_radii", "check_capture", "enlarge", "leave_sharp_alone", "mass_between", "quantile_radius",
    "rebin",
]  # fmt: skip


def candidate_radii(largest: float) -> tuple[float, ...]:
    """Candidate radii in pixels, K increasing values from 0 to `largest`: a quarter pixel apart, 8 % from 3 px on."""
    radii = [0.0]
    while radii[-1] < largest:
        radii.append(min(radii[-1] + max(0.25, 0.08 * radii[-1]), largest))
    return tuple(radii)


def bin_edges(radii: Tensor) -> Tensor:
    """Edges of the bins about candidate radii: (K,) -> (K + 1,)."""
    return torch.cat([radii[:1], (radii[1:] + radii[:-1]) / 2, radii[-1:]])


def quantile_radius(probability: Tensor, edges: Tensor, quantile: float) -> Tensor:
    """Quantile of histograms over bins between the edges: (1, K, h, w), (K + 1,) -> (1, 1, h, w)."""
    cumulative = probability.cumsum(1)
    index = (cumulative < quantile).sum(1, keepdim=True).clamp(max=probability.shape[1] - 1)
    mass = probability.gather(1, index)
    below = cumulative.gather(1, index) - mass
    fraction = ((quantile - below) / mass.clamp(min=1e-9)).clamp(0, 1)
    return edges[index] + fraction * (edges[index + 1] - edges[index])


def mass_between(probability: Tensor, edges: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Probability between two radii of each cell: (1, K, h, w), (K + 1,), two of (1, 1, h, w) -> (1, 1, h, w)."""
    left, right = edges[:-1, None, None], edges[1:, None, None]
    covered = torch.minimum(high, right) - torch.maximum(low, left)
    return (probability * (covered.clamp(min=0) / (right - left))).sum(1, keepdim=True)


def rebin(probability: Tensor, edges: Tensor, new_edges: Tensor) -> Tensor:
    """The same histograms over other bins: (1, K, h, w), (K + 1,), (L + 1,) -> (1, L, h, w).

    The last bins stand for all radii from their left edges on: what lies beyond the last edge is spread evenly over the
    new bins there, or is in the last of them.
    """
    last = torch.maximum(edges[-1:], new_edges[-1:])
    edges, new_edges = torch.cat([edges[:-1], last]), torch.cat([new_edges[:-1], last])
    left, right = torch.maximum(edges[:-1], new_edges[:-1, None]), torch.minimum(edges[1:], new_edges[1:, None])
    share = (right - left).clamp(min=0) / edges.diff()  # (L, K)
    return torch.einsum("lk,bkhw->blhw", share, probability)


def enlarge(cells: Tensor, size: tuple[int, int], factor: int) -> Tensor:
    """Cells to pixels, linearly between the cells' centres: (1, K, h, w) -> (1, K, H, W)."""
    pixels = F.interpolate(cells, scale_factor=factor, mode="bilinear", align_corners=False)
    return pixels[..., : size[0], : size[1]].contiguous()


def leave_sharp_alone(radius: Tensor) -> Tensor:
    """Sets radii below 0.8 px to 0, and closes the gap by 1.2 px: smaller blur cannot be told from none."""
    low, high = 0.8, 1.2
    return torch.where(radius < high, high * ((radius - low) / (high - low)).clamp(min=0), radius)


def check_capture(y: Tensor) -> None:
    """Refuses what is no capture of shape (1, C, H, W).

    Raises:
        ValueError: If y has another shape or is not finite.
    """
    if y.dim() != 4 or len(y) != 1 or y.numel() == 0:
        raise ValueError(f"y must have shape (1, C, H, W), got {tuple(y.shape)}")
    if not torch.isfinite(y).all():
        raise ValueError("y must be finite")
