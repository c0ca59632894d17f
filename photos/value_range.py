"""The range of stored values that counts: instruments seldom fill the range of the numbers they write.

A camera of 12 bits leaves 15 of 16 codes of a 16-bit file unused, and floating-point pictures may have any unit. The
range is stretched to [0, 1] for the restoration. What the restoration changes is then added to the values as stored,
so that those outside the range, and those that it leaves alone, come back as they were.
"""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["ValueRange"]


@dataclass(frozen=True)
class ValueRange:
    """Two stored values that stand for 0 and 1; both None for the least and greatest value of a picture.

    Attributes:
        low: Stored value that becomes 0.
        high: Stored value that becomes 1.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.low, self.high) if value is not None]
        if len(given) == 1 or not all(map(math.isfinite, given)) or (given and not self.low < self.high):
            raise ValueError(f"a range must be two finite values of which the second is larger, got {self}")

    @classmethod
    def parse(cls, text: str) -> "ValueRange":
        """Reads `LOW,HIGH` or `auto`.

        Raises:
            ValueError: If the text is neither.
        """
        if text == "auto":
            return cls()
        try:
            low, high = map(float, text.split(","))
            return cls(low, high)
        except ValueError:
            raise ValueError(f"expected LOW,HIGH with LOW below HIGH, or auto, got {text!r}") from None

    def __str__(self) -> str:
        return "auto" if self.low is None else f"{self.low:.9g},{self.high:.9g}"

    @property
    def span(self) -> float:
        """High minus low."""
        return self.high - self.low

    def settled(self, low: float, high: float) -> "ValueRange":
        """This range, or where it is open the given one; a picture of one value gets a range of 1."""
        if self.low is not None:
            return self
        return ValueRange(float(low), float(high if high > low else low + 1))

    def to_unit(self, samples: np.ndarray) -> np.ndarray:
        """Stored values as float32 in [0, 1]; those outside the range become its ends."""
        return np.clip((samples.astype(np.float64) - self.low) / self.span, 0, 1).astype(np.float32)
