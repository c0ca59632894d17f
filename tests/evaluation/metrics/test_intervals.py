"""Intervals of means against the normal approximation."""

import math

import numpy as np
import pytest

from evaluation.metrics import bootstrap_interval


def test_bootstrap_interval_of_a_mean():
    values = np.random.default_rng(1).normal(3.0, 2.0, 200)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(200)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval([2.0]) == (2.0, 2.0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])
