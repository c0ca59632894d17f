"""Noise of a photo, measured where the photo is flattest.

A defocused lens passes no light pattern as fine as the pixels, so that the finest details of a defocused
photo are noise. In a sharp photo they are noise only where nothing is seen: the flattest blocks.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.separable_filter import SECOND_DIFFERENCE, correlate

__all__ = ["MIN_NOISE_STD", "estimate_noise_std"]

MIN_NOISE_STD = 0.004
"""The least noise that is ever reported, in [0, 1] units: 3.5 times that of rounding to 8 bits, for the noise of
a photo that a camera has smoothed cannot be told from its details."""

_BLOCK = 16
_FLATTEST = 0.1
# The mean energy of the quietest tenth of many blocks of pure noise, as a ratio of standard deviations.
_FLATTEST_OF_PURE_NOISE = 0.935
_CLIPPED_LOW, _CLIPPED_HIGH = 1.5 / 255, 1 - 1.5 / 255


def estimate_noise_std(y: Tensor) -> float:
    """Estimates the standard deviation of white noise in a photo.

    The photo is filtered by the difference of two Laplacians, which cancels constants, slopes and straight
    edges along the axes; the energy that remains is averaged over blocks, and the quietest blocks without
    clipped pixels decide. Block energies are means over the channels.

    Args:
        y: Capture in [0, 1], shape (1, C, H, W).

    Returns:
        Noise standard deviation of a channel, in [0, 1] units; at least `MIN_NOISE_STD`, which is also the
        answer where there is nothing to measure: a photo less than 3 pixels wide, or clipped everywhere.

    Raises:
        ValueError: If `y` has another shape, holds no pixels, or not only finite ones.

    References:
        J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996).
    """
    if y.dim() != 4 or len(y) != 1:
        raise ValueError(f"y must have shape (1, C, H, W), got {tuple(y.shape)}")
    if y.numel() == 0:
        raise ValueError(f"y must hold at least one pixel, got the shape {tuple(y.shape)}")
    if not torch.isfinite(y).all():
        raise ValueError("y must hold finite values, got NaN or infinity")
    if min(y.shape[-2:]) < 3:
        return MIN_NOISE_STD
    side = min(_BLOCK, *(length - 2 for length in y.shape[-2:]))
    energy, clipped = 0, 0
    for channel in y[0].float().split(1):
        # Of variance 36 for noise of 1.
        finest = correlate(correlate(channel[None], -1, SECOND_DIFFERENCE), -2, SECOND_DIFFERENCE)
        energy = energy + F.avg_pool2d(finest.square() / 36, side) / y.shape[1]
        beyond = (channel <= _CLIPPED_LOW) | (channel >= _CLIPPED_HIGH)
        clipped = clipped + F.avg_pool2d(beyond[None, :, 1:-1, 1:-1].float(), side)
    # One pixel in fifty: noise near black clips now and then, and the quietest blocks may all lie there.
    energy = energy[clipped < 0.02]
    energy = energy[torch.isfinite(energy)]
    if energy.numel() == 0:
        return MIN_NOISE_STD
    flattest = energy.sort().values[: max(round(_FLATTEST * energy.numel()), 1)]
    correction = _FLATTEST_OF_PURE_NOISE if energy.numel() > 20 else 1.0
    return max(math.sqrt(float(flattest.mean())) / correction, MIN_NOISE_STD)
