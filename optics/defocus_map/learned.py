"""Blind estimation of a defocus map by a network, alone or together with the evidence of local spectra.

The network has met many lenses, cameras and files in simulation, and knows what edges look like. It looks at the
capture as it is, and reduced, where blur that is large for its windows is not; its opinions are multiplied. A look
at a fourth of the size tells wide blur from flat light: what is beyond the range of the estimate is nearly flat at half
size. The evidence knows one model of the blur and follows it to a tenth of a pixel where it holds. Their log-linear
fusion

    p(r | y)  ~  p_network(r | y)^a  exp(b E(r)),    E the volume of `EvidenceEstimator.evidence`

(a logarithmic opinion pool) keeps the sharper of two opinions that agree, and lets the network veto radii
that only a wrong model finds.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.defocus_map.estimator import MapEstimator
from optics.defocus_map.evidence import LARGEST_RADIUS, EvidenceEstimator
from optics.defocus_map.guided_filter import guided_filter
from optics.defocus_map.posterior import (
    bin_edges,
    candidate_radii,
    check_capture,
    enlarge,
    mass_between,
    quantile_radius,
    rebin,
)  # fmt: skip
from optics.defocus_map.spectra import luma

if TYPE_CHECKING:
    from optics.defocus_map.network import DefocusMapNetwork

__all__ = ["FusedEstimator", "LearnedEstimator", "read_posterior"]

_CELL = 4  # pixels, as of the network
_NEAR = 4  # pixels; the guided filter's windows
_EDGE_VARIANCE = 0.01  # of brightness in [0, 1], beyond which neighbours are separate things
_LEAST_CONFIDENCE = 0.2  # below which a radius is not acted upon; a flat picture has 0.15
_DOUBT = 1e-3  # probability of a pixel of radius that no scale denies to the other


@dataclass(frozen=True)
class LearnedEstimator(MapEstimator):
    """Estimates blur radius and confidence for every pixel of a capture by a network alone.

    Attributes:
        network: A `DefocusMapNetwork`, on the device that does the work.
        scales: Factors by which the capture is reduced, from 1.
        quantile: The estimate is this quantile of the posterior; below 0.5 prefers too small to too large.
        tile: Side of the network's tiles in pixels.
    """

    network: "DefocusMapNetwork"
    scales: tuple[int, ...] = (1, 2, 4)
    quantile: float = 0.42
    tile: int = 1024

    least_confidence: ClassVar[float] = _LEAST_CONFIDENCE

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, got {self.quantile}")
        if not self.scales or self.scales[0] != 1 or sorted(set(self.scales)) != list(self.scales):
            raise ValueError(f"scales must increase from 1, got {self.scales}")

    @property
    def radii(self) -> tuple[float, ...]:
        """K candidate radii in pixels, see `candidate_radii`, the last of which stands for all that are larger."""
        return candidate_radii(min(self.scales[-1] * self.network.radii[-1], LARGEST_RADIUS))

    @torch.no_grad()
    def estimate(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map of a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size; C is 3, or else its mean is taken for grey.
            noise_std: Part of the contract of estimators; the network sees the noise itself.

        Returns:
            Blur radius in pixels of y and the probability that it is right to half a pixel or 20 %; both (1, 1, H, W),
            float32.

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        return read_posterior(y, self.posterior(y), self.radii, self.quantile)

    @torch.no_grad()
    def posterior(self, y: Tensor) -> Tensor:
        """Log-probabilities of `radii` in cells of 4 x 4 px, shape (1, K, ceil(H / 4), ceil(W / 4)).

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        check_capture(y)
        colours = y.float() if y.shape[1] == 3 else luma(y.float()).expand(-1, 3, -1, -1)
        if self.scales == (1,):
            return self.network.tiled(colours, self.tile)
        all_radii = candidate_radii(self.scales[-1] * self.network.radii[-1])
        edges, own_edges = (bin_edges(colours.new_tensor(radii)) for radii in (all_radii, self.network.radii))
        width, total = edges.diff()[:, None, None], 0.0
        for scale in self.scales:
            reduced = F.avg_pool2d(colours, scale, ceil_mode=True, count_include_pad=False)
            probability = self.network.tiled(reduced, self.tile).exp()
            if scale > 1:
                # Small blur is nothing there: how much of it is for the larger sizes to say.
                small = int((own_edges < scale / 2).sum())
                probability = torch.cat([probability[:, :small].sum(1, keepdim=True), probability[:, small:]], 1)
                reduced_edges = torch.cat([own_edges[:1], own_edges[small:]])
            else:
                reduced_edges = own_edges
            density = rebin(probability, scale * reduced_edges, edges) / width + _DOUBT
            cells = tuple(math.ceil(length / _CELL) for length in y.shape[-2:])
            total = total + enlarge(density.log(), cells, scale)
        posterior = torch.log_softmax(total + width.log(), 1)
        if self.radii == all_radii:
            return posterior
        return rebin(posterior.exp(), edges, bin_edges(edges.new_tensor(self.radii))).log()


