"""Grids of noise levels along which a sampler descends."""

import torch
from torch import Tensor

__all__ = ["karras_grid"]


def karras_grid(sigma_start: float, sigma_end: float, count: int, rho: float = 7.0) -> Tensor:
    """Noise levels that are equidistant in sigma^(1/rho), from the first to the last.

    Karras et al., NeurIPS 2022 (https://arxiv.org/abs/2206.00364), equation 5; rho = 1 is uniform,
    large rho approaches a geometric sequence.

    Returns:
        Decreasing noise levels (VE units), float32, shape (count,).

    Raises:
        ValueError: If not sigma_start > sigma_end > 0, or count < 2.
    """
    if not sigma_start > sigma_end > 0:
        raise ValueError(f"expected sigma_start > sigma_end > 0, got {sigma_start} and {sigma_end}")
    if count < 2:
        raise ValueError(f"a grid needs at least 2 noise levels, got {count}")
    roots = torch.linspace(sigma_start ** (1 / rho), sigma_end ** (1 / rho), count, dtype=torch.float64)
    return (roots**rho).float()
