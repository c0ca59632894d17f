"""Raw photos of cameras: developed by LibRaw, through the optional package rawpy, and written as 16-bit TIFF.

The development is plain: white balance of the camera, no automatic brightness, no sharpening, Adobe RGB, whose gamut
holds what sRGB would clip. The result's profile says so.
"""

import io
import struct

import numpy as np

from photos import RAW_SUFFIXES
from photos.directories import byte_order, read_directory
from photos.photo import MAX_PIXELS, Decoded, Refused
from photos.tiff import DNG_VERSION, ICC, TiffDetails, kept_tags

__all__ = ["ADOBE_RGB", "decode", "is_raw"]

# Raw files that do not begin like a TIFF file: Fujifilm, Panasonic, Olympus, Minolta, Sigma.
_BEGINNINGS = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM", b"FOVb")
_GAMMA = 563 / 256  # of Adobe RGB (1998), 2.19921875
# Its primaries in XYZ as seen under D50, and the white point of D50 and of the display.
_RED, _GREEN, _BLUE = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
_D50, _D65 = (0.9642, 1.0, 0.8249), (0.95045, 1.0, 1.08905)


def is_raw(data: bytes, suffix: str) -> bool:
    """Whether a file is a raw photo, judged by its content and, where that leaves it open, by its suffix."""
    if data.startswith(_BEGINNINGS) or data[4:12] == b"ftypcrx ":
        return True
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    # Canon's begin like TIFF files and say more; the others are told by their names, or by Adobe's tag.
    return suffix in RAW_SUFFIXES or data[8:10] == b"CR" or _is_dng(data)


def decode(data: bytes) -> Decoded:
    """Develops a raw photo.

    Raises:
        Refused: If rawpy is missing, the camera is unknown, or there are too many pixels.
        Exception: If the file is damaged, whatever LibRaw makes of it.
    """
    try:
        import rawpy
    except ImportError:
        raise Refused("expected the package rawpy for raw photos, got none: pip install -e '.[raw]'") from None
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes = raw.sizes
            if sizes.width * sizes.height > MAX_PIXELS:
                raise Refused(f"expected at most {MAX_PIXELS} pixels, got {sizes.width} x {sizes.height}")
            samples = raw.postprocess(
                use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0, output_bps=16, gamma=(_GAMMA, 0),
                output_color=rawpy.ColorSpace.Adobe,
            )  # fmt: skip
            exif = _exif(raw, data, rawpy)
    except rawpy.LibRawFileUnsupportedError as error:
        raise Refused(f"expected a raw photo of a camera that LibRaw knows, got another ({error})") from None
    order, tags = "<", []
    if exif:
        order = byte_order(exif)
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        tags = kept_tags(exif, read_directory(exif, offset, order)[0], False)
    details = TiffDetails(order=order, compressed=True, extra_sample=2, tags=tags, source=exif or b"", big=False)
    details = details.with_tag(ICC, 7, ADOBE_RGB)
    return Decoded(np.ascontiguousarray(samples), details, None, ADOBE_RGB)


def _is_dng(data: bytes) -> bool:
    try:
        order = byte_order(data)
        (offset,) = struct.unpack_from(order + "I", data, 4)
        return any(entry.tag == DNG_VERSION for entry in read_directory(data, offset, order)[0])
    except (ValueError, struct.error):
        return False


def _exif(raw: object, data: bytes, rawpy: object) -> bytes | None:
    """A TIFF structure with the photo's tags: the file itself, or the EXIF block of its preview."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        return data
    try:
        preview = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if preview.format != rawpy.ThumbFormat.JPEG:
        return None
    from PIL import Image

    with Image.open(io.BytesIO(preview.data), formats=["JPEG", "MPO"]) as image:
        return image.info.get("exif", b"").removeprefix(b"Exif\0\0") or None


def _adobe_rgb() -> bytes:
    """An ICC profile of Adobe RGB (1998): ICC.1:2001-04, matrix and gamma curves."""

    def text(value: str) -> bytes:
        code = value.encode("ascii") + b"\0"
        return b"desc\0\0\0\0" + struct.pack(">I", len(code)) + code + bytes(78)

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(_GAMMA * 256))
    tags = {
        b"desc": text("Compatible with Adobe RGB (1998)"), b"cprt": b"text\0\0\0\0Public domain\0",
        b"wtpt": xyz(_D65), b"rXYZ": xyz(_RED), b"gXYZ": xyz(_GREEN),
        b"bXYZ": xyz(_BLUE), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    white = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02200000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + table + body


ADOBE_RGB = _adobe_rgb()
"""Profile of developed photos."""
