"""TIFF: one picture of 8 or 16 bits or of floating-point numbers, with its tags.

Read and written by tifffile. Its compressions other than deflate need the package `imagecodecs`; without it, 8-bit
pictures are decoded by Pillow, and for others Pillow's libtiff undoes the compression of the bytes.
"""

import io
import math
import struct
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import tifffile
from PIL import Image

from photos.metadata import (
    EXIF_POINTER,
    GPS_POINTER,
    POINTERS,
    Entry,
    image_resources,
    pack_directory,
    read_directory,
    upright_xmp,
)
from photos.photo import MAX_PIXELS, Decoded, Photo, Refused, upright

__all__ = ["TiffDetails", "decode", "encode", "read_samples"]

_NO_COMPRESSION, _LZW, _PACKBITS, _ZSTD = 1, 5, 32773, 50000
_DEFLATE = (8, 32946)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_XMP, _RESOURCES = 700, 34377
# Name of the document, description, maker, model, resolution in x and y, page, unit of the resolution, software, date,
# artist, computer, white point, primaries, XMP, rating, copyright, IPTC, Photoshop resources, ICC profile; title,
# comment, author, keywords and subject as Windows keeps them. Layers and previews would be stale.
_KEPT = frozenset(
    {269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 318, 319, _XMP, 18246, 18249, 33432, 33723}
    | {_RESOURCES, 34675, 40091, 40092, 40093, 40094, 40095}
)
_ICC, _ORIENTATION, _DNG_VERSION, _EXIF_WIDTH, _EXIF_HEIGHT = 34675, 274, 50706, 40962, 40963


@dataclass(frozen=True, eq=False)
class TiffDetails:
    """How a TIFF file was stored.

    Attributes:
        order: Byte order, `<` or `>`.
        compressed: Whether the pixels were compressed; they are written with deflate then.
        extra_sample: Meaning of the fourth (or second) sample: 0 unknown, 1 premultiplied alpha, 2 alpha.
        tags: Entries to carry over, among them those that point at the EXIF and GPS directories.
        source: The file these directories are in; empty where there are none.
        big: Whether the source is a BigTIFF.
    """

    order: str
    compressed: bool
    extra_sample: int
    tags: list[Entry]
    source: bytes
    big: bool


def decode(data: bytes) -> Decoded:
    """Decodes a TIFF file with a single picture.

    Raises:
        Refused: If there are several pictures, too many pixels, or samples of another kind than grey or RGB with or
            without alpha in 8 or 16 bits or float32; if the file is cut short.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _only_page(file)
        samples = _upright_samples(data, page)
        if samples.dtype not in (np.uint8, np.uint16, np.float32):
            raise Refused(f"expected samples of 8 or 16 bits or float32, got {samples.dtype}")
        big = file.is_bigtiff
        tags = _kept_tags(data, read_directory(data, page.offset, file.byteorder, big)[0], big)
        details = TiffDetails(
            order=file.byteorder,
            compressed=int(page.compression) != _NO_COMPRESSION,
            extra_sample=int(page.extrasamples[0]) if page.extrasamples else 2,
            tags=tags,
            # Without such directories the file's bytes need not stay in memory.
            source=data if any(entry.tag in POINTERS for entry in tags) else b"",
            big=big,
        )
        icc = next((entry.value for entry in tags if entry.tag == _ICC), None)
    return Decoded(samples, details, None, icc)


def read_samples(data: bytes) -> np.ndarray:
    """Reads the samples of a TIFF file with a single picture, of any numeric type.

    Returns:
        Samples as stored, upright, shape (H, W, C).

    Raises:
        Refused: As `decode`, but for the type of the samples.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return _upright_samples(data, _only_page(file))


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as a TIFF file of a photo's bit depth and layout, with its metadata.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; a TIFF.
    """
    details: TiffDetails = photo.details
    samples = photo.samples_of(pixels)
    height, width, channels = samples.shape
    options = {}
    if details.compressed:
        options = {"compression": "zlib", "predictor": None if samples.dtype == np.float32 else 2}
    if photo.alpha is not None:
        options["extrasamples"] = (details.extra_sample,)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, samples if channels > 1 else samples[..., 0], byteorder=details.order, bigtiff=False, metadata=None,
        software=False, photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None, **options,
    )  # fmt: skip
    # The directory that tifffile wrote is replaced by one at the end, with the input's tags.
    buffer.seek(0, io.SEEK_END)
    buffer.write(b"\0" * (buffer.tell() % 2))
    base = buffer.tell()
    data = buffer.getbuffer()
    (offset,) = struct.unpack_from(details.order + "I", data, 4)
    entries = {entry.tag: entry for entry in read_directory(data, offset, details.order)[0]}
    entries |= {entry.tag: entry for entry in details.tags}
    struct.pack_into(details.order + "I", data, 4, base)
    data.release()
    sizes = {_EXIF_WIDTH: width, _EXIF_HEIGHT: height}
    buffer.write(pack_directory(list(entries.values()), base, details.source, details.big, sizes))
    return buffer.getvalue()


def _only_page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The picture of a file; smaller versions and masks of it are passed over."""
    pages = [page for page in file.pages if not getattr(page, "subfiletype", 0) & 0b101]
    if len(pages) != 1:
        raise Refused(f"expected a TIFF with a single picture, got {len(pages)}; please split it")
    page = file.pages[pages[0].index]
    if _DNG_VERSION in page.tags:
        raise Refused("expected a developed picture, got a raw photo (DNG); please develop it first")
    if page.imagewidth * page.imagelength == 0 or page.imagedepth != 1:
        raise Refused(f"expected a picture, got one of the size {page.imagewidth} x {page.imagelength}")
    if page.imagewidth * page.imagelength > MAX_PIXELS:
        raise Refused(f"expected at most {MAX_PIXELS} pixels, got {page.imagewidth} x {page.imagelength}")
    if page.samplesperpixel > 4 or len(page.extrasamples) > 1:
        raise Refused(f"expected at most four channels of which one is alpha, got {page.samplesperpixel}")
    return page


