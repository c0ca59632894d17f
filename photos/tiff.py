"""TIFF: pictures of 8 or 16 bits or of floating-point numbers, with their tags; `photos.tiff_writing` writes them.

Read by tifffile. Its compressions other than deflate need the package `imagecodecs`; without it, Pillow's libtiff
undoes the compression of the bytes. What is left, JPEG and fewer than 8 bits among it, is decoded by Pillow where that
gives the samples as stored: it divides by premultiplied alpha, and drops channels whose meaning is not told.
"""

import io
import math
import re
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import tifffile
from PIL import Image

from photos.directories import EXIF_POINTER, GPS_POINTER, POINTERS, Entry, pack_directory, read_directory
from photos.metadata import image_resources, upright_xmp
from photos.photo import MAX_PIXELS, Decoded, Refused, upright
from photos.tiff_unpacking import PACKED, unpacked

__all__ = ["DNG_VERSION", "ICC", "TiffDetails", "decode", "kept_tags", "page_count", "read_samples"]

_NO_COMPRESSION = 1
_DEFLATE = (8, 32946)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA = 2
_XMP, _DESCRIPTION, _RESOURCES = 700, 270, 34377
# Where it reads this number, ImageJ expects the pixels of all pictures behind those of the first, without directories.
_IMAGEJ_COUNT = re.compile(rb"^images=(?!1$)\d+\n", re.MULTILINE)
# Name of the document, description, maker, model, resolution in x and y, page, unit of the resolution, software, date,
# artist, computer, white point, primaries, XMP, rating, copyright, IPTC, Photoshop resources, ICC profile; title,
# comment, author, keywords and subject as Windows keeps them. Layers and previews would be stale.
_KEPT = frozenset(
    {269, _DESCRIPTION, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 318, 319, _XMP, 18246, 18249, 33432, 33723}
    | {_RESOURCES, 34675, 40091, 40092, 40093, 40094, 40095}
)
_COLOURS = frozenset({318, 319, 34675})
ICC, _ORIENTATION, DNG_VERSION = 34675, 274, 50706


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
        planar: Whether channels were stored one after the other.
    """

    order: str
    compressed: bool
    extra_sample: int
    tags: list[Entry]
    source: bytes
    big: bool
    planar: bool = False

    @property
    def xmp(self) -> bytes | None:
        """XMP packet."""
        return next((entry.value for entry in self.tags if entry.tag == _XMP), None)

    def with_xmp(self, xmp: bytes) -> "TiffDetails":
        """The same with another XMP packet."""
        return self.with_tag(_XMP, 1, xmp)

    def with_tag(self, tag: int, kind: int, value: bytes) -> "TiffDetails":
        """The same with an entry of bytes (kind 1 or 7) or text (2) in place of any it had."""
        entry = Entry(tag, kind, len(value), value, 0, self.order)
        return replace(self, tags=[*(entry for entry in self.tags if entry.tag != tag), entry])

    def stripped(self) -> "TiffDetails":
        """What the colours need."""
        return replace(self, tags=[entry for entry in self.tags if entry.tag in _COLOURS], source=b"")


def decode(data: bytes, number: int | None = None) -> Decoded:
    """Decodes a TIFF file with a single picture, or one picture of several.

    Args:
        data: Content of the file.
        number: Which one, from 0; None for the only one.

    Raises:
        Refused: If there are several pictures and none was named, too many pixels, or samples of another kind than
            grey or RGB with or without alpha in 8 or 16 bits or float32; if the file is cut short.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _page(file, number)
        samples = _upright_samples(data, page)
        if samples.dtype not in (np.uint8, np.uint16, np.float32):
            raise Refused(f"expected samples of 8 or 16 bits or float32, got {samples.dtype}")
        inverted = page.photometric == _WHITE_IS_ZERO
        if inverted:
            samples = _inverted(samples)
        big = file.is_bigtiff
        tags = kept_tags(data, read_directory(data, page.offset, file.byteorder, big)[0], big)
        details = TiffDetails(
            order=file.byteorder,
            compressed=int(page.compression) != _NO_COMPRESSION,
            extra_sample=int(page.extrasamples[0]) if page.extrasamples else _ALPHA,
            tags=tags,
            # Without such directories the file's bytes need not stay in memory.
            source=data if any(entry.tag in POINTERS for entry in tags) else b"",
            big=big,
            planar=page.planarconfig == 2 and page.samplesperpixel > 1,
        )
        icc = next((entry.value for entry in tags if entry.tag == ICC), None)
    return Decoded(samples, details, None, icc, inverted)


