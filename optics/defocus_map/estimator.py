"""What all estimators of defocus maps have in common: the plain estimate, and what a restorer acts upon."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from optics.defocus_map.posterior import leave_sharp_alone

__all__ = ["MapEstimator"]


class MapEstimator(ABC):
    """Estimates blur radius and confidence for every pixel of a capture.

    Attributes:
        least_confidence: Confidence below which a radius is not acted upon.
    """

    least_confidence: ClassVar[float]

    @abstractmethod
    def estimate(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map of a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Returns:
            Blur radius in pixels of y, the likeliest guess also where little tells, and how far it can be trusted, in
            [0, 1]; both (1, 1, H, W), float32.

        Raises:
            ValueError: If y has another shape or is not finite.
        """

    def __call__(self, y: Tensor, noise_std: float | None = None) -> tuple[Tensor, Tensor]:
        """Estimates the defocus map that a restorer acts upon, which does no harm where little tells.

        Arguments, results and errors are those of `estimate`, but the radius is 0 where it is below about 1 px or
        unknown.
        """
        return self.acted_upon(*self.estimate(y, noise_std))

    def acted_upon(self, radius: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """Of an estimate what a restorer acts upon, see `__call__`, and its confidence as it is."""
        return leave_sharp_alone(radius) * (confidence >= self.least_confidence), confidence
