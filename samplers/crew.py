"""Processes of one command that share its photos, by files alone, so that no process waits for one that has died.

While they are at work the folder of the results holds a hidden folder, in which

    present       is locked by every process, in common, from its joining to its leaving
    rank-K        is locked by process K as long as it may do a photo
    HASH.photo    says which process has begun a photo, later what became of it
    HASH.said     stands for a sentence that one process has printed for all

The locks are those of the operating system, which frees them however a process ends. Photos are taken by one process at
a time, under the lock of the summary, and go to the process that asks first; what a process leaves undone at its end is
taken over by the others.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from photos import PhotoError
from samplers.claims import claimed_in_turn, fcntl
from samplers.launch import Launch
from samplers.summary import NAME

__all__ = ["Crew"]

_PRESENT, _CLOSED, _MADE = "present", "closed", "made"
_POLL_SECONDS, _LATE_SECONDS = 0.05, 60.0


class Crew:
    """The processes of one command, as one of them sees them; joins them.

    Args:
        launch: Which of them this one is.
        out: Folder of the results; made if needed.

    Raises:
        PhotoError: If the folder cannot be written, its files cannot be locked, or another command is at work in it.
    """

    def __init__(self, launch: Launch, out: Path) -> None:
        if fcntl is None:
            raise PhotoError(f"{out}: expected one process on a system that locks no files, got {launch.world}")
        self.launch, self.out, self.folder = launch, out, out / ".processes.part"
        self._work: int | None = None
        self._waited = False
        here = [str(parent) for parent in (out, *out.parents) if not parent.exists()]
        with self._in_turn():
            self.folder.mkdir(exist_ok=True)
            self._present = os.open(self.folder / _PRESENT, os.O_RDWR | os.O_CREAT, 0o666)
            if _lock(self._present, fcntl.LOCK_EX):
                # Nobody else is here: whatever lies here was left by processes that were killed.
                for entry in self.folder.iterdir():
                    if entry.name != _PRESENT:
                        entry.unlink()
                self._write(_MADE, here)
            fcntl.flock(self._present, fcntl.LOCK_SH)
            # Folders that were not there before, innermost first.
            self.made = json.loads((self.folder / _MADE).read_text("utf-8"))
            self._begin_work()

    def shares(self, results: Sequence[Path]) -> Iterator[Path]:
        """Gives the photos that this process is to do, by their results, until none is left that anyone has to do.

        What became of a photo must be noted before the next is asked for.

        Raises:
            PhotoError: If the folder cannot be written.
        """
        for result in results:
            if self._take(result, None):
                yield result
        for result in results:
            while "rank" in (noted := self._noted(result)):
                # What this process seems to have begun was begun by one of its number that has died.
                ended = noted["rank"] == self.launch.rank or not self._at_work(noted["rank"])
                time.sleep(_POLL_SECONDS)  # Also since a process that is killed loses its locks one after the other.
                if ended and self._take(result, noted["rank"]):
                    yield result

    def inherited(self, result: Path) -> bool:
        """Whether another process had begun this photo of ours."""
        return "heir_of" in self._noted(result)

    def note(self, result: Path, row: dict) -> None:
        """Says what became of a photo.

        Raises:
            PhotoError: If the folder cannot be written.
        """
        self._write(_name(result), {"row": row})

    def row(self, result: Path) -> dict | None:
        """What became of a photo, whoever did it; None as long as that is open."""
        return self._noted(result).get("row")

    def says_first(self, text: str) -> bool:
        """Whether no process has said this yet; from now on one has."""
        name = f"{hashlib.sha256(os.fsencode(text)).hexdigest()}.said"
        try:
            os.close(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        except OSError:
            pass  # Rather twice than never.
        return True

    def wait(self) -> None:
        """Does no more photos, and waits until no other process does; of those that do not come, a minute."""
        self._end_work()
        begun = time.monotonic()
        for rank in range(self.launch.world):
            while (state := self._at_work(rank)) or (state is None and time.monotonic() - begun < _LATE_SECONDS):
                time.sleep(_POLL_SECONDS)
        self._waited = True

    @contextmanager
    def leaving(self) -> Iterator[bool]:
        """Leaves the others; gives whether it falls to this process to sum up.

        It falls to the first that has waited for all, so that none ends before that is done, or else to the last.
        """
        self._end_work()
        with self._in_turn():
            last = _lock(self._present, fcntl.LOCK_EX)
            first = (self._waited or last) and not (self.folder / _CLOSED).exists()
            try:
                yield first
                if first:
                    self._write(_CLOSED, True)
            finally:
                os.close(self._present)
                if last:
                    shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self.made if last else ():
            try:
                os.rmdir(folder)
            except OSError:
                break

    def _in_turn(self) -> object:
        return claimed_in_turn(self.out / NAME)

    def _begin_work(self) -> None:
        if self._at_work(self.launch.rank):
            raise PhotoError(f"{self.out}: expected to be the only command at work in this folder, got another one")
        # Locked before it is there: whoever sees it without a lock may rely on that.
        new = self.folder / "rank.new"
        self._work = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        fcntl.flock(self._work, fcntl.LOCK_EX)
        os.replace(new, self.folder / f"rank-{self.launch.rank}")

    def _end_work(self) -> None:
        if self._work is not None:
            os.close(self._work)
            self._work = None

    def _at_work(self, rank: int) -> bool | None:
        """Whether a process may still do photos; None if it has not come yet."""
        try:
            file = os.open(self.folder / f"rank-{rank}", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return not _lock(file, fcntl.LOCK_SH)
        finally:
            os.close(file)

    def _take(self, result: Path, heir_of: int | None) -> bool:
        """Makes a photo this process's own, if it is still nobody's, or that of the process that has ended."""
        if heir_of is None and self._noted(result):
            return False
        with self._in_turn():
            if self._noted(result).get("rank") != heir_of or self.row(result) is not None:
                return False
            mine = {"rank": self.launch.rank}
            self._write(_name(result), mine if heir_of is None else mine | {"heir_of": heir_of})
            return True

    def _noted(self, result: Path) -> dict:
        try:
            return json.loads((self.folder / _name(result)).read_text("utf-8"))
        except FileNotFoundError:
            return {}

    def _write(self, name: str, content: object) -> None:
        new = self.folder / f"{name}.{self.launch.rank}.new"
        try:
            new.write_text(json.dumps(content), "utf-8")
            os.replace(new, self.folder / name)
        except OSError as error:
            raise PhotoError(f"{self.folder}: the folder cannot be written: {error.strerror or error}") from error


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _name(result: Path) -> str:
    return f"{hashlib.sha256(os.fsencode(result)).hexdigest()}.photo"
