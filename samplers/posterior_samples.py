"""Several samples of the posterior: their mean, and how far they are apart in every pixel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samplers.averaged_runs import shifted
from samplers.pipeline import Restoration
from samplers.restoring import ScoreMethod
from samplers.reverse_process import SamplerStep

__all__ = ["SampledRestoration", "SamplesMethod"]


@dataclass(frozen=True)
class SampledRestoration(Restoration):
    """A restoration whose image is the mean of samples.

    Attributes:
        samples: In [0, 1], each of shape (1, 3, H, W).
        spread: Standard deviation of the samples in each pixel, of full range, root mean square over the channels,
            shape (1, 1, H, W). Where it is large the detail is one of several that fit the capture.
    """

    samples: tuple[Tensor, ...] = ()
    spread: Tensor | None = None

    def of(self, samples: Sequence[Tensor]) -> "SampledRestoration":
        """The same of other samples: mean and spread follow."""
        stacked = torch.cat(list(samples))
        spread = stacked.var(0, keepdim=True).mean(1, keepdim=True).sqrt()
        return replace(self, image=stacked.mean(0, keepdim=True), samples=tuple(samples), spread=spread)


class SamplesMethod:
    """Draws samples one after another, each from noise of its own, under one defocus map and lens.

    Args:
        method: The sampler; its seed is that of the first sample, and each further one has the next number.
        count: Number of samples, at least 2.

    Raises:
        ValueError: If count is below 2, or the settings do not draw samples.
    """

    def __init__(self, method: ScoreMethod, count: int) -> None:
        if count < 2:
            raise ValueError(f"samples: expected at least 2, got {count}")
        if method.settings.output != "sample":
            raise ValueError(f"samples: expected settings with output=sample, got output={method.settings.output}")
        self.method, self.count = method, count

    def __call__(
        self, image: Tensor, radius_map: Tensor | None, callback: Callable[[SamplerStep], None] | None = None,
        confidence: Tensor | None = None,
    ) -> SampledRestoration:  # fmt: skip
        """Restores a capture `count` times; arguments and errors as of `ScoreMethod`."""
        first = self.method(image, radius_map, shifted(callback, 0, self.count), confidence)
        samples, evaluations = [first.image], first.evaluations
        # Map and lens are found once, for the first.
        options = {**self.method.options, "lens": first.lens}
        for number in range(1, self.count):
            method = ScoreMethod(
                self.method.pipeline, self.method.settings, seed=self.method.seed + number, **options
            )
            drawn = method(image, first.radius_map, shifted(callback, number, self.count), first.confidence)
            samples.append(drawn.image)
            evaluations += drawn.evaluations
        return SampledRestoration(
            first.image, first.radius_map, first.confidence, first.noise_std, evaluations, first.lens
        ).of(samples)

    def estimate_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates the map that the method takes where none is given, see `ScoreMethod.estimate_map`."""
        return self.method.estimate_map(image)
