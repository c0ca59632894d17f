"""The mean of several runs of a sampler, each from noise of its own."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from samplers.reverse_process import Callback

__all__ = ["mean_of_runs", "shifted"]


def mean_of_runs(run: Callable[[Callback | None], Tensor], runs: int, callback: Callback | None) -> Tensor:
    """Runs a sampler several times and averages its photos, one of which is kept beside the sum.

    The error of a run is one that all have, which is how far the sampler is from the mean of the posterior, and one of
    its noise, which the mean of n runs has 1 / sqrt(n) of.

    Args:
        run: Runs the sampler once, with a callback, from noise that no run before had.
        runs: Number of runs, at least 1.
        callback: Called after each evaluation of all runs.

    Returns:
        Shape of what a run returns.
    """
    total = run(shifted(callback, 0, runs))
    for number in range(1, runs):
        total += run(shifted(callback, number, runs))
    return total / runs if runs > 1 else total


def shifted(callback: Callback | None, number: int, count: int) -> Callback | None:
    """A callback for one of several runs, which counts its evaluations on from those of the runs before."""
    if callback is None:
        return None
    return lambda step: callback(replace(step, index=number * step.total + step.index, total=count * step.total))
