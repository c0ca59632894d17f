"""One photo in memory as its owner wishes it: with caution where the blur is no defocus, and what is to stay as it was.

Motion blur is not what the model of defocus explains: it takes for a radius what is a line. Where a photo whose map is
estimated looks like motion, its radii are halved: half a radius is a quarter of the blur, so that less is done, and
what is done errs on the side that does not ring. So is the confidence that is told of them. A map that is given is
used as it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from optics.defocus_map import MotionDetector
from optics.defocus_map.posterior import leave_sharp_alone
from samplers.composition import compose
from samplers.pipeline import Restoration
from samplers.posterior_samples import SampledRestoration
from samplers.restoring import Method
from samplers.reverse_process import SamplerStep

__all__ = ["MaskError", "Wishes", "facts_of_wishes", "restore_as_wished"]

_CAUTION = 0.5  # times the radii of what looks like motion, and the confidence that is told


class MaskError(ValueError):
    """A given mask does not belong to the photo."""


@dataclass(frozen=True)
class Wishes:
    """What is to stay as it was taken, see `samplers.composition`, and who is told of caution.

    Attributes:
        mask: How much of each pixel may change, in [0, 1], float32, shape (H, W); None for all of it.
        max_radius: Largest blur radius that is restored, in pixels; None for no limit.
        strength: Share of the restoration that is mixed in, in [0, 1].
        warn: Told in one sentence if the photo looks like motion.
    """

    mask: np.ndarray | None = None
    max_radius: float | None = None
    strength: float = 1.0
    warn: Callable[[str], None] | None = None

    def check(self, size: tuple[int, int]) -> None:
        """Checks that the mask has a photo's height and width; raises a `MaskError`."""
        if self.mask is not None and self.mask.shape != size:
            raise MaskError(f"expected a mask of {_size(size)} pixels as the photo has, got {_size(self.mask.shape)}")


def facts_of_wishes(mask: str | None, max_radius: float | None, strength: float) -> dict[str, str | float]:
    """What a report says of what was to stay as it was: of the mask its name, of the others see `Wishes`."""
    kept = {"largest radius restored": max_radius, "mask": mask}
    facts = {name: value for name, value in kept.items() if value is not None}
    return facts if strength == 1 else facts | {"share of the restoration": strength}


def restore_as_wished(
    method: Method, image: Tensor, radius_map: Tensor | None, wishes: Wishes,
    callback: Callable[[SamplerStep], None] | None = None,
) -> Restoration:  # fmt: skip
    """Restores a capture.

    Args:
        method: How it is restored.
        image: Capture in [0, 1], shape (1, 3, H, W).
        radius_map: Blur radii in pixels, shape (1, 1, H, W); estimated if None.
        wishes: What is to stay.
        callback: Called after each network evaluation.

    Raises:
        MaskError: If the mask's size is not the capture's.
        OutOfMemory: If memory does not suffice.
        FloatingPointError: If the result is not finite.
    """
    size, mask, confidence, moved = tuple(image.shape[-2:]), wishes.mask, None, False
    wishes.check(size)
    if mask is not None:
        mask = torch.from_numpy(mask)[None, None].to(image)
    if radius_map is None:
        radius_map, confidence = method.estimate_map(image)
        motion = MotionDetector()(image)
        moved = motion.found
        if moved:
            radius_map = leave_sharp_alone(_CAUTION * radius_map)
            if wishes.warn is not None:
                # Its length is known to a quarter at best, and not at all below 8 pixels.
                wishes.warn(
                    "expected blur of a lens out of focus, got what looks like motion at "
                    f"{math.degrees(motion.angle):.0f} degrees; estimated radii are halved"
                )
    restored = method(image, radius_map, callback, confidence)
    if moved:
        # For who reads it: a restorer of less confidence leans on its regression, which knows of no caution.
        restored = replace(restored, motion=True, confidence=_CAUTION * restored.confidence)

    def composed(x: Tensor) -> Tensor:
        return compose(
            image, x, restored.radius_map, mask=mask, max_radius=wishes.max_radius, strength=wishes.strength
        )

    if isinstance(restored, SampledRestoration):
        return restored.of([composed(sample) for sample in restored.samples])
    return replace(restored, image=composed(restored.image))


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
