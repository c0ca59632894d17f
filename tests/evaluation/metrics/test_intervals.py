"""Intervals of means against the normal approximation."""

import math

import numpy as np
import pytest

from evaluation.metrics import bootstrap_interval, paired_interval


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


def test_paired_interval_forgets_what_both_methods_share():
    rng = np.random.default_rng(2)
    difficulty = rng.normal(25.0, 5.0, 200)
    a = difficulty + 0.3 + rng.normal(0, 0.5, 200)
    low, high = paired_interval(a, difficulty)
    difference = a - difficulty
    half = 1.96 * difference.std() / math.sqrt(200)
    assert low == pytest.approx(difference.mean() - half, abs=0.01)
    assert high == pytest.approx(difference.mean() + half, abs=0.01)
    # Intervals of the two means are ten times as wide and overlap.
    assert bootstrap_interval(difficulty)[1] > bootstrap_interval(a)[0] and low > 0
    mirrored = paired_interval(difficulty, a)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_paired_interval_refuses_what_is_no_pair():
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_interval([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="finite"):
        paired_interval([math.inf, 1.0], [math.inf, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        paired_interval([], [])
