"""Blind estimation of a defocus map from the marginal likelihood of local spectra.

Fitting the radius to the residual of a restored image fails: the image explains the capture under
whatever radius it was restored with, and jointly the likeliest pair is the capture itself at radius 0.
Here the sharp image is integrated out (see `optics.defocus_map.spectra`). The likelihoods of a bank of
radii form a volume, which is averaged over neighbourhoods (independent evidence adds up, and flat
regions, which know nothing, follow their surroundings). A radius too large rings where one too small
merely helps less; hence the prior for sharpness, and a low quantile of the posterior as the estimate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.defocus_map.guided_filter import box_mean
from optics.defocus_map.spectra import local_log_likelihood, luma
from optics.noise import MIN_NOISE_STD, estimate_noise_std

__all__ = ["EvidenceEstimator"]


@dataclass(frozen=True)
class EvidenceEstimator:
    """Estimates blur radius and confidence for every pixel of a capture.

    Attributes:
        largest_radius: Largest blur radius that is considered, in pixels.
        softness: PSF shape, see `optics.psf`.
        noise_margin: Noise is overstated by this factor.
        outliers: Probability that a window's content fits the model at no radius; bounds what one window can say.
        near_weight: Weight of the evidence of the nearest windows, per window.
        wide_weight: The same for the wide neighbourhood, which decides where the near one is flat.
        sharp_prior: Log-odds of a radius up to 1 px against the same range of larger ones.
        quantile: The estimate is this quantile of the posterior; below 0.5 prefers too small to too large.
    """

    largest_radius: float = 8.0
    softness: float = 0.0
    noise_margin: float = 1.3
    outliers: float = 1e-3
    near_weight: float = 1.0
    wide_weight: float = 0.3
    sharp_prior: float = 3.0
    quantile: float = 0.3

    window = 32
    stride = 8
    near, wide = 2, 8

    def __post_init__(self) -> None:
        if not 1 < self.largest_radius <= 32:
            raise ValueError(f"largest_radius must be above 1 and at most 32 px, got {self.largest_radius}")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, got {self.quantile}")
        if not 0 < self.outliers < 1:
            raise ValueError(f"outliers must be between 0 and 1, got {self.outliers}")

    @property
    def radii(self) -> tuple[float, ...]:
        """Candidate radii in pixels, K increasing values from 0: a quarter pixel apart, 8 % from 3 px on."""
        radii = [0.0]
        while radii[-1] < self.largest_radius:
            radii.append(min(radii[-1] + max(0.25, 0.08 * radii[-1]), self.largest_radius))
        return tuple(radii)

    @torch.no_grad()
    def __call__(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map of a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Blur radius in pixels of y, 0 where it is below about 1 px or unknown, and the confidence that it
            is right to a pixel or 15 %, in [0, 1]; both (1, 1, H, W), float32.

        Raises:
            ValueError: If y has another shape.
        """
        evidence = self.evidence(y, noise_std)
        radius, confidence = self._read(evidence)
        radius, confidence = (_enlarge(cells, y.shape[-2:], self.stride) for cells in (radius, confidence))
        return _leave_sharp_alone(radius), confidence.clamp(0, 1)

    @torch.no_grad()
    def evidence(self, y: Tensor, noise_std: float | None = None) -> Tensor:
        """Log-likelihood of every radius in `radii` in cells of 8 x 8 px, neighbourhoods included.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Values up to a constant per cell, shape (1, K, ceil(H / 8), ceil(W / 8)).

        Raises:
            ValueError: If y has another shape.
        """
        if y.dim() != 4 or len(y) != 1:
            raise ValueError(f"y must have shape (1, C, H, W), got {tuple(y.shape)}")
        y = y.float()
        noise_std = estimate_noise_std(y) if noise_std is None else max(noise_std, MIN_NOISE_STD)
        # Independent noise of three channels averages out to two thirds in their weighted sum.
        noise_std = noise_std * (0.67 if y.shape[1] == 3 else 1.0) * self.noise_margin
        volume = local_log_likelihood(luma(y), self.radii, noise_std, self.softness, self.window, self.stride)
        probability = torch.softmax(volume, 1)
        volume = torch.log((1 - self.outliers) * probability + self.outliers / len(self.radii))
        return self.near_weight * box_mean(volume, self.near) + self.wide_weight * box_mean(volume, self.wide)

    def _read(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Quantile of the posterior, and how much of the likelihood lies near it: two of (1, 1, h, w)."""
        radii = evidence.new_tensor(self.radii)
        edges = torch.cat([radii[:1], (radii[1:] + radii[:-1]) / 2, radii[-1:]])
        width = edges.diff()
        prior = self.sharp_prior * (radii <= 1)
        posterior = torch.softmax(evidence + (width.log() + prior)[:, None, None], 1)
        radius = _quantile(posterior, edges, self.quantile)
        # Without the prior, so that what is not seen is not believed.
        likelihood = torch.softmax(evidence + width.log()[:, None, None], 1)
        tolerance = (0.15 * radius).clamp(min=1)
        near = ((radii[:, None, None] - radius).abs() <= tolerance).to(evidence)
        chance = (near * width[:, None, None]).sum(1, keepdim=True) / width.sum()
        found = (near * likelihood).sum(1, keepdim=True)
        return radius, (found - chance) / (1 - chance).clamp(min=1e-6)


def _quantile(probability: Tensor, edges: Tensor, quantile: float) -> Tensor:
    """Quantile of histograms over bins between the edges: (1, K, h, w), (K + 1,) -> (1, 1, h, w)."""
    cumulative = probability.cumsum(1)
    index = (cumulative < quantile).sum(1, keepdim=True).clamp(max=probability.shape[1] - 1)
    mass = probability.gather(1, index)
    below = cumulative.gather(1, index) - mass
    fraction = ((quantile - below) / mass.clamp(min=1e-9)).clamp(0, 1)
    return edges[index] + fraction * (edges[index + 1] - edges[index])


def _enlarge(cells: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Cells to pixels, linearly between the cells' centres: (1, 1, h, w) -> (1, 1, H, W)."""
    pixels = F.interpolate(cells, scale_factor=stride, mode="bilinear", align_corners=False)
    return pixels[..., : size[0], : size[1]].contiguous()


def _leave_sharp_alone(radius: Tensor) -> Tensor:
    """Sets radii below 0.8 px to 0, and closes the gap by 1.2 px: smaller blur cannot be told from none."""
    low, high = 0.8, 1.2
    return torch.where(radius < high, high * ((radius - low) / (high - low)).clamp(min=0), radius)
