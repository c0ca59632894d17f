"""Metadata that must survive a restoration, and the few places in it that must not.

EXIF is a TIFF structure: directories of entries, whose values lie at absolute offsets. Maker notes hold such offsets
too, in ways only their makers know; an EXIF block is therefore amended in place, byte by byte, and never rebuilt.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "EXIF_POINTER", "GPS_POINTER", "POINTERS", "Entry", "exif_orientation", "image_resources", "pack_directory",
    "read_directory", "upright_exif", "upright_xmp", "xmp_orientation",
]  # fmt: skip

EXIF_POINTER, GPS_POINTER, INTEROPERABILITY_POINTER = 34665, 34853, 40965
POINTERS = frozenset({EXIF_POINTER, GPS_POINTER, INTEROPERABILITY_POINTER})

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_ORIENTATION, _WIDTH, _HEIGHT, _EXIF_WIDTH, _EXIF_HEIGHT = 274, 256, 257, 40962, 40963
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 513, 514
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)([1-8])""")


@dataclass(frozen=True)
class Entry:
    """One entry of a TIFF directory.

    Attributes:
        tag: Number of the tag.
        type: Number of the value's type.
        count: Number of values.
        value: The values' bytes, in the file's byte order.
        position: Where the value lies in the file.
        order: Byte order, `<` or `>`.
    """

    tag: int
    type: int
    count: int
    value: bytes
    position: int
    order: str

    @property
    def number(self) -> int | None:
        """The first value where the type is an unsigned integer, else None."""
        code = _UNSIGNED.get(self.type)
        if code is None or self.count < 1:
            return None
        return struct.unpack_from(self.order + code, self.value)[0]


def byte_order(data: bytes) -> str:
    """Byte order of a TIFF structure, `<` or `>`.

    Raises:
        ValueError: If the data does not begin like a TIFF structure.
    """
    orders = {b"II": "<", b"MM": ">"}
    if data[:2] not in orders or len(data) < 8:
        raise ValueError(f"expected a TIFF structure, got one that begins with {data[:4]!r}")
    return orders[data[:2]]


def read_directory(data: bytes, offset: int, order: str, big: bool = False) -> tuple[list[Entry], int]:
    """Reads one directory of a TIFF structure.

    Args:
        data: The structure.
        offset: Where the directory begins.
        order: Byte order, `<` or `>`.
        big: Whether the structure is a BigTIFF.

    Returns:
        The entries whose values lie within the data, and where the offset of the next directory is stored.

    Raises:
        ValueError: If the directory does not lie within the data.
    """
    count_code, offset_code, inline = ("Q", "Q", 8) if big else ("H", "I", 4)
    size = 4 + 2 * inline
    try:
        (count,) = struct.unpack_from(order + count_code, data, offset)
        first = offset + struct.calcsize(count_code)
        if first + count * size > len(data):
            raise ValueError("expected a whole TIFF directory, got one that is cut short")
        entries = []
        for at in range(first, first + count * size, size):
            tag, kind, number = struct.unpack_from(f"{order}HH{offset_code}", data, at)
            length = _TYPE_SIZES.get(kind, 0) * number
            position = at + size - inline
            if length > inline:
                (position,) = struct.unpack_from(order + offset_code, data, position)
            if length and position + length <= len(data):
                value = bytes(data[position : position + length])
                entries.append(Entry(tag, kind, number, value, position, order))
    except struct.error as error:
        raise ValueError("expected a whole TIFF directory, got one that is cut short") from error
    return entries, first + count * size


def pack_directory(
    entries: list[Entry], base: int, source: bytes = b"", big: bool = False, numbers: Mapping[int, int] | None = None
) -> bytes:
    """Lays out a directory, and the EXIF, GPS and interoperability directories below it.

    Args:
        entries: The entries, at least one, all of one byte order.
        base: Where the directory will begin in a TIFF structure that is no BigTIFF.
        source: The TIFF structure that the pointers among the entries refer to.
        big: Whether the source is a BigTIFF.
        numbers: New values of some tags with a single unsigned integer, by tag.

    Returns:
        The directory with its values, of even length.

    Raises:
        ValueError: If a directory below does not lie within the source.
    """
    return _packed(entries, base, source, big, numbers or {}, depth=0)


