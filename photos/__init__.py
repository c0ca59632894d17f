"""Reading and writing pictures: formats, bit depth, orientation, metadata, blur maps and the HTML report.

The names below are imported when first used, so that a command line's `--help` need not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from photos.files import find_photos, read, write
    from photos.inscription import inscription_of
    from photos.maps import map_picture, read_distances, read_map, write_map
    from photos.masks import read_mask
    from photos.overlay import write_overlay
    from photos.photo import MAX_PIXELS, Photo, PhotoError
    from photos.report import write_report
    from photos.stack import open_pages
    from photos.value_range import ValueRange

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw"}
    | {".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
PHOTO_SUFFIXES = RAW_SUFFIXES | {
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif",
}  # fmt: skip

_HOME = {
    "MAX_PIXELS": "photo", "Photo": "photo", "PhotoError": "photo",
    "find_photos": "files", "read": "files", "write": "files",
    "map_picture": "maps", "read_distances": "maps", "read_map": "maps", "write_map": "maps",
    "read_mask": "masks", "write_overlay": "overlay",
    "write_report": "report", "open_pages": "stack", "ValueRange": "value_range",
    "inscription_of": "inscription",
}  # fmt: skip

__all__ = [
    "MAX_PIXELS", "PHOTO_SUFFIXES", "RAW_SUFFIXES", "Photo", "PhotoError", "ValueRange", "find_photos",
    "inscription_of", "map_picture", "open_pages", "read", "read_distances", "read_map", "read_mask", "write",
    "write_map", "write_overlay", "write_report",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'photos' has no attribute {name!r}")
    return getattr(import_module(f"photos.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