def read_samples(data: bytes) -> np.ndarray:
    """Reads the samples of a TIFF file with a single picture, of any numeric type.

    Returns:
        Samples as stored, upright, shape (H, W, C).

    Raises:
        Refused: As `decode`, but for the type of the samples; also if they have fewer than 8 bits.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _page(file, None)
        if _depth(page) < 8:
            raise Refused(f"expected samples of at least 8 bits, got {_depth(page)}")
        return _upright_samples(data, page)


def page_count(data: bytes) -> int:
    """Number of pictures in a TIFF file; smaller versions and masks of them do not count.

    Raises:
        Refused: If there are pictures without a directory of their own.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return len(_pages(file))


def _pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    pages = [page for page in file.pages if not getattr(page, "subfiletype", 0) & 0b101]
    if file.is_imagej and len(pages) == 1 and (file.imagej_metadata or {}).get("images", 1) > 1:
        raise Refused("expected each picture of a stack in a directory of its own, got an ImageJ file with one for all")
    return pages


def _page(file: tifffile.TiffFile, number: int | None) -> tifffile.TiffPage:
    """The picture of that number, or the only one; smaller versions and masks of it are passed over."""
    pages = _pages(file)
    if number is None and len(pages) != 1:
        raise Refused(f"expected a TIFF with a single picture, got {len(pages)}; please split it")
    page = file.pages[pages[number or 0].index]
    if DNG_VERSION in page.tags:
        raise Refused("expected a developed picture, got a raw photo (DNG)")
    if page.imagewidth * page.imagelength == 0 or page.imagedepth != 1:
        raise Refused(f"expected a picture, got one of the size {page.imagewidth} x {page.imagelength}")
    if page.imagewidth * page.imagelength > MAX_PIXELS:
        raise Refused(f"expected at most {MAX_PIXELS} pixels, got {page.imagewidth} x {page.imagelength}")
    if page.samplesperpixel > 4 or len(page.extrasamples) > 1:
        raise Refused(f"expected at most four channels of which one is alpha, got {page.samplesperpixel}")
    return page


def _depth(page: tifffile.TiffPage) -> int:
    return page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)


def _upright_samples(data: bytes, page: tifffile.TiffPage) -> np.ndarray:
    """Samples of a page as stored, also where 0 is white, shape (H, W, C)."""
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
    depth, compression, predictor = _depth(page), int(page.compression), int(page.predictor)
    plain = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) and depth >= 8 and page.dtype is not None
    simple = compression == _NO_COMPRESSION or (compression in _DEFLATE and predictor in (1, 2))
    if plain and (simple or find_spec("imagecodecs") is not None):
        stored = page.asarray(squeeze=False)[:, 0]  # (planes, H, W, C), planes or C is 1
        samples = np.moveaxis(stored[..., 0], 0, -1) if stored.shape[0] > 1 else stored[0]
    elif plain and compression in PACKED and predictor in (1, 2):
        samples = unpacked(data, page)
    elif depth <= 8 and page.sampleformat == 1 and page.extrasamples in ((), (_ALPHA,)):
        samples = _decode_by_pillow(data, page.index)  # Pillow turns the picture upright itself, and 0 into black.
        return _inverted(samples) if page.photometric == _WHITE_IS_ZERO else samples
    else:
        name = getattr(page.compression, "name", compression)
        raise Refused(
            f"expected a compression that can be read, got {name} in {depth} bits, which needs the package imagecodecs"
        )
    return upright(samples, orientation)


def _inverted(samples: np.ndarray) -> np.ndarray:
    """Grey samples of which 0 and the largest have changed places, with alpha as it was."""
    grey = samples[..., :1]
    return np.concatenate([1 - grey if samples.dtype.kind == "f" else ~grey, samples[..., 1:]], axis=2)


def _decode_by_pillow(data: bytes, index: int) -> np.ndarray:
    """Samples of at most 8 bits, uint8, shape (H, W, C), upright."""
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        image.seek(index)
        if image.mode in ("1", "P", "PA", "YCbCr"):
            image = image.convert({"1": "L", "PA": "RGBA"}.get(image.mode, "RGB"))
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise Refused(f"expected a grey or RGB TIFF, got one in {image.mode}")
        samples = np.asarray(image)
    return samples[..., None] if samples.ndim == 2 else samples


def kept_tags(data: bytes, entries: list[Entry], big: bool) -> list[Entry]:
    """The entries to carry over; pointers only where the directory they point at is whole."""
    kept = []
    for entry in entries:
        value = entry.value
        if entry.tag == _XMP:
            value = upright_xmp(value)
        elif entry.tag == _RESOURCES:
            value = image_resources(value)
        elif entry.tag == _DESCRIPTION and value.startswith(b"ImageJ="):
            value = _IMAGEJ_COUNT.sub(b"", value)
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
