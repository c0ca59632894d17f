"""HEIC, as telephones write it: decoded and encoded by the optional package pillow-heif, in 8, 10 or 12 bits.

The package turns pictures upright itself; written files say so.
"""

import io

import numpy as np

from photos.avif import check_colours, item_properties
from photos.embedded import EXIF_MARKER, EmbeddedDetails, metadata_options, with_channels
from photos.photo import MAX_PIXELS, Decoded, Photo, Refused

__all__ = ["decode", "encode"]

_QUALITY = 95
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(data: bytes) -> Decoded:
    """Decodes a HEIC file with a single picture.

    Raises:
        Refused: If pillow-heif is missing, or there are several pictures, too many pixels, or colours that would be
            lost.
        OSError: If the file is damaged or cut short.
    """
    heif = _package()
    file = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    if len(file) != 1:
        raise Refused(f"expected a HEIC with a single picture, got {len(file)}; please split it")
    width, height = file.size
    if width * height > MAX_PIXELS:
        raise Refused(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")
    info = file.info
    if not info.get("icc_profile"):
        check_colours(list(item_properties(data)))
    depth = int(info.get("bit_depth", 8))
    samples = with_channels(np.asarray(file))
    if samples.dtype == np.uint16:
        # Codes of 10 or 12 bits come in the upper bits: all ones must become full range.
        full = 2**depth - 1
        samples = np.rint((samples >> (16 - depth)) * (65535 / full)).astype(np.uint16)
    if samples.shape[2] == 2:
        raise Refused("expected a grey or RGB HEIC, got grey with alpha; please convert it")
    exif = (info.get("exif") or b"").removeprefix(EXIF_MARKER)
    encoding = {"depth": depth, "chroma": info.get("chroma") or 444}
    return Decoded(samples, EmbeddedDetails(info.get("xmp") or None, encoding), exif or None, info.get("icc_profile"))


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as a HEIC file of a photo's bit depth, with its metadata.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; a HEIC.
    """
    heif = _package()
    samples = photo.samples_of(pixels)
    height, width, channels = samples.shape
    depth, chroma = photo.details.encoding["depth"], photo.details.encoding["chroma"]
    mode = _MODES[channels]
    if samples.dtype == np.uint16:
        mode += ";16"
        samples = np.rint(samples * ((2**depth - 1) / 65535)).astype(np.uint16) << (16 - depth)
    picture = heif.from_bytes(mode, (width, height), np.ascontiguousarray(samples).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, quality=_QUALITY, chroma=chroma, bit_depth=depth, **metadata_options(photo, width, height))
    return buffer.getvalue()


def _package():
    try:
        import pillow_heif
    except ImportError:
        raise Refused("expected the package pillow-heif for HEIC, got none: pip install -e '.[raw]'") from None
    return pillow_heif
