"""WebP: decoded and encoded by Pillow, without loss where the input had none."""

import io
import struct

import numpy as np
from PIL import Image

from photos.embedded import EXIF_MARKER, EmbeddedDetails, metadata_options, with_channels
from photos.metadata import exif_orientation, xmp_orientation
from photos.photo import MAX_PIXELS, Decoded, Photo, Refused, upright

__all__ = ["decode", "encode"]

# Below, colours visibly move even where nothing was restored.
_QUALITY = 100


def decode(data: bytes) -> Decoded:
    """Decodes a WebP file.

    Raises:
        Refused: If the picture is too large or animated, or the file is cut short.
        OSError: If the file is damaged.
    """
    chunks = _chunks(data)
    if "ANIM" in chunks:
        raise Refused("expected a single picture, got an animated WebP")
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Refused(f"expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
        image.load()
        info = dict(image.info)
        samples = with_channels(np.asarray(image.convert("RGBA" if image.mode == "RGBA" else "RGB")))
    lossless = {"lossless": True, "exact": True}
    details = EmbeddedDetails(info.get("xmp"), lossless if "VP8L" in chunks else {"quality": _QUALITY})
    exif = info.get("exif", b"").removeprefix(EXIF_MARKER)
    orientation = exif_orientation(exif) or xmp_orientation(details.xmp) or 1
    return Decoded(upright(samples, orientation), details, exif or None, info.get("icc_profile"))


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as a WebP file with the metadata of a photo.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; a WebP.
    """
    samples = photo.samples_of(pixels)
    height, width = samples.shape[:2]
    buffer = io.BytesIO()
    options = {**photo.details.encoding, **metadata_options(photo, width, height)}
    Image.fromarray(samples).save(buffer, "WEBP", method=4, **options)
    return buffer.getvalue()


def _chunks(data: bytes) -> set[str]:
    """Names of the chunks of a RIFF file, which must be whole."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise Refused("expected a whole WebP file, got one that is cut short")
    names, at = set(), 12
    while at + 8 <= size + 8:
        name, length = struct.unpack_from("<4sI", data, at)
        names.add(name.decode("latin-1"))
        at += 8 + length + length % 2
    return names
