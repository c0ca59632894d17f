"""Photos whose colour profile has another curve than sRGB: what `--light linear` makes of them.

The operator of linear light and the prior know the curve of sRGB alone. A photo in ProPhoto or in a linear space is
therefore written with that curve for the time of the restoration, channel by channel: stored value, light by the
profile, sRGB code. Its primaries stay what they are, for blur mixes no channels, and nothing leaves its gamut.
"""

from dataclasses import dataclass

import numpy as np
import torch

from optics.light import to_srgb
from photos import Photo
from photos.profile import curves_of

__all__ = ["ProfileLight"]

_NODES = 1 << 16


@dataclass(frozen=True, eq=False)
class ProfileLight:
    """Tables from stored values to sRGB codes of the same light, one for each channel.

    Attributes:
        stored: Stored values in [0, 1], ascending, shape (N,).
        codes: sRGB codes in [0, 1] of each channel, ascending, shape (3, N).
    """

    stored: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, photo: Photo) -> "ProfileLight | None":
        """The tables of a photo's profile; None where there is none, or where its curve is that of sRGB."""
        curves = curves_of(photo.icc)
        if curves is None:
            return None
        stored = np.linspace(0, 1, _NODES)
        light = np.stack([np.clip(curve(stored), 0, 1) for curve in curves])
        codes = to_srgb(torch.from_numpy(light)).numpy()
        if np.abs(codes - stored).max() < 0.004:
            return None
        return cls(stored, np.maximum.accumulate(codes, axis=1))

    def to_codes(self, pixels: np.ndarray) -> np.ndarray:
        """Stored values (H, W, 3) in [0, 1] to sRGB codes of the same light."""
        return self._channels(pixels, lambda values, codes: np.interp(values, self.stored, codes))

    def restored(self, pixels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Stored values of a restoration; where it changed nothing these are the photo's own.

        Args:
            pixels: Stored values of the photo, shape (H, W, 3).
            before: `to_codes` of them.
            after: The restored sRGB codes.
        """

        def back(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
            return np.interp(values, codes, self.stored)

        change = self._channels(after, back) - self._channels(before, back)
        return np.clip(pixels + np.where(after == before, 0, change), 0, 1, dtype=np.float32)

    def _channels(self, values: np.ndarray, function: object) -> np.ndarray:
        channels = [function(values[..., channel], self.codes[channel]) for channel in range(3)]
        return np.stack(channels, axis=2).astype(np.float32)


