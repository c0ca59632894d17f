"""Blind estimation of a defocus map from the marginal likelihood of local spectra.

Fitting the radius to the residual of a restored image fails: the image explains the capture under
whatever radius it was restored with, and jointly the likeliest pair is the capture itself at radius 0.
Here the sharp image is integrated out (see `optics.defocus_map.spectra`). The likelihoods of a bank of
radii form a volume, which is averaged over neighbourhoods: independent evidence adds up, and flat
regions, which know nothing, follow their surroundings. Small windows say where, large windows say how
much. A radius too large rings where one too small merely helps less; hence the prior for sharpness,
and a quantile of the posterior below its median as the estimate.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.defocus_map.estimator import MapEstimator
from optics.defocus_map.guided_filter import box_mean, guided_filter
from optics.defocus_map.posterior import (
    bin_edges,
    candidate_radii,
    check_capture,
    enlarge,
    quantile_radius,
)  # fmt: skip
from optics.defocus_map.spectra import local_log_likelihood, luma
from optics.measured_psf import MeasuredPSF
from optics.noise import estimate_noise_std

__all__ = ["LARGEST_RADIUS", "EvidenceEstimator"]

LARGEST_RADIUS = 16.0
"""Largest blur radius in pixels that estimates tell apart from larger ones."""

_CELL = 8  # pixels
_NEAR = 2  # cells; the guided filter's windows, which follow the photo's edges
_WIDE = 8  # cells
_WIDE_WINDOW = 64  # pixels
_EDGE_VARIANCE = 0.01  # of brightness in [0, 1], beyond which neighbours are separate things


@dataclass(frozen=True)
class EvidenceEstimator(MapEstimator):
    """Estimates blur radius and confidence for every pixel of a capture.

    Attributes:
        largest_radius: Largest blur radius that is considered, in pixels.
        softness: PSF shape, see `optics.psf`.
        psf: Measured PSFs in place of the round ones.
        noise_margin: Noise is overstated by this factor.
        least_noise: Noise is taken to be at least this, in [0, 1] units, whatever is measured or given: JPEG rounds
            textures much more coarsely than the flat blocks that the measurement rests on.
        outliers: Probability that a window's content fits the model at no radius; bounds what one window can say.
        near_weights: Weights of the evidence of windows of 16 and of 32 px in the near neighbourhood.
        wide_weight: Weight of windows of 64 px in the wide neighbourhood, which decides where the near one is flat.
        sharp_prior: Log-odds of each radius up to 1 px against each larger one.
        prior_slope: The log-prior falls by so much per pixel of radius.
        quantile: The estimate is this quantile of the posterior; below 0.5 prefers too small to too large.
    """

    largest_radius: float = 8.0
    softness: float = 0.0
    psf: MeasuredPSF | None = None
    noise_margin: float = 1.3
    least_noise: float = 0.008
    outliers: float = 2e-3
    near_weights: tuple[float, float] = (0.8, 1.0)
    wide_weight: float = 0.8
    sharp_prior: float = 5.0
    prior_slope: float = 0.3
    quantile: float = 0.37

    least_confidence: ClassVar[float] = 0.4

    def __post_init__(self) -> None:
        if not 1 < self.largest_radius <= LARGEST_RADIUS:
            # The windows hold too few periods of what a wider PSF lets through; shrink such a photo first.
            bounds = f"above 1 and at most {LARGEST_RADIUS:g} px"
            raise ValueError(f"largest_radius must be {bounds}, got {self.largest_radius}")
        if not self.least_noise > 0:
            raise ValueError(f"least_noise must be positive, got {self.least_noise}")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, got {self.quantile}")
        if not 0 < self.outliers < 1:
            raise ValueError(f"outliers must be between 0 and 1, got {self.outliers}")

    @property
    def radii(self) -> tuple[float, ...]:
        """Candidate radii in pixels, K increasing values from 0, see `candidate_radii`."""
        return candidate_radii(self.largest_radius)

    @torch.no_grad()
    def estimate(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map of a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Blur radius in pixels of y and the confidence that it is right to a pixel or 15 %, in [0, 1]; both
            (1, 1, H, W), float32.

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        radius, confidence = self._read(self.evidence(y, noise_std))
        radius, confidence = (enlarge(cells, y.shape[-2:], _CELL) for cells in (radius, confidence))
        return guided_filter(luma(y.float()), radius, _CELL // 2, _EDGE_VARIANCE).clamp(min=0), confidence

    @torch.no_grad()
    def evidence(self, y: Tensor, noise_std: float | None = None) -> Tensor:
        """Log-likelihood of every radius in `radii` in cells of 8 x 8 px, neighbourhoods included.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Values up to a constant per cell, shape (1, K, ceil(H / 8), ceil(W / 8)).

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        check_capture(y)
        y = y.float()
        noise_std = max(estimate_noise_std(y) if noise_std is None else noise_std, self.least_noise)
        # Independent noise of three channels averages out to two thirds in their weighted sum.
        noise_std = noise_std * (0.67 if y.shape[1] == 3 else 1.0) * self.noise_margin
        brightness = luma(y)
        guide = F.avg_pool2d(brightness, _CELL, ceil_mode=True, count_include_pad=False)

        def bounded(window: int, stride: int) -> Tensor:
            volume = local_log_likelihood(
                brightness, self.radii, noise_std, self.softness, window, stride, self.psf
            )
            return torch.log((1 - self.outliers) * torch.softmax(volume, 1) + self.outliers / len(self.radii))

        # The wide neighbourhood needs half as many cells.
        wide = box_mean(bounded(_WIDE_WINDOW, 2 * _CELL), _WIDE // 2)
        evidence = self.wide_weight * enlarge(wide, guide.shape[-2:], 2)
        for window, weight in zip((2 * _CELL, 4 * _CELL), self.near_weights, strict=True):
            evidence += weight * guided_filter(guide, bounded(window, _CELL), _NEAR, _EDGE_VARIANCE)
        return evidence

    def _read(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Quantile of the posterior, and how much of the likelihood lies near it: two of (1, 1, h, w)."""
        radii = evidence.new_tensor(self.radii)
        edges = bin_edges(radii)
        width = edges.diff()
        prior = self.sharp_prior * (radii <= 1) - self.prior_slope * radii
        posterior = torch.softmax(evidence + (width.log() + prior)[:, None, None], 1)
        radius = quantile_radius(posterior, edges, self.quantile)
        # Without the prior, so that what is not seen is not believed.
        likelihood = torch.softmax(evidence + width.log()[:, None, None], 1)
        tolerance = (0.15 * radius).clamp(min=1)
        near = ((radii[:, None, None] - radius).abs() <= tolerance).to(evidence)
        chance = (near * width[:, None, None]).sum(1, keepdim=True) / width.sum()
        found = (near * likelihood).sum(1, keepdim=True)
        return radius, ((found - chance) / (1 - chance).clamp(min=1e-6)).clamp(0, 1)