def _upright_samples(data: bytes, page: tifffile.TiffPage) -> np.ndarray:
    """Samples of a page, shape (H, W, C)."""
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR}
    if page.photometric not in known:
        raise Refused(f"expected a grey or RGB TIFF, got one in {getattr(page.photometric, 'name', page.photometric)}")
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    # Without this the missing strips or tiles would come out black.
    if len(segments) != math.prod(page.chunked) or any(
        count == 0 or offset + count > len(data) for offset, count in segments
    ):
        raise Refused("expected a whole TIFF file, got one that is cut short")
    orientation = page.tags.valueof(_ORIENTATION) or 1
    depth = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    compression, predictor = int(page.compression), int(page.predictor)
    plain = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) and depth >= 8
    simple = compression == _NO_COMPRESSION or (compression in _DEFLATE and predictor in (1, 2))
    if plain and (simple or find_spec("imagecodecs") is not None):
        stored = page.asarray(squeeze=False)[:, 0]  # (planes, H, W, C), planes or C is 1
        samples = np.moveaxis(stored[..., 0], 0, -1) if stored.shape[0] > 1 else stored[0]
    elif plain and depth > 8 and compression in (*_DEFLATE, _LZW, _PACKBITS, _ZSTD) and predictor in (1, 2):
        samples = _unpacked(data, page)
    elif depth <= 8:
        return _decode_by_pillow(data)  # Pillow turns the picture upright itself.
    else:
        name = getattr(page.compression, "name", compression)
        raise Refused(
            f"expected a compression that can be read, got {name} in {depth} bits, which needs the package imagecodecs"
        )
    if page.photometric == _WHITE_IS_ZERO:
        samples = np.concatenate([_inverted(samples[..., :1]), samples[..., 1:]], axis=2)
    return upright(samples, orientation)


def _inverted(samples: np.ndarray) -> np.ndarray:
    return 1 - samples if samples.dtype.kind == "f" else ~samples


def _decode_by_pillow(data: bytes) -> np.ndarray:
    """Samples of at most 8 bits, uint8, shape (H, W, C), upright."""
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        if image.mode in ("1", "P", "PA", "YCbCr"):
            image = image.convert({"1": "L", "PA": "RGBA"}.get(image.mode, "RGB"))
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise Refused(f"expected a grey or RGB TIFF, got one in {image.mode}")
        samples = np.asarray(image)
    return samples[..., None] if samples.ndim == 2 else samples


def _unpacked(data: bytes, page: tifffile.TiffPage) -> np.ndarray:
    """Samples of more than 8 bits whose strips or tiles libtiff can unpack as bytes, shape (H, W, C)."""
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    channels = page.samplesperpixel // planes
    samples = np.empty((page.imagelength, page.imagewidth, page.samplesperpixel), page.dtype)
    rows, columns = (
        (page.tilelength, page.tilewidth) if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    )  # fmt: skip
    down, across = -(-page.imagelength // rows), -(-page.imagewidth // columns)
    for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        plane, place = divmod(index, down * across)
        top, left = place // across * rows, place % across * columns
        # The last strip is short, a tile never is.
        height = rows if page.is_tiled else min(rows, page.imagelength - top)
        length = height * columns * channels * dtype.itemsize
        block = np.frombuffer(_inflated(data[offset : offset + count], int(page.compression), length), dtype)
        block = block.reshape(height, columns, channels).astype(page.dtype)
        if page.predictor == 2:
            block = np.cumsum(block, axis=1, dtype=page.dtype)
        target = samples[top : top + rows, left : left + columns, plane * channels : (plane + 1) * channels]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return samples


def _inflated(packed: bytes, compression: int, length: int) -> bytes:
    """Undoes a compression of bytes, by presenting them to libtiff as one row of 8-bit grey pixels."""
    tags = [
        (256, 4, length), (257, 4, 1), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 8), (277, 3, 1),
        (278, 4, 1), (279, 4, len(packed)),
    ]  # fmt: skip
    packed += b"\0" * (len(packed) % 2)
    table = b"".join(
        struct.pack("<HHIHH", tag, kind, 1, value, 0) if kind == 3 else struct.pack("<HHII", tag, kind, 1, value)
        for tag, kind, value in tags
    )
    file = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + table + bytes(4)
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return image.tobytes()


def _kept_tags(data: bytes, entries: list[Entry], big: bool) -> list[Entry]:
    """The entries to carry over; pointers only where the directory they point at is whole."""
    kept = []
    for entry in entries:
        value = entry.value
        if entry.tag == _XMP:
            value = upright_xmp(value)
        elif entry.tag == _RESOURCES:
            value = image_resources(value)
        elif entry.tag in (EXIF_POINTER, GPS_POINTER):
            try:
                pack_directory([entry], 0, data, big)
            except ValueError:
                continue
        elif entry.tag not in _KEPT:
            continue
        if value == entry.value:
            kept.append(entry)
        elif value:
            kept.append(replace(entry, value=value, count=len(value)))
    return kept
