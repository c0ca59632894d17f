"""Figures that need no reference: how sharp a picture is, and how white what a restoration leaves unexplained.

References:
    Krotkov, Focusing, International Journal of Computer Vision 1987 (the Tenengrad measure).
    Pertuz, Puig and Garcia, Analysis of focus measure operators for shape-from-focus, Pattern Recognition 2013.
    Almeida and Figueiredo, Parameter estimation for blind and non-blind deblurring using residual whiteness
    measures, TIP 2013: the residual of a good restoration is white, that of a poor one is not.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["residual_whiteness", "sharpness"]

_LUMA = (0.299, 0.587, 0.114)
_REACH = 4


def sharpness(x: Tensor) -> float:
    """Root mean square of the luma's gradient: the root of the Tenengrad measure. Higher is sharper.

    The gradient is that of the Sobel filters divided by 8, so that a ramp of slope g per pixel gives exactly g;
    a wave of amplitude a and frequency f along an axis gives a |sin 2 pi f| / sqrt 2. Photos lie between 0.01 and
    0.1. Only figures of the same scene are comparable, and the figure does not know good from bad: ringing raises
    it, and so does noise, whose standard deviation s adds 0.375 s^2 to the square.

    Args:
        x: Picture in [0, 1], shape (1, 1 or 3, H, W), of at least 3 pixels a side.

    Returns:
        Share of full range per pixel, 0 for a flat picture.

    Raises:
        ValueError: If the shape is another.
    """
    if x.dim() != 4 or len(x) != 1 or x.shape[1] not in (1, 3) or min(x.shape[-2:]) < 3:
        raise ValueError(f"expected a picture of shape (1, 1 or 3, H, W), H and W at least 3, got {tuple(x.shape)}")
    luma = x.double()
    if x.shape[1] == 3:
        luma = (luma * luma.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    smooth, slope = luma.new_tensor([0.25, 0.5, 0.25]), luma.new_tensor([-0.5, 0.0, 0.5])
    vertical = F.conv2d(luma, torch.outer(slope, smooth)[None, None])
    horizontal = F.conv2d(luma, torch.outer(smooth, slope)[None, None])
    return float((vertical.square() + horizontal.square()).mean().sqrt())


def residual_whiteness(residual: Tensor, noise_std: float | Tensor | None = None) -> float | None:
    """Mean squared correlation of a residual with itself shifted by up to 4 pixels, less what chance gives. 0 is white.

    For every shift m = (rows, columns) but none, each at most 4 either way, let c(m) be the mean of r(p) r(p + m)
    over the n(m) pixels where both exist, r being the residual less its mean. In white noise c(m)^2 is c(0)^2 / n(m) in
    expectation. The figure is the mean over these 80 shifts and all channels of

        (c(m)^2 - c(0)^2 / n(m)) / s^4.

    With s^2 = c(0) it is the mean squared correlation coefficient, between 0 for white noise, whatever its level
    or the picture's size, and 1; white noise may come out slightly below 0. Noise seen through a PSF h has the sum of
    rho(m)^2 over 80, rho being the autocorrelation of h over its value at no shift: 0.043 for a box of 3 x 3 pixels,
    0.132 for one of 5 x 5. With `noise_std` s is the given one: the figure then says how strong the structure is
    beside the noise, has no upper bound, and forgives structure that is weaker than the noise.

    Args:
        residual: y - A x, [0, 1] units, shape (1, C, H, W), larger than 4 pixels a side.
        noise_std: Standard deviation of the capture's noise in [0, 1] units, above 0; a map of shape
            (1, 1 or C, H, W) where it differs from pixel to pixel.

    Returns:
        The figure, lower is better; None for a residual that is constant and has no correlations. Channels that
        are constant are left out.

    Raises:
        ValueError: If the shape is another, or the noise not above 0.
    """
    if residual.dim() != 4 or len(residual) != 1 or min(residual.shape[-2:]) <= _REACH:
        raise ValueError(
            f"expected a residual of shape (1, C, H, W), H and W above {_REACH}, got {tuple(residual.shape)}"
        )
    z = residual.double()[0]
    if noise_std is not None:
        z = z / _noise(noise_std, residual)
    figures = [_structure(channel, noise_std is None) for channel in z if channel.amin() < channel.amax()]
    return sum(figures) / len(figures) if figures else None


def _structure(z: Tensor, normalise: bool) -> float:
    """The figure of one channel (H, W), in units of its variance or as it is."""
    z = z - z.mean()
    height, width = z.shape
    # Zeros as wide as the largest shift keep the periodic correlation from wrapping.
    spectrum = torch.fft.rfft2(z, s=(height + _REACH, width + _REACH)).abs().square()
    products = torch.fft.irfft2(spectrum, s=(height + _REACH, width + _REACH))
    shifts = torch.arange(-_REACH, _REACH + 1, device=z.device)
    pairs = torch.outer(height - shifts.abs(), width - shifts.abs())
    covariance = products[shifts[:, None], shifts] / pairs  # (9, 9), no shift at the centre
    variance = covariance[_REACH, _REACH].clone()
    excess = covariance.square() - variance**2 / pairs
    excess[_REACH, _REACH] = 0
    mean = excess.sum() / (excess.numel() - 1)
    return float(mean / variance**2 if normalise else mean)


def _noise(noise_std: float | Tensor, residual: Tensor) -> Tensor:
    noise = torch.as_tensor(noise_std, dtype=torch.float64, device=residual.device)
    if noise.dim() and (noise.dim() != 4 or noise.shape[0] != 1 or noise.shape[-2:] != residual.shape[-2:]):
        raise ValueError(
            f"expected noise_std as a number or a map of {tuple(residual.shape[-2:])} pixels, got {tuple(noise.shape)}"
        )
    if not bool((noise > 0).all()):
        raise ValueError(f"noise_std must be above 0, got {float(noise.min())}")
    return noise[0] if noise.dim() else noise
