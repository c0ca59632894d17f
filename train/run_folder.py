"""What a run's folder belongs to: one launch at a time, and the photos that the run began with."""

import hashlib
import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from filelock import FileLock, Timeout

from photos.files import make_folder, replacing
from samplers.config import ConfigError

__all__ = [
    "LEFT_OUT_LIST", "PHOTO_LIST", "check_begins", "check_photos", "check_place", "listed", "lock_run", "write_photos",
]  # fmt: skip

PHOTO_LIST = "photos.txt"
"""Name of the list in a run's folder: size in bytes, digest and path of every training photo, in their order."""

LEFT_OUT_LIST = "left_out.txt"
"""Name of the list of photos that a run's last launch could not use, with the reasons."""

_ENDS = 2**14  # bytes at the beginning and at the end of a photo: of millions nobody reads all
_SECONDS = 15  # that the workers of a run that was killed may outlive it


def lock_run(run_dir: Path) -> FileLock:
    """Takes a run's folder for this launch, until the lock is gone or the process has ended.

    Raises:
        ConfigError: If another launch has it.
    """
    make_folder(run_dir)
    # One for all runs of a process, which come one after the other.
    lock = FileLock(run_dir / ".lock", is_singleton=True)
    try:
        lock.acquire(timeout=_SECONDS)
    except Timeout:
        raise ConfigError(
            f"{run_dir}: expected a run that is not running, got one that another process is training; give another "
            "run.dir, or wait for its end"
        ) from None
    return lock


def check_place(run_dir: Path, photos: str | None) -> None:
    """Checks that a run's pictures will not be among the photos of the next.

    Args:
        run_dir: Its folder.
        photos: Folder that photos are searched in, tar files, or None for neither.

    Raises:
        ConfigError: If the former lies in the latter.
    """
    if photos and run_dir.resolve().is_relative_to(Path(photos).resolve()):
        raise ConfigError(
            f"run.dir={run_dir}: expected a folder outside of data.root={photos}, where its pictures would become "
            "training photos, got one in it"
        )


def check_begins(run_dir: Path) -> None:
    """Checks that a run without checkpoints may begin in a folder.

    Raises:
        ConfigError: If another one ended there, whose weights it would replace.
    """
    if (run_dir / "export").exists():
        raise ConfigError(
            f"{run_dir}: expected a new folder, or a run with checkpoints, got one with an export and without "
            "checkpoints; give another run.dir"
        )


def listed(photos: Sequence[Path]) -> list[str]:
    """The lines of `PHOTO_LIST` for photos in their order; reads the ends of each."""
    return list(map(_line, photos))


def check_photos(run_dir: Path, now: Sequence[str]) -> None:
    """Compares the photos of a run with those that it is to go on with.

    Args:
        run_dir: Its folder. Without a list in it, as older runs are, nothing is compared.
        now: The latter, as of `listed`.

    Raises:
        ConfigError: If they are others: a sample would be another than it was.
        ValueError: If the list cannot be read.
    """
    try:
        # Names of files need not be text.
        before = os.fsdecode((run_dir / PHOTO_LIST).read_bytes()).split("\n")[:-1]
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{run_dir / PHOTO_LIST}: expected the photos of the run, got {error}") from None
    if now != before:
        first = next(new or old for old, new in zip_longest(before, now) if old != new).split("\t")[-1]
        raise ConfigError(
            f"{run_dir} holds a run with other photos: {len(before)} before, {len(now)} now, the first that differs is "
            f"{first}; give those of before, another run.dir, or --allow-changes to go on with the new ones"
        )


def write_photos(run_dir: Path, now: Sequence[str]) -> None:
    """Notes the training photos of a run, as of `listed`."""
    with replacing(run_dir / PHOTO_LIST) as temporary:
        temporary.write_bytes(os.fsencode("".join(f"{line}\n" for line in now)))


def _line(photo: Path) -> str:
    with photo.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        digest = hashlib.sha256(content.read(_ENDS))
        content.seek(max(size - _ENDS, 0))
        digest.update(content.read())
    return f"{size}\t{digest.hexdigest()[:16]}\t{photo.as_posix()}".replace("\n", " ")
