"""Figures of estimated defocus maps: errors where the radius is known, ranks and separation where it is not."""

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

__all__ = ["area_under_curve", "radius_errors", "rank_correlation"]


def radius_errors(radius: Tensor, confidence: Tensor, truth: Tensor) -> dict[str, float]:
    """Compares a map with the true one; all of one shape.

    Args:
        radius: Estimated radii in pixels.
        confidence: In [0, 1].
        truth: True radii in pixels.

    Returns:
        `error_px`, the mean absolute error over all pixels; `bias_px`, the mean error; `trusted_error_px`, the mean
        absolute error weighted by confidence, NaN where there is none; `confident_half_error_px`, that over the more
        confident half of the pixels; `too_large`, the share of pixels whose radius is more than a pixel too large; and
        `confidence`, the mean.
    """
    error = (radius - truth).double()
    weight = confidence.double()
    half = _upper_half(weight)
    return {
        "error_px": float(error.abs().mean()),
        "bias_px": float(error.mean()),
        "trusted_error_px": float((error.abs() * weight).sum() / weight.sum()),
        "confident_half_error_px": float((error.abs() * half).sum() / half.sum()),
        "too_large": float((error > 1).double().mean()),
        "confidence": float(weight.mean()),
    }


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two arrays of N values, ties with their mean rank; 0 if one is constant."""
    ranks = [rankdata(np.ravel(values)) for values in (a, b)]
    ranks = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float(ranks[0] @ ranks[1] / scale) if scale > 0 else 0.0


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive has a larger value than a negative, half of it for ties.

    Args:
        values: N numbers.
        positive: N booleans.

    Raises:
        ValueError: If all are positive, or none is.
    """
    values, positive = np.ravel(values), np.ravel(positive)
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        raise ValueError("expected positives and negatives, got only one kind")
    return float((rankdata(values)[positive].sum() - count * (count + 1) / 2) / (count * others))


def _upper_half(values: Tensor) -> Tensor:
    """Weights of 1 above the median and 0 below it; values that equal it share what is missing to a half."""
    median = values.median()
    above, equal = (values > median).double(), (values == median).double()
    return above + equal * (values.numel() / 2 - above.sum()) / equal.sum()
