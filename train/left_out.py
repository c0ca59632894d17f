"""Photos that a training cannot use, named once and counted over all of its processes."""

import logging
import os
from pathlib import Path

from filelock import FileLock

__all__ = ["LeftOut"]

_EACH = 10  # named one by one; after them the hundredth, the thousandth
_log = logging.getLogger(__name__)


class LeftOut:
    """What was left out, and why.

    Processes and their data workers meet the same photos. They share the list through a file: a reason that is in it
    is known, whoever found it.

    Args:
        path: The file, a reason a line; it appears with the first. None for a list of this process alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: set[str] = set()
        self._read = 0

    def add(self, reason: str) -> None:
        """Takes note of a photo, and logs it if nobody did.

        Args:
            reason: A sentence that begins with the photo's name.

        Raises:
            OSError: If the file cannot be written.
        """
        reason = reason.replace("\n", " ")
        if reason in self._known:
            return
        if self.path is None:
            self._known.add(reason)
        elif not self._added(self.path, reason):
            return
        count = len(self._known)
        if count <= _EACH or count == 10 ** (len(str(count)) - 1):
            _log.warning("left out, %d so far: %s", count, reason)

    def forget(self) -> None:
        """Begins anew."""
        self._known.clear()
        self._read = 0
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _added(self, path: Path, reason: str) -> bool:
        """Whether the reason was not in the file; then it is now."""
        with FileLock(path.with_name(f".{path.name}.lock")), path.open("a+b") as file:
            # Of a long list no process reads a line twice. Names of files need not be text.
            file.seek(self._read)
            self._known.update(os.fsdecode(file.read()).split("\n")[:-1])
            new = reason not in self._known
            if new:
                file.write(os.fsencode(f"{reason}\n"))
                self._known.add(reason)
            self._read = file.tell()
        return new
