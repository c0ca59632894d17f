"""Size and depth of a picture from the beginning of its file."""

from pathlib import Path
from typing import NamedTuple

import tifffile
from PIL import Image

from photos import png
from photos.files import explained, format_of, strict_decoding
from photos.metadata import exif_orientation
from photos.photo import PhotoError, Refused

__all__ = ["PictureHeader", "picture_header"]

# Of the colour types of PNG: grey, RGB, palette, and the first two with alpha.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


class PictureHeader(NamedTuple):
    """Size in pixels as `evaluation.paired_sets.reading` reads it, bits per sample, and channels (1 for grey)."""

    height: int
    width: int
    bits: int
    channels: int


def picture_header(file: Path) -> PictureHeader:
    """Reads the header of a JPEG, PNG or TIFF file, without decoding the picture.

    Raises:
        PhotoError: If the file cannot be read or is of another kind.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise PhotoError(f"{file}: expected a file that can be read, got an error: {error.strerror}") from error
    kind = format_of(start)
    with explained(file, kind), strict_decoding():
        if kind == "PNG":
            head = png.header(start)
            return PictureHeader(head.height, head.width, head.depth, _PNG_CHANNELS[head.colour])
        if kind == "TIFF":
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[0]
                turned = int(page.tags.valueof(274, 1)) >= 5
                size = (page.imagelength, page.imagewidth)
                return PictureHeader(*(size[::-1] if turned else size), int(page.bitspersample), page.samplesperpixel)
        if kind == "JPEG":
            with Image.open(file, formats=["JPEG", "MPO"]) as image:
                turned = (exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0")) or 1) >= 5
                size = image.size if turned else image.size[::-1]
                return PictureHeader(*size, 8, len(image.getbands()))
        raise Refused(f"expected a JPEG, PNG or TIFF photo, got {kind}")
