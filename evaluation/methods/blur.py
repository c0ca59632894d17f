"""What a method that is not blind is told: noise and blur radii, true ones or estimated ones of disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Blur", "blur_of"]


@dataclass(frozen=True)
class Blur:
    """The blur of a capture.

    Attributes:
        radius_map: Blur radius in pixels, shape (1, 1, H, W).
        noise_std: Noise of the capture, in [0, 1] units; estimated.
        model_std: What the blur leaves unexplained, root mean square over the picture in [0, 1] units, as our
            sampler allows for it: 0 for a true map.
    """

    radius_map: Tensor
    noise_std: float
    model_std: float

    @property
    def mean_radius(self) -> float:
        """Mean of the map in pixels."""
        return float(self.radius_map.mean())

    @property
    def total_std(self) -> float:
        """Noise and error of the model together, for methods that know one noise level alone."""
        return (self.noise_std**2 + self.model_std**2) ** 0.5


def blur_of(y: Tensor, radius_map: Tensor | None) -> Blur:
    """The blur of a capture: the noise estimated, the map as given, or estimated by evidence.

    That is the part of our pipeline's estimate that needs no weights of ours: the network for the map and the choice
    of a lens are not for others.

    Args:
        y: Capture in [0, 1], shape (1, 3, H, W).
        radius_map: True blur radii in pixels, shape (1, 1, H, W); None: blind.
    """
    from optics import EvidenceEstimator, estimate_noise_std
    from optics.model_error import model_error_std
    from samplers.settings import SamplerSettings

    noise_std = float(estimate_noise_std(y))
    if radius_map is not None:
        return Blur(radius_map, noise_std, 0.0)
    radius_map, _ = EvidenceEstimator()(y, noise_std)
    error = model_error_std(y, radius_map, SamplerSettings().model_error)
    return Blur(radius_map, noise_std, float(error.square().mean().sqrt()))
