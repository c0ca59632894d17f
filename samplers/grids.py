"""Grids of noise levels along which a sampler descends."""

import torch
from torch import Tensor

from diffusion import SDE

__all__ = ["check_levels", "karras_grid", "log_snr_grid", "reached_levels", "time_grid"]


def karras_grid(sigma_start: float, sigma_end: float, count: int, rho: float = 7.0) -> Tensor:
    """Noise levels that are equidistant in sigma^(1/rho), from the first to the last.

    Karras et al., NeurIPS 2022 (https://arxiv.org/abs/2206.00364), equation 5; rho = 1 is uniform,
    large rho approaches a geometric sequence.

    Returns:
        Decreasing noise levels (VE units), float32, shape (count,).

    Raises:
        ValueError: If not sigma_start > sigma_end > 0, or count < 2.
    """
    _check(sigma_start, sigma_end, count)
    roots = torch.linspace(sigma_start ** (1 / rho), sigma_end ** (1 / rho), count, dtype=torch.float64)
    return (roots**rho).float()


def log_snr_grid(sigma_start: float, sigma_end: float, count: int) -> Tensor:
    """Noise levels that are equidistant in the log signal-to-noise ratio, -2 log sigma: a geometric sequence.

    Lu et al., "DPM-Solver", NeurIPS 2022 (https://arxiv.org/abs/2206.00927), use it: it makes their steps equal.

    Returns, Raises: As `karras_grid`.
    """
    _check(sigma_start, sigma_end, count)
    # In single precision from the ends on, whatever PyTorch's default.
    ends = torch.tensor([sigma_start, sigma_end], dtype=torch.float32).double().log10().tolist()
    return torch.logspace(*ends, count, dtype=torch.float32)


def time_grid(sde: SDE, sigma_start: float, sigma_end: float, count: int) -> Tensor:
    """Noise levels that are equidistant in the time of an SDE, as Song et al. (https://arxiv.org/abs/2011.13456).

    For the VE SDE, whose noise grows geometrically, this is `log_snr_grid`.

    Returns, Raises: As `karras_grid`.
    """
    _check(sigma_start, sigma_end, count)
    start, end = sde.time_of(torch.tensor([sigma_start, sigma_end], dtype=torch.float64)).tolist()
    return sde.sigma_ve(torch.linspace(start, end, count, dtype=torch.float64)).float()


def reached_levels(sde: SDE) -> tuple[float, float]:
    """Lowest and highest noise level (VE units) of an SDE in its time, [0, 1]."""
    low, high = sde.sigma_ve(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    return low, high


def check_levels(sde: SDE, sigma_start: float, sigma_end: float) -> None:
    """Finds out whether an SDE reaches some noise levels (VE units) in its time, [0, 1].

    Raises:
        ValueError: If it does not; names the levels that it does reach.
    """
    low, high = reached_levels(sde)
    named = f"the noise levels of {type(sde).__name__} at its times 0 to 1"
    for key, level in (("sigma_start", sigma_start), ("sigma_end", sigma_end)):
        # Levels are stored in single precision.
        if not low * (1 - 1e-5) <= level <= high * (1 + 1e-5):
            raise ValueError(f"{key}: expected a number in [{low:.3g}, {high:.3g}], {named}, got {level:g}")


def check_known(key: str, level: float, sigma_max: float) -> None:
    """Finds out whether a network knows a noise level; `key` is what the user calls the level.

    Raises:
        ValueError: If it is above `sigma_max`, the largest of the network's training.
    """
    if level > sigma_max:
        known = f"at most {sigma_max:g}, the largest noise level of the network's training"
        raise ValueError(f"{key}: expected {known}, got {level:g}")


def _check(sigma_start: float, sigma_end: float, count: int) -> None:
    if not sigma_start > sigma_end > 0:
        raise ValueError(f"expected sigma_start > sigma_end > 0, got {sigma_start} and {sigma_end}")
    if count < 2:
        raise ValueError(f"a grid needs at least 2 noise levels, got {count}")
