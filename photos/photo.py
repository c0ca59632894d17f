"""A photo in memory: float pixels, and all that is needed to write them back as they came.

Two representations meet here. Files hold samples: integer codes (H, W, C) with C = 1 (L), 2 (LA), 3 (RGB) or
4 (RGBA). The rest of the project works on pixels: float32 (H, W, 3) in [0, 1], proportional to the codes. No gamma
curve or colour profile is applied on the way. A range of values other than the whole one (`photos.value_range`) is
stretched to [0, 1].
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from photos.inscription import inscribed_xmp
from photos.value_range import ValueRange

__all__ = ["LAYOUTS", "MAX_PIXELS", "Decoded", "Details", "Photo", "PhotoError", "Refused", "Unscaled", "upright"]

MAX_PIXELS = 250_000_000
"""Largest picture that is decoded, in pixels; checked from the header, before memory is taken."""

LAYOUTS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class PhotoError(ValueError):
    """A file that cannot be read or written as asked; the message is one sentence for the user."""


class Refused(ValueError):
    """A reason not to read a picture, before the file's name is known; never leaves this package."""


class Unscaled(Refused):
    """Floating-point values from `low` to `high` that do not say which of them are black and white."""

    def __init__(self, low: float, high: float) -> None:
        self.extent = f"{low:.6g} to {high:.6g}"
        super().__init__(
            f"expected floating-point values in [0, 1], got {self.extent} (name the range that counts with --range)"
        )


