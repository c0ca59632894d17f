"""AVIF: pictures of 8 bits, decoded and encoded by Pillow.

Pillow cuts deeper pictures to 8 bits without a word, and knows nothing of colours that are described by numbers in
place of a profile; such files are refused here instead.

References:
    ISO/IEC 14496-12, boxes; ISO/IEC 23008-12, item properties; AV1 Codec ISO Media File Format Binding, section 2.3;
    ITU-T H.273 for the numbers that describe colours.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from photos.embedded import EXIF_MARKER, EmbeddedDetails, metadata_options, with_channels
from photos.metadata import exif_orientation
from photos.photo import MAX_PIXELS, Decoded, Photo, Refused, upright

__all__ = ["check_colours", "decode", "encode", "item_properties"]

# Below, colours visibly move even where nothing was restored.
_QUALITY = 100
_BT709, _UNSPECIFIED = 1, 2
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


def decode(data: bytes) -> Decoded:
    """Decodes an AVIF file with a single picture of 8 bits.

    Raises:
        Refused: If there are more bits, several pictures, too many pixels, or colours that would be lost.
        OSError: If the file is damaged or cut short.
    """
    properties = list(item_properties(data))
    for kind, body in properties:
        if kind == b"av1C" and len(body) > 2 and body[2] & 0x40:
            bits = 12 if body[2] & 0x20 else 10
            raise Refused(f"expected an AVIF of 8 bits, got one of {bits}; please convert it to a PNG or TIFF of 16")
    with Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Refused(f"expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
        if getattr(image, "n_frames", 1) != 1:
            raise Refused("expected a single picture, got an animated AVIF")
        info = dict(image.info)
        if not info.get("icc_profile"):
            check_colours(properties)
        image.load()
        samples = with_channels(np.asarray(image))
    exif = info.get("exif", b"").removeprefix(EXIF_MARKER)
    details = EmbeddedDetails(info.get("xmp"), {"quality": _QUALITY, "subsampling": _subsampling(properties)})
    return Decoded(upright(samples, exif_orientation(exif) or 1), details, exif or None, info.get("icc_profile"))


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as an AVIF file with the metadata of a photo.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; an AVIF.
    """
    samples = photo.samples_of(pixels)
    height, width, channels = samples.shape
    buffer = io.BytesIO()
    options = {**photo.details.encoding, **metadata_options(photo, width, height)}
    Image.fromarray(samples[..., 0] if channels == 1 else samples).save(buffer, "AVIF", **options)
    return buffer.getvalue()


def item_properties(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the properties of all pictures in an AVIF or HEIC file."""
    for kind, body in _boxes(data):
        if kind == b"meta":
            for inner, content in _boxes(body[4:]):
                if inner == b"iprp":
                    for name, properties in _boxes(content):
                        if name == b"ipco":
                            yield from _boxes(properties)


def check_colours(properties: list[tuple[bytes, bytes]]) -> None:
    """Refuses colours that are described by numbers which a written file would not repeat.

    Raises:
        Refused: If there are such colours.
    """
    for kind, body in properties:
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            if transfer in _HIGH_DYNAMIC_RANGE:
                name = _HIGH_DYNAMIC_RANGE[transfer]
                raise Refused(f"expected a picture of ordinary dynamic range, got {name}; please convert it to sRGB")
            if primaries not in (_BT709, _UNSPECIFIED):
                raise Refused(
                    f"expected sRGB or a colour profile, got primaries number {primaries} of H.273 without a profile; "
                    "please convert it to sRGB"
                )


def _subsampling(properties: list[tuple[bytes, bytes]]) -> str:
    for kind, body in properties:
        if kind == b"av1C" and len(body) > 2:
            return {0: "4:4:4", 2: "4:2:2", 3: "4:2:0"}.get(body[2] >> 2 & 3, "4:4:4")
    return "4:4:4"


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the boxes in a row, as far as they are whole."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, start)
            start = at + 16
        end = len(data) if size == 0 else at + size
        if end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end
