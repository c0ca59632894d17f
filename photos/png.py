"""PNG: chunks, and the samples of 16 bits that Pillow would cut to 8.

Eight-bit pictures and palettes are decoded by Pillow. Sixteen-bit ones are decoded here, and all are encoded here, so
that the chunks of the input (profile, resolution, texts) are carried over unchanged.

References:
    Portable Network Graphics (PNG) Specification, W3C; filters in section 9, interlacing in section 8.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from photos.metadata import exif_orientation, upright_exif, xmp_orientation
from photos.photo import MAX_PIXELS, Decoded, Photo, Refused, upright
from photos.png_texts import LARGEST_TEXT, is_packet, packet_of, text_with, understood, upright_text

__all__ = ["SIGNATURE", "PngDetails", "PngHeader", "decode", "encode", "header"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_PALETTE = 3
_COLOURS = frozenset({b"cHRM", b"gAMA", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"})
_KEPT = _COLOURS | {b"tEXt", b"zTXt", b"iTXt", b"pHYs"}
# Interlaced pictures hold seven smaller ones: first column, first row, column step, row step.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class PngHeader:
    """The header chunk: size in pixels, bits per sample, type of colour and whether rows are interlaced."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


@dataclass(frozen=True, eq=False)
class PngDetails:
    """The chunks to carry over, in the order of the file, without EXIF."""

    chunks: list[tuple[bytes, bytes]]

    @property
    def xmp(self) -> bytes | None:
        """XMP packet."""
        body = next((body for name, body in self.chunks if is_packet(name, body)), None)
        return None if body is None else packet_of(body)

    def with_xmp(self, xmp: bytes) -> "PngDetails":
        """The same with another XMP packet."""
        kept = [chunk for chunk in self.chunks if not is_packet(*chunk)]
        return PngDetails([*kept, (b"iTXt", text_with(xmp))])

    def stripped(self) -> "PngDetails":
        """What the colours need."""
        return PngDetails([chunk for chunk in self.chunks if chunk[0] in _COLOURS])