class Details(Protocol):
    """What a format's encoder needs besides the samples; a frozen dataclass of each format's module."""

    @property
    def xmp(self) -> bytes | None:
        """XMP packet."""

    def with_xmp(self, xmp: bytes) -> "Details":
        """The same with another XMP packet."""

    def stripped(self) -> "Details":
        """The same without anything that tells of the photo's making: only what its colours and pixels need."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a decoder of one format returns.

    Attributes:
        samples: Codes as stored, upright, shape (H, W, C) with C from 1 to 4; uint8, uint16 or float32.
        details: What the format's encoder needs besides the samples.
        exif: EXIF block as found in the file, a TIFF structure without the marker `Exif`; None for TIFF files,
            whose tags are part of `details`.
        icc: ICC colour profile.
        inverted: Whether 0 was white in the file, of which the samples are the inverse.
    """

    samples: np.ndarray
    details: Details
    exif: bytes | None = None
    icc: bytes | None = None
    inverted: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest stored value of a colour.

        Raises:
            Refused: If floating-point samples are not finite.
        """
        self.check_finite()
        colours = self.samples[..., : 3 if self.samples.shape[2] >= 3 else 1]
        return colours.min(), colours.max()

    def check_finite(self) -> None:
        """Refuses floating-point samples that are not finite.

        Raises:
            Refused: If there are such samples.
        """
        if self.samples.dtype == np.float32 and not np.isfinite(self.samples).all():
            raise Refused("expected finite values, got NaN or infinity")


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture and how it was stored.

    Attributes:
        path: Where it was read from.
        pixels: Values in [0, 1] as stored (usually sRGB), upright, float32, shape (H, W, 3); grey is repeated.
        alpha: Opacity in [0, 1], float32, shape (H, W), or None.
        layout: `L`, `LA`, `RGB` or `RGBA`: how the picture is written back. A palette becomes RGB or RGBA.
        bit_depth: 8, 16, or 32 for a floating-point TIFF.
        format: How it is written: `JPEG`, `PNG`, `TIFF`, `WebP`, `AVIF` or `HEIC`; raw photos are written as TIFF.
        exif: EXIF block as found in the file; None for TIFF files.
        icc: ICC colour profile; carried along, never applied.
        details: What the format's encoder needs besides: quantisation tables, chunks, tags.
        software: Name and version of the program that is entered in the metadata, or None.
        value_range: The values as stored that pixels of 0 and 1 stand for; None for those of the type, or [0, 1].
        stored: With a range, the samples as stored; else None.
    """

    path: Path
    pixels: np.ndarray
    alpha: np.ndarray | None
    layout: str
    bit_depth: int
    format: str
    exif: bytes | None
    icc: bytes | None
    details: Details
    software: str | None = None
    value_range: ValueRange | None = None
    stored: np.ndarray | None = None

    @classmethod
    def of(cls, path: Path, kind: str, decoded: Decoded, value_range: ValueRange | None = None) -> "Photo":
        """Makes a photo of decoded samples.

        Args:
            path: Where the samples come from.
            kind: The format that it is written in.
            decoded: The decoder's result.
            value_range: The stored values that become 0 and 1; None for those of the type, or [0, 1].

        Raises:
            Refused: If floating-point samples are not finite, or, without a range, not in [0, 1]; with a range, if
                samples were inverted.
        """
        samples = decoded.samples
        if value_range is not None and decoded.inverted:
            raise Refused("expected values that grow with brightness for a range, got a picture in which 0 is white")
        decoded.check_finite()
        if value_range is not None:
            values = value_range.to_unit(samples)
            if samples.shape[2] in (2, 4):
                full = 1 if samples.dtype == np.float32 else np.iinfo(samples.dtype).max
                values[..., -1] = np.clip(samples[..., -1] / np.float32(full), 0, 1)
        elif samples.dtype == np.float32:
            values = samples.copy()
            if values.min() < 0 or values.max() > 1:
                raise Unscaled(values.min(), values.max())
        else:
            values = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
        colours = 3 if samples.shape[2] >= 3 else 1
        pixels = values[..., :colours] if colours == 3 else np.repeat(values[..., :1], 3, axis=2)
        alpha = np.ascontiguousarray(values[..., -1]) if samples.shape[2] in (2, 4) else None
        # Channel by channel in memory, as networks take them: nothing needs a second copy.
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
        return cls(
            path=path, pixels=pixels, alpha=alpha, layout=LAYOUTS[samples.shape[2]],
            bit_depth=8 * samples.dtype.itemsize, format=kind, exif=decoded.exif, icc=decoded.icc,
            details=decoded.details, value_range=value_range, stored=None if value_range is None else samples,
        )  # fmt: skip

    def inscribed(self, software: str, parameters: str) -> "Photo":
        """The photo with a record of what was done to it in its metadata: see `photos.inscription`.

        Args:
            software: Name and version of the program.
            parameters: What reproduces the result, as text.
        """
        xmp = inscribed_xmp(self.details.xmp, software, parameters)
        return replace(self, software=software, details=self.details if xmp is None else self.details.with_xmp(xmp))

    def stripped(self) -> "Photo":
        """The photo without metadata; its colour profile stays, for without it the colours would change."""
        return replace(self, exif=None, details=self.details.stripped())

    def samples_of(self, pixels: np.ndarray) -> np.ndarray:
        """The codes that store given pixels as this photo is stored.

        Args:
            pixels: Values in [0, 1], floating-point, shape (H, W, 3); of the photo's size if it has alpha or a range
                of values. Values outside are clipped. A grey photo stores the mean of the three channels.

        Returns:
            Codes of this photo's bit depth and layout, with its alpha unchanged, shape (H, W, C).

        Raises:
            ValueError: If the pixels are not (H, W, 3), are integers, do not fit the alpha or the values that are
                stored, or are not finite.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ValueError(f"pixels must have shape (H, W, 3), got {pixels.shape}")
        if pixels.dtype.kind != "f":
            raise ValueError(f"pixels must be floating-point values in [0, 1], got {pixels.dtype}")
        if self.stored is not None and pixels.shape != self.pixels.shape:
            size = self.pixels.shape[:2]
            raise ValueError(f"pixels must have the size {size} of the values in range, got {pixels.shape[:2]}")
        if self.alpha is not None and pixels.shape[:2] != self.alpha.shape:
            raise ValueError(f"pixels must have the size {self.alpha.shape} of the alpha, got {pixels.shape[:2]}")
        if not np.isfinite(pixels).all():
            raise ValueError("pixels must be finite, got NaN or infinity")
        if self.stored is not None:
            return self._samples_in_range(pixels)
        values = pixels
        if self.layout in ("L", "LA"):
            # In double precision the mean of three equal float32 values is that value.
            values = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
        if self.alpha is not None:
            values = np.concatenate([values, self.alpha[..., None]], axis=2)
        # In the order of files, whatever that of the pixels.
        values = np.clip(values, 0, 1, dtype=np.float32, order="C")
        if self.bit_depth == 32:
            return values
        dtype = np.dtype(f"u{self.bit_depth // 8}")
        return np.rint(values * np.float32(np.iinfo(dtype).max)).astype(dtype)

    def _samples_in_range(self, pixels: np.ndarray) -> np.ndarray:
        """As `samples_of` with a range: what changed is added to what was stored, so that nothing else changes.

        Nor do values outside of the range: the restoration saw its ends in their place.
        """
        change = np.clip(pixels, 0, 1) - self.pixels.astype(np.float64)
        if self.layout in ("L", "LA"):
            change = change.mean(axis=2, keepdims=True)
        samples = self.stored.copy()
        colours = samples[..., : change.shape[2]]
        values = colours + self.value_range.span * change
        if self.bit_depth != 32:
            values = np.clip(np.rint(values), 0, np.iinfo(samples.dtype).max)
        inside = (colours >= self.value_range.low) & (colours <= self.value_range.high)
        colours[...] = np.where(inside, values, colours)
        return samples


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turns samples stored with an EXIF orientation the way they are meant to be seen.

    Args:
        samples: Array of shape (H, W, ...).
        orientation: EXIF orientation; the numbers 1 to 8 have a meaning, others leave the samples alone.

    Returns:
        A contiguous array of shape (H, W, ...), or (W, H, ...) for the orientations 5 to 8.
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
