"""Blind estimation of a defocus map from the sharpness of edges: the classical way.

Where a photo has an edge, its local contrast and its gradient ratio each tell the radius (see
`optics.defocus_map.edge_profiles`). Both suppose a lone, ideal step: where they disagree there is none,
and the edge is not heard. What is left is sparse. With edges e of weight w_e and radius r_e summed up in
cells p, T_p = sum w_e and d_p = T_p / (T_p + T_0), the dense map solves, as Zhuo and Sim's matting
Laplacian does on pixels,

    (D + decay + smoothness L) (u, v) = (d, d r),    radius v / u,    confidence u

where L is the Laplacian of the grid of cells, with weaker links across differences in brightness. So a
cell takes the weighted mean of the edges that a random walk meets before it dies, and u is the share of
walks that meet one: 1 amid edges, 0 in a flat photo. Edges far from the solution are heard less, and the
system is solved again. At last the guided filter lets the map follow the photo.

References:
    S. Zhuo, T. Sim, Pattern Recognition 44 (2011). C.-T. Shen, W.-L. Hwang, S.-C. Pei, ICASSP 2012, with
    whom "Spatially varying defocus deblurring" (CISP-BMEI 2016, doi 10.1109/CISP-BMEI.2016.7852704) shares
    local contrast and guided filter. L. Grady, "Random walks for image segmentation", PAMI 28 (2006).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.conjugate_gradient import conjugate_gradient
from optics.defocus_map.edge_profiles import EdgeProfiles, Edges, find_edges
from optics.defocus_map.estimator import MapEstimator
from optics.defocus_map.guided_filter import guided_filter
from optics.defocus_map.posterior import check_capture, enlarge
from optics.defocus_map.spectra import luma
from optics.noise import estimate_noise_std
from optics.psf import psf_reach

__all__ = ["EdgeEstimator"]

_CELL = 4  # pixels
_EDGE_VARIANCE = 0.01  # of brightness in [0, 1], beyond which neighbours are separate things
_WEAKEST_LINK = 0.1
_ROUNDS = 4  # of hearing the edges again
_CG_ITERATIONS, _CG_TOLERANCE = 400, 1e-4


@dataclass(frozen=True)
class EdgeEstimator(MapEstimator):
    """Estimates blur radius and confidence for every pixel of a capture from its edges.

    The settings were chosen by hand on simulated captures of 3 photos of BSDS500's training split, under the
    maps of `evaluation.simulated`: mean absolute errors of 0.86, 1.35 and 0.45 px on ramps, steps and constants, where
    those of `EvidenceEstimator` are 0.50, 0.75 and 0.15 px. Fine texture in focus holds few lone steps: there the map
    is too large, by 1 px and more.

    Attributes:
        largest_radius: Largest blur radius that is considered, in pixels.
        softness: PSF shape, see `optics.psf`.
        intrinsic_std: What a lens in focus and demosaicking soften, in pixels.
        smoothing_std: Of the gradients, in pixels.
        reblur_std: Of the second blur of the gradient ratio, in pixels.
        least_noise: Noise is taken to be at least this, in [0, 1] units, whatever is measured or given.
        least_strength: Edges with gradients below so many standard deviations of the noise's are not seen.
        full_strength: Edges with gradients of so many standard deviations and more have full weight.
        disagreement: Of the two measures at which an edge loses 40 % of its weight, per pixel of 1 + radius.
        enough: T_0, the weight of edges that count half against their neighbourhood.
        smoothness: Of the map.
        reach: Pixels over which the edges' word carries into flat regions.
        caution: Share of weight of the edges that are more blurred than the map; below 0.5 prefers too small
            to too large.
    """

    largest_radius: float = 8.0
    softness: float = 0.0
    intrinsic_std: float = 0.4
    smoothing_std: float = 1.0
    reblur_std: float = 2.0
    least_noise: float = 0.004
    least_strength: float = 5.0
    full_strength: float = 60.0
    disagreement: float = 0.25
    enough: float = 0.15
    smoothness: float = 1.0
    reach: float = 40.0
    caution: float = 0.25

    least_confidence: ClassVar[float] = 0.25

    def __post_init__(self) -> None:
        if not self.largest_radius > 1:
            raise ValueError(f"largest_radius must be above 1 px, got {self.largest_radius}")
        if not 0 < self.caution < 1:
            raise ValueError(f"caution must be between 0 and 1, got {self.caution}")
        for name in ("smoothing_std", "reblur_std", "least_noise", "least_strength", "disagreement", "enough", "reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @torch.no_grad()
    def estimate(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map of a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Blur radius in pixels of y and how much it rests on edges nearby, in [0, 1]; both (1, 1, H, W), float32.

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        check_capture(y)
        brightness = luma(y.float())
        noise_std = max(estimate_noise_std(y) if noise_std is None else noise_std, self.least_noise)
        # Independent noise of three channels averages out to two thirds in their weighted sum.
        edges, radius, weight = self.measure(brightness, noise_std * (0.67 if y.shape[1] == 3 else 1.0))
        guide = F.avg_pool2d(brightness, _CELL, ceil_mode=True, count_include_pad=False)
        cells = (edges.row // _CELL) * guide.shape[-1] + edges.column // _CELL
        radius, confidence = (enlarge(map_, y.shape[-2:], _CELL) for map_ in self._spread(guide, cells, radius, weight))
        radius = guided_filter(brightness, radius, _CELL, _EDGE_VARIANCE).clamp(0, self.largest_radius)
        return radius, confidence

    def measure(self, brightness: Tensor, noise_std: float) -> tuple[Edges, Tensor, Tensor]:
        """Finds edges and what they say.

        Args:
            brightness: Grey photo in [0, 1], shape (1, 1, H, W).
            noise_std: Its noise, in [0, 1] units, positive.

        Returns:
            N edge pixels, their blur radii in pixels, (N,), and weights in [0, 1], (N,).
        """
        # White noise after a Gaussian derivative: its standard deviation in either direction.
        gradient_noise = noise_std / (math.sqrt(8 * math.pi) * self.smoothing_std**2)
        reach = psf_reach(self.largest_radius, self.softness) + math.ceil(3 * self.smoothing_std)
        least = self.least_strength * gradient_noise
        edges = find_edges(brightness, self.smoothing_std, self.reblur_std, least, reach)
        profiles = EdgeProfiles(
            self.softness, self.smoothing_std, self.reblur_std, self.intrinsic_std, self.largest_radius
        )
        by_contrast, by_ratio = profiles.radius_of_contrast(edges.contrast), profiles.radius_of_ratio(edges.ratio)
        radius = (by_contrast + by_ratio) / 2
        agreement = torch.exp(-((by_contrast - by_ratio) / (self.disagreement * (1 + radius))).square() / 2)
        strength = (edges.gradient / (self.full_strength * gradient_noise)).clamp(max=1)
        return edges, radius, strength.square() * agreement * edges.likeness

    def _spread(self, guide: Tensor, cells: Tensor, radius: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Radius and confidence of all cells, two of (1, 1, h, w), from N edges in some of them."""
        decay = self.smoothness * (_CELL / self.reach) ** 2
        links = [_link(guide.diff(dim=dim)) * self.smoothness for dim in (-2, -1)]
        solution = guide.new_zeros(2, *guide.shape[1:])
        heard = torch.ones_like(weight)
        for _ in range(_ROUNDS):
            sums = torch.stack([weight * heard, weight * heard * radius])
            data = guide.new_zeros(2, guide.numel()).index_add_(1, cells, sums).view_as(solution)
            data = data / (data[:1] + self.enough)  # (d, d r)

            def system(x: Tensor, data: Tensor = data[:1]) -> Tensor:
                return (data + decay) * x + _laplacian(x, links)

            solution = conjugate_gradient(system, data, solution, _CG_ITERATIONS, _CG_TOLERANCE)
            dense = solution[1] / solution[0].clamp(min=1e-6)
            excess = radius - dense.flatten()[cells]
            side = torch.where(excess > 0, self.caution, 1 - self.caution) * 2
            heard = side / (1 + (excess / (0.3 + 0.15 * (radius - excess))).square())
        return dense[None], solution[:1].clamp(0, 1)


def _link(difference: Tensor) -> Tensor:
    """How closely neighbours belong together, from the difference of their brightness."""
    return (1 / (1 + difference.square() / _EDGE_VARIANCE)).clamp(min=_WEAKEST_LINK)


def _laplacian(x: Tensor, links: list[Tensor]) -> Tensor:
    """Sum over neighbours of link times difference: (B, 1, h, w) and links down and right -> (B, 1, h, w)."""
    out = torch.zeros_like(x)
    for link, dim in zip(links, (-2, -1), strict=True):
        flow, last = link * x.diff(dim=dim), x.shape[dim] - 1
        out.narrow(dim, 1, last).add_(flow)
        out.narrow(dim, 0, last).sub_(flow)
    return out
