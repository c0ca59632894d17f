"""Results that belong together, put in place at once, by one process, even if it is killed in between.

While a photo is restored its results are written into a hidden folder `.NAME.part` beside them, which one process at a
time holds by a lock of the operating system; a process that is killed loses the lock. When all are whole, a marker
says so, and they are renamed into place. Whoever finds the folder without a process that holds it finishes the renaming
where the marker is there, and clears the rest away where it is not: results are all there or none are.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from photos import PhotoError

try:
    import fcntl
except ImportError:  # Windows: results still appear whole, but two processes may do the same photo.
    fcntl = None

__all__ = ["BusyError", "Place", "claimed", "claimed_in_turn", "left_behind"]

_LOCK, _WHOLE = "lock", "whole"
_TRIES = 100


class BusyError(PhotoError):
    """Another process works on the same result; the message is for the user."""


class Place:
    """The folder in which results are made.

    Args:
        folder: The hidden folder.
        target: The folder where the results belong.
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder, self.target = folder, target

    def commit(self, names: list[str]) -> None:
        """Puts finished results in place; from here on nothing but a dead machine stops them, and that only for a time.

        Args:
            names: Their file names, the last one being the one whose presence tells that all are there.
        """
        for name in names:
            _to_disk(self.folder / name)
        # The marker appears whole as well: half of its names would be half of the results.
        (self.folder / f"{_WHOLE}.new").write_bytes(os.fsencode("/".join(names)))
        os.replace(self.folder / f"{_WHOLE}.new", self.folder / _WHOLE)
        try:
            self.move()
        except KeyboardInterrupt:
            self.move()
            raise

    def move(self) -> None:
        """Renames what a marker names and is still here, then drops the marker."""
        for name in os.fsdecode((self.folder / _WHOLE).read_bytes()).split("/"):
            if (self.folder / name).exists():
                os.replace(self.folder / name, self.target / name)
        (self.folder / _WHOLE).unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the folder, unless it holds finished results that could not be put in place."""
        if not (self.folder / _WHOLE).exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def recover(self) -> None:
        """Finishes or clears away what a process that was killed has left."""
        if (self.folder / _WHOLE).exists():
            self.move()
        for entry in self.folder.iterdir():
            if entry.name != _LOCK:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def left_behind(result: Path) -> bool:
    """Whether a process has begun the result and not yet finished it, or was killed."""
    return _folder(result).exists()


@contextmanager
def claimed(result: Path) -> Iterator[Place]:
    """Holds the place where a result and what belongs to it are made.

    Args:
        result: The file that gives the place its name.

    Raises:
        BusyError: If another process holds it.
        PhotoError: If the folder cannot be written.
    """
    made = [parent for parent in result.parents if not parent.exists()]
    place, lock = Place(_folder(result), result.parent), None
    try:
        try:
            lock = _locked(place.folder)
        except OSError as error:
            _remove_empty(made)
            raise PhotoError(f"{result}: the results cannot be written: {error.strerror or error}") from error
        except KeyboardInterrupt:
            # Held once more, to clear away what had been begun.
            with suppress(OSError):
                lock = _locked(place.folder)
            raise
        if lock is None:
            raise BusyError(f"{result}: expected to be the only process at work on it, got another one")
        try:
            place.recover()
        except OSError as error:
            raise PhotoError(f"{result}: the results cannot be put in place: {error.strerror or error}") from error
        yield place
    finally:
        if lock is not None:
            try:
                place.clear()
            except KeyboardInterrupt:
                place.clear()
                raise
            finally:
                os.close(lock)
                _remove_empty(made)


@contextmanager
def claimed_in_turn(result: Path) -> Iterator[Place]:
    """As `claimed`, but waits for its turn where another process holds the place."""
    with ExitStack() as stack:
        while True:
            try:
                place = stack.enter_context(claimed(result))
                break
            except BusyError:
                time.sleep(0.01)
        yield place


def _folder(result: Path) -> Path:
    # Hidden, so that a listing of photos passes it over; the same for all processes; no longer than names may be.
    name = os.fsencode(result.name)
    short = result.name if len(name) <= 200 else hashlib.sha256(name).hexdigest()
    return result.parent / f".{short}.part"


def _locked(folder: Path) -> int | None:
    """Makes the folder and locks it; None if another process has."""
    tries = 0
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            # Another process has just finished and removed the folder, while it was made or looked at; unless that is
            # not the reason.
            tries += 1
            if tries == _TRIES:
                raise
            time.sleep(0.002)
            continue
        if fcntl is None:
            return lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(folder / _LOCK)):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        except KeyboardInterrupt:
            os.close(lock)
            raise
        # The file was removed between opening and locking: its lock locks nothing.
        os.close(lock)


def _to_disk(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
