"""The measured rows of a benchmark on disk: an interrupted run goes on where it stopped."""

import hashlib
import json
from pathlib import Path

from evaluation.results_form import is_row
from photos.files import file_bytes, make_folder, replacing

__all__ = ["RunFolder", "file_digest", "row_key"]

_WRITTEN_LAST = ("results.json", "results.md", "report.html")


def row_key(row: dict) -> tuple[str | int, ...]:
    """What identifies a row: set, group, name, column, and what it was made from, which old rows do not say."""
    return row["set"], row["group"], row["name"], row["column"], *row.get("made_from", ())


def file_digest(file: Path) -> str:
    """The sha256 of a file's content.

    Raises:
        ValueError: If the file cannot be read.
    """
    return hashlib.sha256(file_bytes(file)).hexdigest()


class RunFolder:
    """Rows in `rows-NNN.jsonl`, a file for each process, beside `run.json`, which says what they belong to.

    Args:
        folder: Folder of the run, made if needed.
        identity: Everything that the figures depend on, as JSON can hold it; its `settings` name the `metrics`.
        overwrite: Whether rows that are there are forgotten.
        rank: Number of this process; the first alone writes `run.json`.

    Raises:
        ValueError: If the rows there were measured with anything else, or there are results of no run.
    """

    def __init__(self, folder: Path, identity: dict, *, overwrite: bool = False, rank: int = 0) -> None:
        self.folder = folder
        self._own = folder / f"rows-{rank:03d}.jsonl"
        self._metrics = identity["settings"]["metrics"]
        if rank:
            return
        make_folder(folder)
        recorded = folder / "run.json"
        if overwrite:
            for file in [recorded, *folder.glob("rows-*.jsonl")]:
                file.unlink(missing_ok=True)
        foreign = [folder / name for name in _WRITTEN_LAST if (folder / name).exists()]
        if foreign and not overwrite and not recorded.exists():
            raise ValueError(
                f"{foreign[0]}: expected no such file in a folder without the {recorded.name} of a benchmark, got one: "
                "give overwrite=true to replace it, or another out"
            )
        if recorded.exists():
            changed = _changes(_read_json(recorded), json.loads(json.dumps(identity)))
            if changed:
                raise ValueError(
                    f"{folder} holds figures measured with other settings ({'; '.join(changed)}): give overwrite=true "
                    "to measure anew, or another out"
                )
        with replacing(recorded) as temporary:
            temporary.write_text(json.dumps(identity, indent=1), encoding="utf-8")

    def rows(self) -> list[dict]:
        """All rows that were written whole, by any process."""
        rows = {}
        for file in sorted(self.folder.glob("rows-*.jsonl")):
            for line in file.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue  # The line that an interruption cut short, or a damaged one.
                if is_row(row, self._metrics):
                    rows[row_key(row)] = row
        return list(rows.values())

    def add(self, row: dict) -> None:
        """Appends a row, at once."""
        # A line break first ends a line that an earlier interruption cut short.
        with self._own.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(row, allow_nan=False) + "\n")


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(
            f"{file}: expected a JSON object, got something else: give overwrite=true to measure anew, or another out"
        )
    return content


def _changes(before: dict, now: dict, prefix: str = "") -> list[str]:
    """Keys whose values differ, with both values."""
    changes = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(f"{prefix}{key} was {old}, now {new}")
    return changes
