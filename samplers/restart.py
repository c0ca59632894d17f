"""Restarts (time travel): some noise levels are passed again, from fresh noise.

At the level `low` the state is noised forward to `high`, which follows the forward SDE exactly, and descends again.
Errors that the first descent gathered shrink with the added noise; Xu et al., "Restart Sampling for Improving
Generative Processes", NeurIPS 2023 (https://arxiv.org/abs/2306.14878), section 3. Lugmayr et al., "RePaint", CVPR 2022
(https://arxiv.org/abs/2201.09865), travel back likewise so that prior and measurement come to agree.
"""

import torch
from torch import Tensor

__all__ = ["restart_grid"]


def restart_grid(sigmas: Tensor, low: float, high: float, times: int = 1) -> Tensor:
    """Inserts restarts into a decreasing grid; every sampler noises forward where a grid rises.

    The levels passed again are those of the grid itself, from the one nearest to `high` to the one nearest to `low`.

    Args:
        sigmas: Decreasing noise levels (VE units), shape (N,).
        low: Noise level after which the restart happens.
        high: Noise level it goes back to.
        times: Number of restarts.

    Returns:
        Noise levels, shape (N + times * M) with M the levels from `high` to `low`.

    Raises:
        ValueError: If no level of the grid lies between, or the range does not lie in the grid.
    """
    if times < 0:
        raise ValueError(f"restarts: expected a number of at least 0, got {times}")
    first, last = float(sigmas[0]), float(sigmas[-1])
    # The ends of a grid are rounded.
    if not last * (1 - 1e-5) <= low < high <= first * (1 + 1e-5):
        raise ValueError(f"restart: expected {last:g} <= restart_low < restart_high <= {first:g}, got {low} and {high}")
    # Nearest in the logarithm, as noise levels are compared throughout.
    top, bottom = (int((sigmas.log() - torch.tensor(level).log()).abs().argmin()) for level in (high, low))
    if top >= bottom:
        raise ValueError(f"restart: expected a grid with two levels between {low} and {high}, got {sigmas.tolist()}")
    return torch.cat([sigmas[: bottom + 1], *[sigmas[top : bottom + 1]] * times, sigmas[bottom + 1 :]])
