"""The methods that the benchmark compares: what each makes of a capture.

A method is given the capture and, in the true-map column, the blur map; noise and map are otherwise its
own to estimate. Everything slow is imported when a method is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.captures import Capture

__all__ = ["Method", "MethodUnavailable", "Restored"]


class MethodUnavailable(Exception):
    """A method that cannot run here, such as one whose package is not installed; the text says why."""


@dataclass(frozen=True)
class Restored:
    """What a method made of a capture.

    Attributes:
        image: Restored picture in [0, 1], shape (1, 3, H, W).
        radius_map: Blur radii that it used in pixels, shape (1, 1, H, W), or None if it needs none.
        evaluations: Network evaluations.
    """

    image: Tensor
    radius_map: Tensor | None
    evaluations: int


class Method(Protocol):
    """A way to restore captures.

    Attributes:
        takes_map: Whether it uses a blur map, so that a true one makes a column of its own.
    """

    takes_map: bool

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        """Restores a capture.

        Args:
            capture: What to restore; a method sees `y` alone, one that looks results up the names too.
            radius_map: True blur radii in pixels, shape (1, 1, H, W), on the capture's device; None: blind.
            generator: Source of all random numbers.
        """
        ...
