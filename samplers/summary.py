"""What became of a batch: `summary.json` in the folder of the results, and a table for the terminal."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from photos import PhotoError
from photos.files import replacing
from samplers.batch import Job
from samplers.record import SOFTWARE

__all__ = ["NAME", "Row", "table", "write_summary"]

NAME = "summary.json"
_SCHEMA = 1
_STATUSES = ("done", "kept", "busy", "exists", "failed", "open")
_COLUMNS = ("photo", "status", "size", "evaluations", "mean radius", "seconds")


@dataclass
class Row:
    """What became of one photo.

    Attributes:
        photo: The file, as it was found.
        status: `done`, `kept` (it was finished by an earlier run), `busy` (another process is at work on it), `exists`
            (a result is there, and was not to be replaced), `failed` or `open` (not begun when the batch was
            interrupted).
        outputs: Files that are there, relative to the folder of the results.
        code: Exit code of this photo.
        error: Why it failed.
        seconds: Time of reading, restoring and writing.
        facts: Size, evaluations, radii, noise; see `samplers.one_photo.restore_file`.
    """

    photo: str
    status: str = "open"
    outputs: list[str] = field(default_factory=list)
    code: int = 0
    error: str | None = None
    seconds: float | None = None
    facts: dict = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job) -> "Row":
        """The row of a photo that was not begun."""
        return cls(str(job.photo))

    def finish(self, job: Job, out: Path, status: str, facts: dict, seconds: float | None = None) -> None:
        """Notes that all results are there."""
        self.status, self.facts, self.seconds, self.code, self.error = status, dict(facts), seconds, 0, None
        self.outputs = [os.path.relpath(output, out) for output in job.outputs]

    def fail(self, status: str, code: int, error: object) -> None:
        """Notes why there are no results."""
        self.status, self.code, self.error = status, code, " ".join(str(error).split())


def write_summary(out: Path, rows: Sequence[Row], parameters: dict) -> None:
    """Writes `summary.json`; photos that an earlier summary in the folder names and this one does not are kept.

    Args:
        out: Folder of the results; where it does not exist nothing was written, and nothing is.
        rows: One for each photo.
        parameters: Of the run, see `samplers.record`.

    Raises:
        PhotoError: If there is a file of that name that is no summary, or it cannot be written.
    """
    path = out / NAME
    if not out.is_dir():
        return
    photos = {row.photo: asdict(row) for row in rows}
    if path.exists():
        earlier = {row["photo"]: row for row in _earlier(path)}
        # Of a photo that is busy the other process knows more; of one that was not begun, or whose results were there,
        # the run before.
        silent = ("busy", "exists", "open")
        photos = earlier | {k: row for k, row in photos.items() if k not in earlier or row["status"] not in silent}
    counts: dict[str, int] = {}
    for row in photos.values():
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    content = {
        "schema": _SCHEMA, "written_by": SOFTWARE, "parameters": parameters, "counts": counts,
        "photos": list(photos.values()),
    }  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _earlier(path: Path) -> list[dict]:
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = content["photos"]
        if not content["written_by"].startswith(SOFTWARE.partition(" ")[0]) or not all("photo" in row for row in rows):
            raise ValueError
        return rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PhotoError(f"{path}: expected a summary of an earlier run, got another file, which is kept") from None


def table(rows: Sequence[Row], longest: int = 40) -> str:
    """The rows as lines of text; of a large batch, those that are not done, and always the counts.

    Args:
        rows: One for each photo.
        longest: Number of photos up to which all are listed.
    """
    listed = rows if len(rows) <= longest else [row for row in rows if row.status not in ("done", "kept")]
    lines = [_COLUMNS, *map(_cells, listed)] if listed else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    counts = {status: sum(row.status == status for row in rows) for status in _STATUSES}
    seconds = sum(row.seconds or 0 for row in rows)
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return "\n".join([*text, f"{len(rows)} photos: {shown}; {seconds:.1f} s"])


def _cells(row: Row) -> tuple[str, ...]:
    facts = row.facts
    size = f"{facts['width']} x {facts['height']}" if "width" in facts else ""
    pages = f" x {facts['pages']}" if facts.get("pages", 1) > 1 else ""
    radius = f"{facts['mean_radius']:.2f} px" if "mean_radius" in facts else ""
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    return Path(row.photo).name, row.status, size + pages, str(facts.get("evaluations", "")), radius, seconds