def header(data: bytes) -> PngHeader:
    """Reads the header of a PNG file.

    Raises:
        Refused: If the file is cut short, damaged, no PNG, or holds more than MAX_PIXELS.
    """
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise Refused("expected a PNG file, got one without a PNG header")
    if struct.unpack_from(">I", data, 29)[0] != zlib.crc32(data[12:29]):
        raise Refused("expected a whole PNG file, got one with a damaged chunk IHDR")
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if colour not in _CHANNELS or width * height == 0:
        raise Refused(f"expected a PNG picture, got colour type {colour}, size {width} x {height}")
    if width * height > MAX_PIXELS:
        raise Refused(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")
    return PngHeader(width, height, depth, colour, bool(interlace))


def decode(data: bytes) -> Decoded:
    """Decodes a PNG file.

    Grey of fewer than 8 bits becomes 8-bit grey, a palette becomes RGB or RGBA, a transparent colour becomes alpha.

    Raises:
        Refused: If the file is cut short, damaged, animated, or holds more than MAX_PIXELS.
    """
    head = header(data)
    chunks = list(_chunks(data))
    names = {name for name, _ in chunks}
    if b"acTL" in names:
        raise Refused("expected a single picture, got an animated PNG")
    transparency = next((body for name, body in chunks if name == b"tRNS"), None)
    samples = _decode_deep(head, chunks) if head.depth == 16 else _decode_shallow(head, chunks)
    if transparency and head.colour in (0, 2):
        scale = 255 // (2**head.depth - 1) if head.depth < 8 else 1
        key = np.array(struct.unpack(f">{_CHANNELS[head.colour]}H", transparency)) * scale
        opaque = (samples != key).any(axis=2, keepdims=True)
        samples = np.concatenate([samples, opaque * samples.dtype.type(np.iinfo(samples.dtype).max)], axis=2)
    chunks = understood(chunks)
    exif = next((body for name, body in chunks if name == b"eXIf"), None)
    profile = next((body for name, body in chunks if name == b"iCCP"), None)
    details = PngDetails([chunk for chunk in chunks if chunk[0] in _KEPT])
    orientation = exif_orientation(exif) or xmp_orientation(details.xmp) or 1
    return Decoded(upright(samples, orientation), details, exif, _profile(profile))


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as a PNG file of a photo's bit depth and layout, with its metadata.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; a PNG.
    """
    samples = photo.samples_of(pixels)
    height, width, channels = samples.shape
    head = struct.pack(">IIBBBBB", width, height, photo.bit_depth, _COLOUR_TYPE[channels], 0, 0, 0)
    parts = [SIGNATURE, _chunk(b"IHDR", head)]
    for name, body in photo.details.chunks:
        parts.append(_chunk(name, upright_text(body) if is_packet(name, body) else body))
    if photo.exif:
        parts.append(_chunk(b"eXIf", upright_exif(photo.exif, width, height, photo.software)))
    parts += [_chunk(b"IDAT", body) for body in _deflated(samples)]
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Chunks after the header and before the end; damaged optional ones are left out."""
    at = 33
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if name == b"IEND":
            return
        body = data[at + 8 : end - 4]
        if struct.unpack_from(">I", data, end - 4)[0] == zlib.crc32(body, zlib.crc32(name)):
            yield name, body
        elif name[:1].isupper():
            raise Refused(f"expected a whole PNG file, got one with a damaged chunk {name.decode('latin-1')}")
        at = end
    raise Refused("expected a whole PNG file, got one that is cut short")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _profile(chunk: bytes | None) -> bytes | None:
    """The ICC profile in the chunk iCCP, or None where it is missing or damaged."""
    _, separator, rest = (chunk or b"").partition(b"\0")
    if not separator:
        return None
    try:
        return zlib.decompressobj().decompress(rest[1:], LARGEST_TEXT) or None
    except zlib.error:
        return None


def _decode_shallow(head: PngHeader, chunks: list[tuple[bytes, bytes]]) -> np.ndarray:
    """Samples of at most 8 bits, uint8, shape (H, W, C)."""
    _inflated(head, chunks)  # Of a picture whose rows are too few, Pillow makes the others black.
    palette = head.colour == _PALETTE
    # Pillow gets what makes the pixels and nothing else: it refuses some files for their large texts.
    needed = (b"PLTE", b"tRNS", b"IDAT") if palette else (b"IDAT",)
    ihdr = struct.pack(">IIBBBBB", head.width, head.height, head.depth, head.colour, 0, 0, head.interlaced)
    bare = [SIGNATURE, _chunk(b"IHDR", ihdr), *(_chunk(*chunk) for chunk in chunks if chunk[0] in needed)]
    with Image.open(io.BytesIO(b"".join([*bare, _chunk(b"IEND", b"")])), formats=["PNG"]) as image:
        if palette:
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode == "1":
            image = image.convert("L")
        samples = np.asarray(image)
    return samples[..., None] if samples.ndim == 2 else samples


def _passes(head: PngHeader) -> Iterator[tuple[tuple[int, int, int, int], int, int]]:
    """The pictures that hold the pixels: which pixels, as in _ADAM7, and width and height, both at least 1."""
    for x, y, dx, dy in _ADAM7 if head.interlaced else ((0, 0, 1, 1),):
        width, height = -(-(head.width - x) // dx), -(-(head.height - y) // dy)
        if width > 0 and height > 0:
            yield (x, y, dx, dy), width, height


def _inflated(head: PngHeader, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """The rows of all passes, each behind the number of its filter."""
    stream = b"".join(body for name, body in chunks if name == b"IDAT")
    bits = head.depth * _CHANNELS[head.colour]
    total = sum(height * (1 + -(-bits * width // 8)) for _, width, height in _passes(head))
    try:
        rows = zlib.decompressobj().decompress(stream, total)
    except zlib.error as error:
        raise Refused(f"expected a whole PNG file, got damaged picture data ({error})") from error
    if len(rows) < total:
        raise Refused("expected a whole PNG file, got too little picture data")
    return rows


def _decode_deep(head: PngHeader, chunks: list[tuple[bytes, bytes]]) -> np.ndarray:
    """Samples of 16 bits, uint16, shape (H, W, C)."""
    rows = _inflated(head, chunks)
    channels = _CHANNELS[head.colour]
    samples = np.empty((head.height, head.width, channels), np.uint16)
    at = 0
    for (x, y, dx, dy), width, height in _passes(head):
        step = 1 + 2 * channels * width
        lines = np.frombuffer(rows, np.uint8, height * step, at).reshape(height, step)
        at += height * step
        raw = _unfiltered(lines[:, 0], lines[:, 1:].reshape(height, width, 2 * channels))
        samples[y::dy, x::dx] = raw.view(">u2")
    return samples


def _unfiltered(filters: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Undoes the filters of a picture.

    A byte depends on those of the left, upper and upper left pixel. The pixels of one anti-diagonal do not depend on
    each other, so that H + W - 1 vectorised steps suffice.

    Args:
        filters: Filter of each row, 0 to 4, shape (H,).
        differences: Filtered bytes, uint8, shape (H, W, bytes of a pixel).

    Returns:
        Bytes of the picture, uint8, shape (H, W, bytes of a pixel).

    Raises:
        Refused: If a filter is unknown.
    """
    if filters.max() > 4:
        raise Refused(f"expected PNG filters from 0 to 4, got {filters.max()}")
    height, width, size = differences.shape
    # The zero row above and the zero column to the left are part of the definition.
    padded = np.zeros((height + 1, width + 1, size), np.uint8)
    kinds = filters[:, None]
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        left = padded[rows + 1, columns].astype(np.int16)
        up = padded[rows, columns + 1].astype(np.int16)
        corner = padded[rows, columns].astype(np.int16)
        kind = kinds[rows]
        predicted = np.select(
            [kind == 1, kind == 2, kind == 3, kind == 4],
            [left, up, (left + up) >> 1, _paeth(left, up, corner)],
            default=np.int16(0),
        )
        padded[rows + 1, columns + 1] = differences[rows, columns] + predicted.astype(np.uint8)
    return np.ascontiguousarray(padded[1:, 1:])


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Of three neighbours the one nearest to left + up - corner; ties go to the left, then to the upper one."""
    to_left, to_up, to_corner = np.abs(up - corner), np.abs(left - corner), np.abs(left + up - 2 * corner)
    nearest = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)


def _deflated(samples: np.ndarray) -> Iterator[bytes]:
    """Filters and compresses rows; each row takes the filter whose differences are smallest in sum."""
    height, width, channels = samples.shape
    size = channels * samples.dtype.itemsize
    rows = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * size)
    above = np.zeros(width * size, np.int16)
    # Of 16 bits the lower ones are noise: more effort takes three times as long and saves a fiftieth.
    compressor = zlib.compressobj(6 if samples.dtype == np.uint8 else 4)
    pending = b""
    for row in rows:
        row = row.astype(np.int16)
        left, corner = np.zeros_like(row), np.zeros_like(row)
        left[size:], corner[size:] = row[:-size], above[:-size]
        predictions = (0, left, above, (left + above) >> 1, _paeth(left, above, corner))
        candidates = [(row - predicted).astype(np.uint8) for predicted in predictions]
        costs = [int(np.abs(candidate.view(np.int8).astype(np.int16)).sum()) for candidate in candidates]
        best = costs.index(min(costs))
        pending += compressor.compress(bytes([best]) + candidates[best].tobytes())
        above = row
        if len(pending) > 1 << 20:
            yield pending
            pending = b""
    yield pending + compressor.flush()
