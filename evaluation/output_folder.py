"""The folder of a measurement's results, tried before anything is measured: hours of it are not to find no place."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from photos.files import make_folder

__all__ = ["try_folder"]


def try_folder(folder: Path, names: Sequence[str]) -> None:
    """Makes a folder unless it is there, and tries whether files can be written into it.

    Args:
        folder: The folder.
        names: Of the files that are to be written, older ones being replaced.

    Raises:
        ValueError: If the folder cannot be made or written into, or another folder has one of the names.
    """
    make_folder(folder)
    if taken := [folder / name for name in names if (folder / name).is_dir()]:
        raise ValueError(f"{taken[0]}: expected the name of a file to write, got a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder that can be written into, got {error.strerror}") from None
