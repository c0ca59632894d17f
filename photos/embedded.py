"""What WebP, AVIF and HEIC have in common: EXIF, XMP and a profile beside pixels that a library encodes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from photos.metadata import upright_exif, upright_xmp
from photos.photo import Photo

__all__ = ["EXIF_MARKER", "EmbeddedDetails", "metadata_options", "with_channels"]

EXIF_MARKER = b"Exif\0\0"


@dataclass(frozen=True, eq=False)
class EmbeddedDetails:
    """How a file was stored.

    Attributes:
        xmp: XMP packet.
        encoding: Options of the encoder that keep to the file's way of storing pixels.
    """

    xmp: bytes | None
    encoding: Mapping[str, object]

    def with_xmp(self, xmp: bytes) -> "EmbeddedDetails":
        """The same with another XMP packet."""
        return replace(self, xmp=xmp)

    def stripped(self) -> "EmbeddedDetails":
        """How the pixels were stored, and nothing else."""
        return replace(self, xmp=None)


def metadata_options(photo: Photo, width: int, height: int) -> dict[str, bytes]:
    """EXIF, XMP and profile of a photo as Pillow's options `exif`, `xmp` and `icc_profile`."""
    options = {}
    if photo.exif:
        options["exif"] = EXIF_MARKER + upright_exif(photo.exif, width, height, photo.software)
    if photo.details.xmp:
        options["xmp"] = upright_xmp(photo.details.xmp)
    if photo.icc:
        options["icc_profile"] = photo.icc
    return options


def with_channels(samples: np.ndarray) -> np.ndarray:
    """Samples (H, W) or (H, W, C) as (H, W, C)."""
    return samples[..., None] if samples.ndim == 2 else samples
