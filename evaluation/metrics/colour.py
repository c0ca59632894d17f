"""Whether a restoration changes the colours of what it sharpens.

Blur mixes light and keeps its mean; that of the code values it changes, for the encoding is curved. So pictures are
smoothed as light: smoothed as codes, a sharp photo would differ from its own defocused capture.

References:
    Sharma, Wu and Dalal, The CIEDE2000 color-difference formula, Color Research and Application 30 (2005).
"""

import importlib.util

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from optics import to_linear, to_srgb

__all__ = ["colour_reason", "colour_shift"]

_STD = 16.0  # pixels, four times that of the widest blur which the networks know


def colour_reason() -> str | None:
    """Why the colour shift cannot be computed here; None if it can."""
    return None if importlib.util.find_spec("skimage") else "scikit-image, which knows the formula, is not installed"


def colour_shift(x: Tensor, y: Tensor) -> float:
    """Mean CIE Delta E 2000 between two pictures without their details: 1 is just noticed.

    Args:
        x: sRGB picture in [0, 1], shape (1, 3, H, W).
        y: Another, same shape.

    Returns:
        The mean over all pixels after Gaussian smoothing of the light with a standard deviation of 16 pixels.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(np.mean(deltaE_ciede2000(*(rgb2lab(_coarse(picture)) for picture in (x, y)))))


def _coarse(x: Tensor) -> np.ndarray:
    """Codes of the smoothed light, shape (H, W, 3), float64."""
    light = to_linear(x[0].permute(1, 2, 0).double().cpu()).numpy()
    return to_srgb(torch.from_numpy(gaussian_filter(light, (_STD, _STD, 0), mode="reflect"))).numpy()
