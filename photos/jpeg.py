"""JPEG: decoded and encoded by Pillow, never more coarsely than the input was."""

import io
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, JpegImagePlugin

from photos.metadata import exif_orientation, image_resources, upright_exif, upright_xmp, xmp_orientation
from photos.photo import MAX_PIXELS, Decoded, Photo, Refused, upright
from photos.xmp_packet import XmpPacket

__all__ = ["JpegDetails", "decode", "encode"]

_QUALITY = 95
_EXIF, _XMP, _PHOTOSHOP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PICTURES = ("http://ns.google.com/photos/1.0/container/", "Directory")
_CONTINUED = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
_SEGMENT = 65533


@dataclass(frozen=True, eq=False)
class JpegDetails:
    """How a JPEG file was stored.

    Attributes:
        tables: Quantisation tables of brightness and, in colour pictures, of colour; 64 divisors each.
        subsampling: Pillow's number: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0.
        progressive: Whether it is stored in progressive order.
        dpi: Resolution in dots per inch.
        xmp: XMP packet.
        resources: Photoshop image resources, which hold captions and keywords.
        comment: Comment.
        xmp_extension: Segments that continue a long XMP packet.
    """

    tables: list[list[int]]
    subsampling: int
    progressive: bool
    dpi: tuple[float, float] | None
    xmp: bytes | None
    resources: bytes
    comment: bytes | None
    xmp_extension: tuple[bytes, ...] = ()

    def with_xmp(self, xmp: bytes) -> "JpegDetails":
        """The same with another XMP packet, if it fits into the one segment that is made for it."""
        return replace(self, xmp=xmp) if len(xmp) <= _SEGMENT - len(_XMP) else self

    def stripped(self) -> "JpegDetails":
        """How the pixels were stored, and nothing else."""
        return replace(self, dpi=None, xmp=None, resources=b"", comment=None, xmp_extension=())


def decode(data: bytes) -> Decoded:
    """Decodes the first picture of a JPEG file.

    Raises:
        Refused: If the picture is too large or neither grey nor RGB.
        OSError: If the file is damaged or cut short.
    """
    with Image.open(io.BytesIO(data), formats=["JPEG", "MPO"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Refused(f"expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
        if image.mode not in ("L", "RGB"):
            raise Refused(f"expected a grey or RGB JPEG, got one in {image.mode}; please convert it to RGB")
        image.load()
        samples = np.asarray(image)
        # Pillow knows the sampling of its class for JPEG alone; a file with several pictures is of another class.
        layers = image.layer
        subsampling = JpegImagePlugin.get_sampling(image) if image.format == "JPEG" else _sampling(layers)
        info = dict(image.info)
        exif = info.get("exif", b"").removeprefix(_EXIF)
        resources = b"".join(
            part.removeprefix(_PHOTOSHOP) for name, part in image.applist
            if name == "APP13" and part.startswith(_PHOTOSHOP)
        )  # fmt: skip
        extension = tuple(
            part for name, part in image.applist if name == "APP1" and part.startswith(_XMP_EXTENSION)
        )
        tables = [image.quantization[layers[0][3]]]
        if len(layers) == 3:
            # One table per colour component is possible, Pillow writes one for both: the finer of each divisor.
            first, second = (image.quantization[layer[3]] for layer in layers[1:])
            tables.append([min(pair) for pair in zip(first, second, strict=True)])
    xmp = info.get("xmp")
    orientation = exif_orientation(exif) or xmp_orientation(xmp) or 1
    if xmp is not None and _PICTURES[0].encode() in xmp and _PICTURES[1].encode() in xmp:
        xmp, extension = _of_one_picture(xmp, extension)
    details = JpegDetails(
        tables=tables, subsampling=0 if subsampling < 0 else subsampling,
        progressive=bool(info.get("progressive")), dpi=info.get("dpi"), xmp=xmp,
        resources=image_resources(resources), comment=info.get("comment"), xmp_extension=extension,
    )  # fmt: skip
    samples = samples[..., None] if samples.ndim == 2 else samples
    return Decoded(upright(samples, orientation), details, exif or None, info.get("icc_profile"))


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as a JPEG file with the metadata of a photo.

    Each divisor of the quantisation tables is at most the input's and at most that of quality 95.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; a JPEG.
    """
    details: JpegDetails = photo.details
    samples = photo.samples_of(pixels)
    height, width, channels = samples.shape
    image = Image.fromarray(samples[..., 0] if channels == 1 else samples)
    fine = _standard_tables()
    tables = [
        [min(pair) for pair in zip(table, fine[index], strict=True)] for index, table in enumerate(details.tables)
    ]
    options = {"qtables": tables, "subsampling": details.subsampling, "progressive": details.progressive}
    if details.dpi:
        options["dpi"] = details.dpi
    if photo.icc:
        options["icc_profile"] = photo.icc
    if details.xmp:
        options["xmp"] = upright_xmp(details.xmp)
    if details.comment:
        options["comment"] = details.comment
    segments = [(b"\xff\xe1", part) for part in _parts(_EXIF, _exif(photo, width, height))]
    segments += [(b"\xff\xe1", part) for part in details.xmp_extension if details.xmp]
    segments += [(b"\xff\xed", part) for part in _parts(_PHOTOSHOP, details.resources)]
    options["extra"] = b"".join(marker + (len(part) + 2).to_bytes(2, "big") + part for marker, part in segments)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _of_one_picture(xmp: bytes, extension: tuple[bytes, ...]) -> tuple[bytes | None, tuple[bytes, ...]]:
    """A packet without the list of pictures behind the first (gain maps, depth), for these are not written.

    What continues the packet goes with the list, for it holds such pictures too. A packet that cannot be read goes as a
    whole.
    """
    try:
        alone = XmpPacket(xmp).without(lambda one: (one.namespace, one.name) == _PICTURES)
        if alone == xmp:
            return xmp, extension
        return XmpPacket(alone).without(lambda one: (one.namespace, one.name) == _CONTINUED), ()
    except ValueError:
        return None, ()


def _exif(photo: Photo, width: int, height: int) -> bytes:
    """The block of the result; it gains no entry that would need a further segment, which few programs read."""
    if not photo.exif:
        return b""
    exif = upright_exif(photo.exif, width, height, photo.software)
    outgrows = len(_EXIF) + len(photo.exif) <= _SEGMENT < len(_EXIF) + len(exif)
    return upright_exif(photo.exif, width, height) if outgrows else exif


def _parts(beginning: bytes, data: bytes) -> list[bytes]:
    """Contents of segments that hold some data together, each with the same beginning."""
    room = _SEGMENT - len(beginning)
    return [beginning + data[at : at + room] for at in range(0, len(data), room)]


def _sampling(layers: list[tuple[int, int, int, int]]) -> int:
    """Pillow's number of the colour sampling, -1 for others."""
    factors = tuple(factor for layer in layers for factor in layer[1:3])
    return {(1, 1, 1, 1, 1, 1): 0, (2, 1, 1, 1, 1, 1): 1, (2, 2, 1, 1, 1, 1): 2}.get(factors, -1)


@lru_cache(maxsize=1)
def _standard_tables() -> list[list[int]]:
    """Quantisation tables of quality 95, for brightness and colour, in Pillow's order of the divisors."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "JPEG", quality=_QUALITY)
    with Image.open(buffer) as image:
        return [image.quantization[0], image.quantization[1]]
