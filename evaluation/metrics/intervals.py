"""How sure a mean over pictures is: bootstrap percentile intervals.

References:
    Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 1979.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["bootstrap_interval", "paired_interval"]


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean from 10,000 bootstrap resamples.

    Args:
        values: Independent values, at least one; a single value is its own interval.
        seed: Seed of the resampling.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: If there is no value.
    """
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("an interval needs at least one value")
    picks = np.random.default_rng(seed).integers(data.size, size=(10_000, data.size))
    low, high = np.percentile(data[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def paired_interval(a: Sequence[float], b: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of a - b, pair by pair: pictures are drawn, not values.

    What makes a picture hard for both methods cancels, so that this interval is narrower than those of the two
    means. An interval that contains 0 says that these pictures do not tell the methods apart.

    Args:
        a: Values of one method, one per picture.
        b: Values of the other for the same pictures in the same order.
        seed: Seed of the resampling.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: If the numbers of values differ, there are none, or one is not finite.
    """
    if len(a) != len(b):
        raise ValueError(f"expected as many values of one method as of the other, got {len(a)} and {len(b)}")
    a, b = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("expected finite values in every pair, got an infinite or undefined one")
    return bootstrap_interval(a - b, seed)
