"""How sharp the edges of a photo are: two measures of an edge's blur, and where they are taken.

A straight edge of height A between plateaus, blurred by the PSF of radius r and smoothed by a Gaussian of
standard deviation s, has at its centre a gradient of A P(r, s): P is the peak of the PSF's integral along
the edge, smoothed likewise. The pixels and the lens in focus smooth too, by the variance t^2 = 1/12 + i^2.
For a Gaussian PSF, whose standard deviation is r / 2,

    P(r, s) = 1 / sqrt(2 pi (r^2 / 4 + s^2 + t^2))

and for a disk of radius a = r sqrt(1 - softness) with a Gaussian of variance g^2 = r^2 softness / 4

    P(r, s) = 2 / pi  integral over (-pi/2, pi/2) of  cos^2(u) N(a sin u; 0, g^2 + s^2 + t^2) du.

Either of two measures gives r, for both fall with r and neither depends on the height:

    local contrast   L = |grad| / (highest - lowest) = P(r, s)
    gradient ratio   R = |grad| / |grad after blurring once more by b| = P(r, s) / P(r, sqrt(s^2 + b^2))

For a Gaussian, r / 2 = sqrt(1 / (2 pi L^2) - s^2 - t^2) = sqrt(b^2 / (R^2 - 1) - s^2 - t^2).

References:
    C.-T. Shen, W.-L. Hwang, S.-C. Pei, "Spatially-varying out-of-focus image deblurring with L1-2
    optimization and a guided blur map", ICASSP 2012 (local contrast prior). S. Zhuo, T. Sim, "Defocus map
    estimation from a single image", Pattern Recognition 44 (2011) (gradient ratio). Both take the PSF for a
    Gaussian and leave t out. J. Canny, "A computational approach to edge detection", PAMI 8 (1986).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["EdgeProfiles", "Edges", "find_edges"]

_PIXEL_VARIANCE = 1 / 12
_QUADRATURE = 96  # points; fewer than a pixel apart for disks of 60 px
_TAIL = 0.05  # of the peak gradient, where an edge ends: 99 % of a Gaussian's height lie within
_NEAR = 6  # pixels on either side, within which a second edge disturbs the first
_FALL = 0.3  # of the height; a line, whose brightness falls back by more, is no step
_CHUNK = 1 << 18  # edge pixels at once


@dataclass(frozen=True)
class EdgeProfiles:
    """The peak gradient of a blurred edge of height 1, and the radii that explain what is measured.

    Attributes:
        softness: PSF shape, see `optics.psf`.
        smoothing_std: s in pixels.
        reblur_std: b in pixels.
        intrinsic_std: i in pixels.
        largest_radius: Largest radius in pixels that is ever found.
    """

    softness: float
    smoothing_std: float
    reblur_std: float
    intrinsic_std: float
    largest_radius: float

    def peak(self, radius: Tensor, smoothing_std: float) -> Tensor:
        """P(r, s) in 1 / px for radii in pixels, any shape; float64."""
        radius = radius.double()
        step = (torch.arange(_QUADRATURE, dtype=torch.float64, device=radius.device) + 0.5) / _QUADRATURE
        angle = math.pi * (step - 0.5)
        variance = radius.square() * self.softness / 4 + smoothing_std**2 + _PIXEL_VARIANCE + self.intrinsic_std**2
        offset = radius[..., None] * math.sqrt(1 - self.softness) * angle.sin()
        gaussian = (-offset.square() / (2 * variance[..., None])).exp() / (2 * math.pi * variance[..., None]).sqrt()
        # The midpoint rule over a whole period, exact to rounding while the points lie within the Gaussian's width.
        return 2 * (angle.cos().square() * gaussian).mean(-1)

    def radius_of_contrast(self, contrast: Tensor) -> Tensor:
        """Blur radius in pixels for a local contrast L in 1 / px, any shape."""
        radii = self._grid(contrast)
        return _inverse(self.peak(radii, self.smoothing_std), radii, contrast)

    def radius_of_ratio(self, ratio: Tensor) -> Tensor:
        """Blur radius in pixels for a gradient ratio R, any shape."""
        radii = self._grid(ratio)
        reblurred = self.peak(radii, math.hypot(self.smoothing_std, self.reblur_std))
        return _inverse(self.peak(radii, self.smoothing_std) / reblurred, radii, ratio)

    def _grid(self, like: Tensor) -> Tensor:
        return torch.linspace(0, self.largest_radius, 512, dtype=torch.float64, device=like.device)


@dataclass(frozen=True)
class Edges:
    """N edge pixels of a photo.

    Attributes:
        row: Rows, (N,).
        column: Columns, (N,).
        gradient: Peak gradients in brightness per pixel, (N,).
        contrast: Local contrasts L in 1 / px, (N,).
        ratio: Gradient ratios R, (N,).
        likeness: How much the profile is that of a step, in [0, 1], (N,): symmetric, between plateaus that last.
    """

    row: Tensor
    column: Tensor
    gradient: Tensor
    contrast: Tensor
    ratio: Tensor
    likeness: Tensor


def find_edges(brightness: Tensor, smoothing_std: float, reblur_std: float, least_gradient: float, reach: int) -> Edges:
    """Finds edges and measures their blur.

    An edge pixel is one whose gradient is the largest along its own direction (non-maximum suppression).
    Between pixels the peak is that of the parabola through the logarithms of three gradients, which is exact
    for a Gaussian. The plateaus are where brightness, followed along the gradient, ceases to rise.

    Args:
        brightness: Grey photo in [0, 1], shape (1, 1, H, W).
        smoothing_std: s in pixels.
        reblur_std: b in pixels.
        least_gradient: Smaller ones are not edges, in brightness per pixel; positive.
        reach: Pixels within which the plateaus are sought on either side.

    Returns:
        The edges, in reading order.
    """
    smooth, slope = _smooth(brightness, smoothing_std), _gradient(brightness, smoothing_std)
    length = slope.square().sum(1, keepdim=True).sqrt()
    reblurred = _gradient(brightness, math.hypot(smoothing_std, reblur_std)).square().sum(1, keepdim=True).sqrt()
    row, column = torch.nonzero(length[0, 0] >= least_gradient, as_tuple=True)
    parts = [
        _measure(smooth, slope, length, reblurred, r, c, reach)
        for r, c in zip(row.split(_CHUNK), column.split(_CHUNK), strict=True)
    ]
    if not parts:
        nothing = brightness.new_zeros(0)
        return Edges(row, column, nothing, nothing, nothing, nothing)
    return Edges(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _measure(
    smooth: Tensor, slope: Tensor, length: Tensor, reblurred: Tensor, row: Tensor, column: Tensor, reach: int
) -> tuple[Tensor, ...]:
    """The fields of `Edges` for those pixels, of which only those stay that are the largest on their line."""
    direction = slope[0, :, row, column] / length[0, 0, row, column]  # (2, N)
    along = torch.arange(-1, 2).to(length)
    three = _sample(length, row, column, direction, along)
    largest = (three[:, 1] > three[:, 0]) & (three[:, 1] >= three[:, 2])
    row, column, direction, three = row[largest], column[largest], direction[:, largest], three[largest]
    offset, gradient = _log_parabola(three)
    ratio = gradient / _log_parabola(_sample(reblurred, row, column, direction, along))[1]
    profile = _sample(smooth, row, column, direction, offset[:, None] + torch.arange(-reach, reach + 1).to(length))
    # Away from the edge on either side, counted upwards on both.
    sides = profile[:, reach:], -profile[:, : reach + 1].flip(1)
    heights, falls = zip(*(_plateau(side, _TAIL * gradient) for side in sides), strict=True)
    height = (heights[0] + heights[1]).clamp(min=1e-6)
    symmetry = 2 * torch.minimum(*heights) / height
    fall = torch.maximum(*falls) / height
    return row, column, gradient, gradient / height, ratio, symmetry.square() * (1 - fall / _FALL).clamp(min=0)


def _plateau(side: Tensor, least_rise: Tensor) -> tuple[Tensor, Tensor]:
    """Rise to where the first plateau begins, and the deepest fall from a summit nearby: (N, K), (N,) -> two (N,)."""
    rise = side.diff(dim=1)
    height = (rise * (rise > least_rise[:, None]).long().cumprod(1)).sum(1)
    near = side[:, : _NEAR + 1]
    return height, (near.cummax(1).values - near).amax(1)


def _sample(values: Tensor, row: Tensor, column: Tensor, direction: Tensor, along: Tensor) -> Tensor:
    """Values on the lines through N pixels: (1, 1, H, W), (N,), (N,), (2, N), (K,) or (N, K) -> (N, K)."""
    height, width = values.shape[-2:]
    x = column[:, None] + direction[1][:, None] * along
    y = row[:, None] + direction[0][:, None] * along
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)[None]
    return F.grid_sample(values, grid, mode="bicubic", padding_mode="border", align_corners=False)[0, 0]


def _log_parabola(three: Tensor) -> tuple[Tensor, Tensor]:
    """Place and height of the peak of exp(parabola) through values at -1, 0 and 1: (N, 3) -> two (N,)."""
    before, middle, after = three.clamp(min=1e-12).log().unbind(1)
    curvature = (2 * middle - before - after).clamp(min=1e-6)
    offset = ((after - before) / (2 * curvature)).clamp(-1, 1)
    return offset, (middle + offset * (after - before) / 4).exp()


def _inverse(falling: Tensor, radii: Tensor, value: Tensor) -> Tensor:
    """The radius at which a falling function takes a value, linear between grid points, cut off at the ends."""
    rising, wanted = falling.flip(0), value.double().clamp(falling[-1], falling[0])
    upper = torch.searchsorted(rising, wanted.contiguous()).clamp(1, len(radii) - 1)
    fraction = (wanted - rising[upper - 1]) / (rising[upper] - rising[upper - 1])
    radii = radii.flip(0)
    return torch.lerp(radii[upper - 1], radii[upper], fraction).to(value.dtype)


def _kernels(std: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """A sampled Gaussian that sums to 1, and its derivative, of slope 1 on a ramp: two of (n,)."""
    reach = math.ceil(4 * std)
    offset = torch.arange(-reach, reach + 1).to(like)
    gaussian = torch.exp(-offset.square() / (2 * std**2))
    gaussian = gaussian / gaussian.sum()
    derivative = offset * gaussian
    return gaussian, derivative / (derivative * offset).sum()


def _separable(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Correlates with a kernel of either direction; the border is repeated outwards."""
    reach = len(down) // 2
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), down[None, None, :, None])
    return F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), right[None, None, None])


def _smooth(brightness: Tensor, std: float) -> Tensor:
    gaussian, _ = _kernels(std, brightness)
    return _separable(brightness, gaussian, gaussian)


def _gradient(brightness: Tensor, std: float) -> Tensor:
    """Derivatives of a Gaussian, down and right: (1, 1, H, W) -> (1, 2, H, W)."""
    gaussian, derivative = _kernels(std, brightness)
    return torch.cat([_separable(brightness, derivative, gaussian), _separable(brightness, gaussian, derivative)], 1)
