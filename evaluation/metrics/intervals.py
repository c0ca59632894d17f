"""How sure a mean over pictures is: bootstrap percentile intervals.

References:
    Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 1979.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["bootstrap_interval"]


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
