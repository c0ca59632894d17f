"""Filters of a few weights along rows or columns: sums of shifted pictures.

A convolution of one channel would do the same by unfolding each pixel's neighbourhood, for many times the memory.
"""

from collections.abc import Sequence

from torch import Tensor

__all__ = ["SECOND_DIFFERENCE", "correlate"]

SECOND_DIFFERENCE = (1.0, -2.0, 1.0)


def correlate(x: Tensor, dim: int, weights: Sequence[float]) -> Tensor:
    """sum_k weights[k] x[n + k] along a dimension, which becomes shorter by all weights but one.

    Args:
        x: Any shape.
        dim: The dimension, at least as long as there are weights.
        weights: Their order is that of the pixels.
    """
    length = x.shape[dim] - len(weights) + 1
    result = weights[0] * x.narrow(dim, 0, length)
    for start, weight in enumerate(weights[1:], 1):
        result.add_(x.narrow(dim, start, length), alpha=weight)
    return result
