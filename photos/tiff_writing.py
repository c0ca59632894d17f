"""TIFF files of one or several pictures, each with the tags of the one it was made of."""

import io
import struct
from typing import BinaryIO

import numpy as np
import tifffile

from photos.directories import Entry, byte_order, directory_size, pack_directory, read_directory
from photos.inscription import software_entry
from photos.photo import Photo
from photos.tiff import TiffDetails

__all__ = ["WIDE_BEYOND", "TiffAppender", "encode"]

WIDE_BEYOND = 3_900_000_000
"""Bytes of samples beyond which a BigTIFF is written; other TIFF files end at 4 GB."""

_STRIP_OFFSETS, _STRIP_LENGTHS, _SOFTWARE, _EXIF_WIDTH, _EXIF_HEIGHT = 273, 279, 305, 40962, 40963


def encode(pixels: np.ndarray, photo: Photo) -> bytes:
    """Encodes pixels as a TIFF file of a photo's bit depth and layout, with its metadata.

    Args:
        pixels: Values in [0, 1], shape (H, W, 3).
        photo: The photo whose layout and metadata to use; a TIFF.
    """
    buffer = io.BytesIO()
    samples = photo.samples_of(pixels)
    with TiffAppender(buffer, photo.details.order, wide=samples.nbytes > WIDE_BEYOND) as file:
        file.add(samples, photo)
    return buffer.getvalue()


class TiffAppender:
    """Writes pictures with their tags one after the other into a file.

    Args:
        stream: A file open for writing and reading.
        order: Byte order, `<` or `>`.
        wide: Whether to write a BigTIFF, which may have more than 4 GB.
    """

    def __init__(self, stream: BinaryIO, order: str, wide: bool = False) -> None:
        self.stream, self.order, self.wide = stream, order, wide
        self._code = order + ("Q" if wide else "I")
        head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if wide else 42)
        stream.write(head + (struct.pack(order + "HH", 8, 0) if wide else b""))
        self._link = stream.tell()  # where the offset of the next directory goes
        stream.write(bytes(struct.calcsize(self._code)))

    def __enter__(self) -> "TiffAppender":
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.flush()

    def add(self, samples: np.ndarray, photo: Photo) -> None:
        """Adds a picture, as stored, shape (H, W, C), with the tags of a photo.

        Raises:
            ValueError: If the photo's tags are of another byte order.
            struct.error: If the file becomes larger than its kind may be.
        """
        details = _with_software(photo)
        if details.order != self.order:
            raise ValueError(f"expected tags of byte order {self.order!r}, got {details.order!r}")
        alone = _encoded(samples, photo, details, self.wide)
        sizes = {_EXIF_WIDTH: samples.shape[1], _EXIF_HEIGHT: samples.shape[0]}
        self._add(alone, {entry.tag: entry for entry in details.tags}, details.source, details.big, sizes)

    def join(self, data: bytes) -> None:
        """Adds the picture of a whole file of one picture that this project has written.

        Raises:
            ValueError: If the file is of another byte order.
            struct.error: If the file becomes larger than its kind may be.
        """
        if byte_order(data) != self.order:
            raise ValueError(f"expected a file of byte order {self.order!r}, got {byte_order(data)!r}")
        self._add(data, {}, data, data[2:4] in (b"+\0", b"\0+"), {})

    def _add(
        self, alone: bytes, tags: dict[int, Entry], source: bytes, source_is_big: bool, numbers: dict[int, int]
    ) -> None:
        big = alone[2:4] in (b"+\0", b"\0+")
        (first,) = struct.unpack_from(self.order + ("Q" if big else "I"), alone, 8 if big else 4)
        entries = {entry.tag: entry for entry in read_directory(alone, first, self.order, big)[0]}
        strips = zip(entries[_STRIP_OFFSETS].numbers, entries[_STRIP_LENGTHS].numbers, strict=True)
        offsets = [self._append(alone[at : at + length]) for at, length in strips]
        entries |= tags
        kind, value = (16, "Q") if self.wide else (4, "I")
        packed = struct.pack(f"{self.order}{len(offsets)}{value}", *offsets)
        entries[_STRIP_OFFSETS] = Entry(_STRIP_OFFSETS, kind, len(offsets), packed, 0, self.order)
        base = self._append(b"")
        listed = list(entries.values())
        self.stream.write(pack_directory(listed, base, source, source_is_big, numbers, wide=self.wide))
        end = self.stream.tell()
        self.stream.seek(self._link)
        self.stream.write(struct.pack(self._code, base))
        self.stream.seek(end)
        self._link = base + directory_size(len(listed), self.wide)

    def _append(self, data: bytes) -> int:
        """Writes at the next even place and returns it."""
        at = self.stream.tell()
        self.stream.write(b"\0" * (at % 2) + data)
        return at + at % 2


def _with_software(photo: Photo) -> TiffDetails:
    details: TiffDetails = photo.details
    if photo.software is None:
        return details
    before = next((entry.value.decode("utf-8", "replace") for entry in details.tags if entry.tag == _SOFTWARE), None)
    return details.with_tag(_SOFTWARE, 2, software_entry(photo.software, before).encode("utf-8") + b"\0")


def _encoded(samples: np.ndarray, photo: Photo, details: TiffDetails, wide: bool) -> bytes:
    """The picture without the photo's tags, as a file of its own."""
    options = {}
    if details.compressed:
        options = {"compression": "zlib", "predictor": None if samples.dtype == np.float32 else 2}
    if photo.alpha is not None:
        options["extrasamples"] = (details.extra_sample,)
    channels, planar = samples.shape[2], details.planar and samples.shape[2] > 1
    stored = samples.transpose(2, 0, 1) if planar else samples
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, stored if channels > 1 else samples[..., 0], byteorder=details.order, bigtiff=wide, metadata=None,
        software=False, photometric="rgb" if channels > 2 else "minisblack",
        planarconfig=None if channels == 1 else "separate" if planar else "contig", **options,
    )  # fmt: skip
    return buffer.getvalue()
