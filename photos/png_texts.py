"""Text chunks of PNG that hold XMP packets, and what ImageMagick spelled in such chunks.

References:
    XMP Specification, part 3: Storage in files, section 1.1.5 for PNG.
"""

import zlib

from photos.metadata import upright_xmp

__all__ = ["LARGEST_TEXT", "is_packet", "packet_of", "text_with", "understood", "upright_text"]

LARGEST_TEXT = 1 << 26
"""Bytes beyond which a packed text or profile is cut off."""

_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
# ImageMagick's way to store EXIF, before the chunk eXIf existed, and other contents of a JPEG's segments.
_RAW_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_EXIF_MARKER, _XMP_MARKER = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def is_packet(name: bytes, body: bytes) -> bool:
    """Whether a chunk is an XMP packet."""
    return name == b"iTXt" and body.startswith(_XMP_KEYWORD)


def text_with(xmp: bytes) -> bytes:
    """The body of a chunk iTXt with a packet, without compression."""
    return _XMP_KEYWORD + b"\0\0\0\0" + xmp


def upright_text(body: bytes) -> bytes:
    """The body of a chunk iTXt with a packet whose orientation becomes 1."""
    text = packet_of(body) or b""
    amended = upright_xmp(text)
    return body if amended == text else text_with(amended)


def packet_of(body: bytes) -> bytes | None:
    """The packet in the body of a chunk iTXt; None where it is damaged."""
    compressed, rest = body[len(_XMP_KEYWORD) : len(_XMP_KEYWORD) + 1], body[len(_XMP_KEYWORD) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    if compressed != b"\1":
        return text
    try:
        return zlib.decompressobj().decompress(text, LARGEST_TEXT)
    except zlib.error:
        return None


def understood(chunks: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The chunks, with EXIF and XMP of raw profiles in those that hold such today, at the end; EXIF has no marker."""
    has_xmp = any(is_packet(*chunk) for chunk in chunks)
    found, late = [], []
    for name, body in chunks:
        profile = _raw_profile(name, body).removeprefix(_EXIF_MARKER)
        if profile[:2] in (b"II", b"MM"):
            late.append((b"eXIf", profile))
        elif profile.startswith(_XMP_MARKER) and not has_xmp:
            late.append((b"iTXt", text_with(profile.removeprefix(_XMP_MARKER))))
        else:
            found.append((name, body.removeprefix(_EXIF_MARKER) if name == b"eXIf" else body))
    return found + late


def _raw_profile(name: bytes, body: bytes) -> bytes:
    """What is spelled in hexadecimal digits in a text chunk; empty where nothing is."""
    if name not in (b"tEXt", b"zTXt") or not body.startswith(_RAW_PROFILES):
        return b""
    text = body.partition(b"\0")[2]
    try:
        if name == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], LARGEST_TEXT)
        digits = b"".join(text.split(b"\n")[3:])  # an empty line, the profile's name, its length, digits
        return bytes.fromhex(digits.decode("ascii"))
    except (ValueError, zlib.error):
        return b""
