"""What a defocus map network is trained on: how likely it finds the true radius of every cell."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from optics.defocus_map.network import CELL, DefocusMapNetwork

__all__ = ["RadiusLikelihood", "cell_weights", "radius_cross_entropy", "soft_labels"]

_NEIGHBOURHOOD = 3  # cells


class RadiusLikelihood(nn.Module):
    """Cross-entropy between the network's distributions and true radii, in nats per cell.

    Args:
        network: The network.
    """

    def __init__(self, network: DefocusMapNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, radius_map: Tensor) -> Tensor:
        """The loss of each capture.

        Args:
            y: Captures in [0, 1], shape (B, 3, H, W); H and W are multiples of 4.
            radius_map: True blur radii in pixels, shape (B, 1, H, W).

        Returns:
            Weighted means over the cells, shape (B,).
        """
        return radius_cross_entropy(self.network(y), radius_map, self.network.radii)


def radius_cross_entropy(log_probability: Tensor, radius_map: Tensor, radii: tuple[float, ...]) -> Tensor:
    """Cross-entropy between distributions and true radii, in nats per cell.

    Args:
        log_probability: What the network gives, shape (B, K, H / 4, W / 4).
        radius_map: True blur radii in pixels, shape (B, 1, H, W).
        radii: K candidate radii in pixels, increasing.

    Returns:
        Weighted means over the cells, shape (B,).
    """
    labels = soft_labels(F.avg_pool2d(radius_map, CELL), radii)
    weights = cell_weights(radius_map)
    entropy = -(labels * log_probability).sum(1, keepdim=True)
    return (weights * entropy).sum((1, 2, 3)) / weights.sum((1, 2, 3))


def soft_labels(radius: Tensor, radii: tuple[float, ...]) -> Tensor:
    """Shares a radius out between the two nearest candidates, so that their mean is the radius.

    Args:
        radius: Radii in pixels, shape (B, 1, h, w); those beyond the candidates count as the last.
        radii: K candidate radii in pixels, increasing.

    Returns:
        Probabilities, shape (B, K, h, w).
    """
    nodes = radius.new_tensor(radii)
    radius = radius.clamp(radii[0], radii[-1])
    upper = torch.searchsorted(nodes, radius.contiguous()).clamp(1, len(radii) - 1)
    share = (radius - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1])
    labels = radius.new_zeros(radius.shape[0], len(radii), *radius.shape[2:])
    return labels.scatter_(1, upper - 1, 1 - share).scatter_(1, upper, share)


def cell_weights(radius_map: Tensor) -> Tensor:
    """Weights 1 / (1 + d^2), d the range of radii in pixels in 12 x 12 px about each cell.

    Where one depth ends and another begins a cell shows the blur of both, and its one radius says little.

    Args:
        radius_map: Blur radii in pixels, shape (B, 1, H, W); H and W are multiples of 4.

    Returns:
        Weights in (0, 1], shape (B, 1, H / 4, W / 4).
    """
    size = _NEIGHBOURHOOD * CELL
    padding = (_NEIGHBOURHOOD - 1) // 2 * CELL
    extremes = [F.max_pool2d(sign * radius_map, size, CELL, padding) for sign in (1, -1)]
    return 1 / (1 + (extremes[0] + extremes[1]).square())
