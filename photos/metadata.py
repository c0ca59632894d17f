"""Metadata that must survive a restoration, and the few places in it that must not.

EXIF is a TIFF structure: directories of entries, whose values lie at absolute offsets. Maker notes hold such offsets
too, in ways only their makers know; an EXIF block is therefore amended in place, byte by byte, and never rebuilt.
"""

import re
import struct

from photos.directories import EXIF_POINTER, UNSIGNED, Entry, byte_order, read_directory
from photos.inscription import software_entry

__all__ = ["exif_orientation", "image_resources", "upright_exif", "upright_xmp", "xmp_orientation"]

_ORIENTATION, _WIDTH, _HEIGHT, _EXIF_WIDTH, _EXIF_HEIGHT = 274, 256, 257, 40962, 40963
_SOFTWARE = 305
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 513, 514
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)([1-8])""")


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


def upright_exif(exif: bytes, width: int, height: int, software: str | None = None) -> bytes:
    """Amends an EXIF block for a picture that has been turned upright.

    The orientation becomes 1, the sizes become the picture's, the thumbnail is removed; all else keeps its bytes and
    its place, but that the main directory moves to the end where it gains an entry. A damaged block is returned as it
    came.

    Args:
        exif: TIFF structure without the marker `Exif`.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        software: Program to enter as the last that worked on the picture, or None.
    """
    try:
        main, detail, following = _main_directories(exif)
        order = byte_order(exif)
        amended = bytearray(exif)
        sizes = {_WIDTH: width, _HEIGHT: height, _EXIF_WIDTH: width, _EXIF_HEIGHT: height, _ORIENTATION: 1}
        for entry in main + detail:
            code = UNSIGNED.get(entry.type)
            if entry.tag in sizes and code and sizes[entry.tag] < 256 ** struct.calcsize(code):
                struct.pack_into(order + code, amended, entry.position, sizes[entry.tag])
        if following + 4 <= len(exif):
            (thumbnail,) = struct.unpack_from(order + "I", exif, following)
            struct.pack_into(order + "I", amended, following, 0)
            if thumbnail:
                _erase_thumbnail(amended, thumbnail, order)
        if software is not None:
            _enter_software(amended, software, order)
    except (ValueError, struct.error):
        return exif
    return bytes(amended)


def _enter_software(exif: bytearray, software: str, order: str) -> None:
    """Appends a copy of the main directory with the entry; its values, and all that points at them, stay in place."""
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    entries, following = read_directory(bytes(exif), offset, order)
    before = next((entry.value.decode("utf-8", "replace") for entry in entries if entry.tag == _SOFTWARE), None)
    value = software_entry(software, before).encode("utf-8") + b"\0"
    (count,) = struct.unpack_from(order + "H", exif, offset)
    table = [bytes(exif[at : at + 12]) for at in range(offset + 2, offset + 2 + 12 * count, 12)]
    table = [entry for entry in table if struct.unpack_from(order + "H", entry)[0] != _SOFTWARE]
    exif += b"\0" * (len(exif) % 2)
    base = len(exif)
    place = base + 2 + 12 * (len(table) + 1) + 4
    table.append(struct.pack(order + "HHII", _SOFTWARE, 2, len(value), place))
    table.sort(key=lambda entry: struct.unpack_from(order + "H", entry)[0])
    next_directory = exif[following : following + 4].ljust(4, b"\0")
    exif += struct.pack(order + "H", len(table)) + b"".join(table) + next_directory + value
    struct.pack_into(order + "I", exif, 4, base)


def _erase_thumbnail(exif: bytearray, offset: int, order: str) -> None:
    """Overwrites the thumbnail's JPEG stream with zeros, or cuts it off where it ends the block."""
    try:
        entries, _ = read_directory(exif, offset, order)
    except ValueError:
        return
    numbers = {entry.tag: entry.number for entry in entries}
    start, length = numbers.get(_THUMBNAIL_OFFSET), numbers.get(_THUMBNAIL_BYTES)
    # Only what begins and ends like a JPEG stream is erased: a wrong offset or length must not destroy other tags.
    if start is None or length is None or exif[start : start + 2] != b"\xff\xd8":
        return
    end = _end_of_jpeg(exif, start)
    if end is None:
        return
    end = min(end, start + length)
    if end == len(exif) and start > offset:
        del exif[start:]
    else:
        exif[start:end] = bytes(end - start)


def _end_of_jpeg(data: bytes | bytearray, start: int) -> int | None:
    """Where the JPEG stream that begins at a place ends; None where it has no end."""
    at = start + 2
    # Tables may hold what looks like the end, what is behind the start of a scan (0xDA) may not.
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    end = data.find(b"\xff\xd9", at)
    return None if end < 0 else end + 2


def xmp_orientation(xmp: bytes | None) -> int | None:
    """Orientation from 1 to 8 that an XMP packet asks for, or None."""
    match = _XMP_ORIENTATION.search(xmp or b"")
    return int(match[2]) if match else None


def upright_xmp(xmp: bytes) -> bytes:
    """Sets the orientation in an XMP packet to 1, changing nothing else."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def image_resources(resources: bytes) -> bytes:
    """Photoshop's image resources (captions, keywords, paths) without the thumbnails among them.

    Signatures other than 8BIM are those of other programs. What cannot be read as a resource is kept, with all behind
    it.
    """
    kept, at = b"", 0
    while resources[at : at + 4].isalnum() and at + 12 <= len(resources):
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
    return kept + resources[at:]
