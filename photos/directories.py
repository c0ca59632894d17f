"""Directories of entries, of which TIFF files and EXIF blocks are made, as bytes.

References:
    TIFF Revision 6.0, section 2; BigTIFF as libtiff defines it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "EXIF_POINTER", "GPS_POINTER", "POINTERS", "UNSIGNED", "Entry", "byte_order", "directory_size", "pack_directory",
    "read_directory",
]  # fmt: skip

EXIF_POINTER, GPS_POINTER, INTEROPERABILITY_POINTER = 34665, 34853, 40965
POINTERS = frozenset({EXIF_POINTER, GPS_POINTER, INTEROPERABILITY_POINTER})

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


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
        code = UNSIGNED.get(self.type)
        if code is None or self.count < 1:
            return None
        return struct.unpack_from(self.order + code, self.value)[0]

    @property
    def numbers(self) -> tuple[int, ...]:
        """All values of an unsigned integer type."""
        return struct.unpack_from(f"{self.order}{self.count}{UNSIGNED[self.type]}", self.value)


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
    entries: list[Entry], base: int, source: bytes = b"", big: bool = False, numbers: Mapping[int, int] | None = None,
    *, wide: bool = False,
) -> bytes:
    """Lays out a directory, and the EXIF, GPS and interoperability directories below it.

    Args:
        entries: The entries, at least one, all of one byte order.
        base: Where the directory will begin.
        source: The TIFF structure that the pointers among the entries refer to.
        big: Whether the source is a BigTIFF.
        numbers: New values of some tags with a single unsigned integer, by tag.
        wide: Whether the directory will be in a BigTIFF.

    Returns:
        The directory with its values, of even length; the place for the offset of the next directory, right behind
        the entries, holds zero.

    Raises:
        ValueError: If a directory below does not lie within the source.
    """
    return _packed(entries, base, source, big, numbers or {}, wide, depth=0)


def directory_size(entries: int, wide: bool = False) -> int:
    """Bytes of a directory of so many entries up to the offset of the next one."""
    return 8 + 20 * entries if wide else 2 + 12 * entries


def _packed(
    entries: list[Entry], base: int, source: bytes, big: bool, numbers: Mapping[int, int], wide: bool, depth: int
) -> bytes:
    # A directory that points at itself would never end. 64-bit integers exist in a BigTIFF alone.
    entries = [entry for entry in entries if (depth < 3 if entry.tag in POINTERS else wide or entry.type < 16)]
    order = entries[0].order if entries else "<"
    count_code, offset_code, inline = ("Q", "Q", 8) if wide else ("H", "I", 4)
    table, values = struct.pack(order + count_code, len(entries)), b""
    start = base + directory_size(len(entries), wide) + inline
    for entry in sorted(entries, key=lambda entry: entry.tag):
        kind, count, value = entry.type, entry.count, entry.value
        place = struct.pack(order + offset_code, start + len(values))
        if entry.tag in POINTERS and entry.number is not None:
            below, _ = read_directory(source, entry.number, order, big)
            values += _packed(below, start + len(values), source, big, numbers, wide, depth + 1)
            kind, count, value = 16 if wide else 4, 1, place
        elif entry.tag in numbers and kind in (3, 4) and count == 1:
            value = struct.pack(order + UNSIGNED[kind], numbers[entry.tag])
        elif len(value) > inline:
            values += value + b"\0" * (len(value) % 2)
            value = place
        table += struct.pack(f"{order}HH{offset_code}", entry.tag, kind, count) + value.ljust(inline, b"\0")
    return table + bytes(inline) + values
