"""Whether a restoration changes the colours of what it sharpens.

References:
    Sharma, Wu and Dalal, The CIEDE2000 color-difference formula, Color Research and Application 30 (2005).
"""

import importlib.util

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor

__all__ = ["colour_reason", "colour_shift"]

_STD = 16.0  # pixels; defocus and its removal change nothing as coarse as that


def colour_reason() -> str | None:
    """Why the colour shift cannot be computed here; None if it can."""
    return None if importlib.util.find_spec("skimage") else "scikit-image, which knows the formula, is not installed"


def colour_shift(x: Tensor, y: Tensor) -> float:
    """Mean CIE Delta E 2000 between two pictures without their details: 1 is just noticed.

    Args:
        x: sRGB picture in [0, 1], shape (1, 3, H, W).
        y: Another, same shape.

    Returns:
        The mean over all pixels after Gaussian smoothing with a standard deviation of 16 pixels.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(np.mean(deltaE_ciede2000(*(rgb2lab(_coarse(picture)) for picture in (x, y)))))


def _coarse(x: Tensor) -> np.ndarray:
    """Smoothed, shape (H, W, 3), float64."""
    return gaussian_filter(x[0].permute(1, 2, 0).double().cpu().numpy(), (_STD, _STD, 0), mode="reflect")
