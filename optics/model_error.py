"""What a model of the blur leaves unexplained, pixel by pixel.

A capture is never blurred quite as its defocus map says. To first order an error dr of the radius changes
the capture by

    (d/dr A_r x) dr  ~  (r / 4) dr laplace(A x),

for the PSF's variance along an axis is r^2 / 4, and the derivative of a blurred picture by the variance is half
its Laplacian. With dr = e r the error is e r^2 / 4 times the Laplacian of the capture: large where the
capture has contrast, small where it is flat. Errors of the PSF's shape go the same way. A floor in
proportion to the radius stands for light that is spread from elsewhere.

Near a jump of the radius one thing hides another, which no operator of radii alone can say: there dr includes
the range of radii in the neighbourhood. And where light was clipped the photo was brighter than any restoration may
be: what clipped pixels lend their neighbours is in doubt.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.defocus_map.guided_filter import box_mean
from optics.operator import DefocusOperator
from optics.separable_filter import SECOND_DIFFERENCE, correlate

__all__ = ["clipping_std", "model_error_std"]

_WINDOW = 15  # pixels, over which the Laplacian's energy is averaged
_FLOOR = 0.01  # of full range per pixel of the radius' error
_OCCLUSION = 0.6  # of the range of radii nearby
_NEARBY = 13  # pixels
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_CLIPPED = 1 - 2 / 255
_CLIPPED_LIGHT = 0.2  # of full range, by which the light of clipped pixels is off


def model_error_std(y: Tensor, radius_map: Tensor, relative_error: float | Tensor) -> Tensor:
    """Standard deviation of the error of the model in every pixel, but for clipped light.

    Args:
        y: Capture in [0, 1], shape (1, C, H, W), of any size.
        radius_map: Blur radius in pixels, shape (1, 1, H, W).
        relative_error: e, the radius' standard error as a share of the radius; errors of the shape included. A number,
            or one for each pixel, shape (1, 1, H, W).

    Returns:
        Values in [0, 1] units, the same for all channels, shape (1, 1, H, W).
    """
    energy = _local_mean(_smoothed_laplacian(y).square().mean(1, keepdim=True))
    error = relative_error * (radius_map.square() + (_OCCLUSION * _local_range(radius_map)).square()).sqrt()
    return error * ((radius_map / 4).square() * energy + _FLOOR**2).sqrt()


def clipping_std(y: Tensor, operator: DefocusOperator) -> Tensor:
    """Standard deviation of what clipped light changes.

    Args:
        y: Capture in [0, 1], shape (1, C, H, W).
        operator: The blur.

    Returns:
        Values in [0, 1] units, shape (1, C, H, W), or (1, 1, H, W) where nothing is clipped: in proportion to the
        share of a pixel's light that comes from clipped pixels.
    """
    clipped = (y >= _CLIPPED).to(y)
    if not clipped.any():
        return torch.zeros_like(y[:, :1])
    return _CLIPPED_LIGHT * operator(operator.extend(clipped)).clamp(0, 1)


def _smoothed_laplacian(y: Tensor) -> Tensor:
    """Laplacian after binomial smoothing over 5 pixels, which leaves little of the noise: (1, C, H, W)."""
    x = F.pad(y, (3, 3, 3, 3), mode="replicate")
    smooth = correlate(correlate(x, -2, _BINOMIAL), -1, _BINOMIAL)
    vertical, horizontal = correlate(smooth, -2, SECOND_DIFFERENCE), correlate(smooth, -1, SECOND_DIFFERENCE)
    return vertical[..., 1:-1].add_(horizontal[..., 1:-1, :])


def _local_mean(values: Tensor) -> Tensor:
    """Mean over the part of a square window that lies in the picture: (1, 1, H, W)."""
    return box_mean(values, _WINDOW // 2).clamp(min=0)


def _local_range(values: Tensor) -> Tensor:
    """Largest less smallest value nearby: (1, 1, H, W)."""
    return _local_maximum(values) + _local_maximum(-values)


def _local_maximum(values: Tensor) -> Tensor:
    """Largest value nearby, along columns and then along rows: (1, 1, H, W)."""
    in_columns = F.max_pool2d(values, (_NEARBY, 1), 1, (_NEARBY // 2, 0))
    return F.max_pool2d(in_columns, (1, _NEARBY), 1, (0, _NEARBY // 2))