def _packed(entries: list[Entry], base: int, source: bytes, big: bool, numbers: Mapping[int, int], depth: int) -> bytes:
    # A directory that points at itself would never end. 64-bit integers exist in a BigTIFF alone.
    entries = [entry for entry in entries if (depth < 3 if entry.tag in POINTERS else entry.type < 16)]
    order = entries[0].order if entries else "<"
    table, values = struct.pack(order + "H", len(entries)), b""
    start = base + 2 + 12 * len(entries) + 4
    for entry in sorted(entries, key=lambda entry: entry.tag):
        kind, count, value = entry.type, entry.count, entry.value
        place = struct.pack(order + "I", start + len(values))
        if entry.tag in POINTERS and entry.number is not None:
            below, _ = read_directory(source, entry.number, order, big)
            values += _packed(below, start + len(values), source, big, numbers, depth + 1)
            kind, count, value = 4, 1, place
        elif entry.tag in numbers and kind in (3, 4) and count == 1:
            value = struct.pack(order + _UNSIGNED[kind], numbers[entry.tag])
        elif len(value) > 4:
            values += value + b"\0" * (len(value) % 2)
            value = place
        table += struct.pack(order + "HHI", entry.tag, kind, count) + value.ljust(4, b"\0")
    return table + b"\0\0\0\0" + values


def _main_directories(exif: bytes) -> tuple[list[Entry], list[Entry], int]:
    """Entries of the main and of the EXIF directory, and where the thumbnail's directory is referred to."""
    order = byte_order(exif)
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    entries, following = read_directory(exif, offset, order)
    for entry in entries:
        if entry.tag == EXIF_POINTER and entry.number is not None:
            try:
                return entries, read_directory(exif, entry.number, order)[0], following
            except ValueError:
                break
    return entries, [], following


def exif_orientation(exif: bytes | None) -> int | None:
    """Orientation from 1 to 8 that an EXIF block asks for; None where it says nothing or is damaged."""
    try:
        entries = _main_directories(exif or b"")[0]
    except ValueError:
        return None
    numbers = [entry.number for entry in entries if entry.tag == _ORIENTATION]
    return numbers[0] if numbers and numbers[0] in range(1, 9) else None


def upright_exif(exif: bytes, width: int, height: int) -> bytes:
    """Amends an EXIF block for a picture that has been turned upright.

    The orientation becomes 1, the sizes become the picture's, the thumbnail is removed; all else keeps its bytes and
    its place. A damaged block is returned as it came.

    Args:
        exif: TIFF structure without the marker `Exif`.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """
    try:
        main, detail, following = _main_directories(exif)
        order = byte_order(exif)
        amended = bytearray(exif)
        sizes = {_WIDTH: width, _HEIGHT: height, _EXIF_WIDTH: width, _EXIF_HEIGHT: height, _ORIENTATION: 1}
        for entry in main + detail:
            code = _UNSIGNED.get(entry.type)
            if entry.tag in sizes and code and sizes[entry.tag] < 256 ** struct.calcsize(code):
                struct.pack_into(order + code, amended, entry.position, sizes[entry.tag])
        if following + 4 <= len(exif):
            (thumbnail,) = struct.unpack_from(order + "I", exif, following)
            struct.pack_into(order + "I", amended, following, 0)
            if thumbnail:
                _erase_thumbnail(amended, thumbnail, order)
    except (ValueError, struct.error):
        return exif
    return bytes(amended)


def _erase_thumbnail(exif: bytearray, offset: int, order: str) -> None:
    """Overwrites the thumbnail's JPEG stream with zeros, or cuts it off where it ends the block."""
    try:
        entries, _ = read_directory(exif, offset, order)
    except ValueError:
        return
    numbers = {entry.tag: entry.number for entry in entries}
    start, length = numbers.get(_THUMBNAIL_OFFSET), numbers.get(_THUMBNAIL_BYTES)
    # Only what begins like a JPEG stream is erased: a wrong offset must not destroy other tags.
    if start is None or length is None or exif[start : start + 2] != b"\xff\xd8":
        return
    end = min(start + length, len(exif))
    if end == len(exif) and start > offset:
        del exif[start:]
    else:
        exif[start:end] = bytes(end - start)


def xmp_orientation(xmp: bytes | None) -> int | None:
    """Orientation from 1 to 8 that an XMP packet asks for, or None."""
    match = _XMP_ORIENTATION.search(xmp or b"")
    return int(match[2]) if match else None


def upright_xmp(xmp: bytes) -> bytes:
    """Sets the orientation in an XMP packet to 1, changing nothing else."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def image_resources(resources: bytes) -> bytes:
    """Photoshop's image resources (captions, keywords, paths) without the thumbnails among them."""
    kept, at = b"", 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        name = resources[at + 6] + 1
        size_at = at + 6 + name + name % 2
        if size_at + 4 > len(resources):
            break
        (size,) = struct.unpack_from(">I", resources, size_at)
        end = size_at + 4 + size + size % 2
        if number not in (1033, 1036):
            kept += resources[at:end]
        at = end
    return kept
