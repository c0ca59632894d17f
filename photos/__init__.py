"""Reading and writing pictures."""

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})

__all__ = ["PHOTO_SUFFIXES"]