@dataclass(frozen=True)
class FusedEstimator(MapEstimator):
    """Estimates blur radius and confidence from a network and the evidence of local spectra together.

    Attributes:
        learned: The network's part.
        evidence: The evidence's part; its largest radius is that of the other.
        network_weight: The exponent a.
        evidence_weight: The factor b.
        quantile: The estimate is this quantile of the posterior; below 0.5 prefers too small to too large.
    """

    learned: LearnedEstimator
    evidence: EvidenceEstimator = EvidenceEstimator()
    network_weight: float = 0.75
    evidence_weight: float = 0.1
    quantile: float = 0.38

    least_confidence: ClassVar[float] = _LEAST_CONFIDENCE

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, got {self.quantile}")
        if self.network_weight < 0 or self.evidence_weight < 0:
            raise ValueError(
                f"weights must not be negative, got {self.network_weight} of the network and {self.evidence_weight} "
                "of the evidence"
            )

    @torch.no_grad()
    def estimate(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map of a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Blur radius and confidence, as of `LearnedEstimator`.

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        return read_posterior(y, self.posterior(y, noise_std), self.learned.radii, self.quantile)

    @torch.no_grad()
    def posterior(self, y: Tensor, noise_std: float | None = None) -> Tensor:
        """Log-probabilities of the candidate radii in cells of 4 x 4 px, shape (1, K, ceil(H / 4), ceil(W / 4))."""
        network = self.learned.posterior(y)
        # The candidates of both are then the same.
        estimator = replace(self.evidence, largest_radius=self.learned.radii[-1])
        evidence = enlarge(estimator.evidence(y, noise_std), network.shape[-2:], 2)
        return torch.log_softmax(self.network_weight * network + self.evidence_weight * evidence.to(network), 1)


def read_posterior(
    y: Tensor, posterior: Tensor, radii: tuple[float, ...], quantile: float
) -> tuple[Tensor, Tensor]:
    """The map that log-probabilities in cells of 4 x 4 px stand for.

    Args:
        y: Capture in [0, 1], shape (1, C, H, W).
        posterior: Shape (1, K, ceil(H / 4), ceil(W / 4)).
        radii: K candidate radii in pixels.
        quantile: Of the posterior, which is the estimate.

    Returns:
        Radius in pixels and confidence in [0, 1], both (1, 1, H, W), float32.
    """
    edges = bin_edges(posterior.new_tensor(radii))
    probability = posterior.exp()
    radius = quantile_radius(probability, edges, quantile)
    tolerance = (0.2 * radius).clamp(min=0.5)
    confidence = mass_between(probability, edges, radius - tolerance, radius + tolerance).clamp(0, 1)
    radius, confidence = (enlarge(cells, y.shape[-2:], _CELL) for cells in (radius, confidence))
    radius = guided_filter(luma(y.float()), radius, _NEAR, _EDGE_VARIANCE).clamp(min=0)
    return radius, confidence
