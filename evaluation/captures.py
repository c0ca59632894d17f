"""A capture to restore and all that it is measured by, whatever it comes from."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Capture"]


@dataclass(frozen=True)
class Capture:
    """One defocused picture and its reference. Pictures are in [0, 1] sRGB or the like, shape (1, 3, H, W).

    Attributes:
        set_name: Name of the set that it belongs to.
        group: Part of the set that gets figures of its own: a radius map, a split, indoor or outdoor.
        name: Name, unique in its group; may contain slashes.
        y: Capture, as methods see it.
        x: Reference; None where there is none, for looking and for figures without reference.
        radius_map: True blur radius in pixels, shape (1, 1, H, W), where it is known.
        mask: Pixels that are measured, bool, shape (1, 1, H, W); None for all.
        other_focus: Second reference, a shot that is in focus where the mask is.
        border: Pixels along each edge that are left out of every figure.
        bits: Bit depth that restored pictures are rounded to before they are measured.
    """

    set_name: str
    group: str
    name: str
    y: Tensor
    x: Tensor | None
    radius_map: Tensor | None = None
    mask: Tensor | None = None
    other_focus: Tensor | None = None
    border: int = 0
    bits: int = 8

    @property
    def title(self) -> str:
        """Set, group and name, the group only where it adds to the set."""
        parts = [self.set_name, self.group, self.name] if self.group != self.set_name else [self.set_name, self.name]
        return "/".join(parts)
