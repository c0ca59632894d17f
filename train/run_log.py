"""Reads what a training run has written: figures by step, settings, pictures."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import OmegaConf

__all__ = ["RunLog", "read_run"]


@dataclass(frozen=True)
class RunLog:
    """One training run as it stands, finished or not.

    Attributes:
        folder: The run's folder.
        name: Its name on pages, unique among the runs that are shown together.
        lines: The lines of `log.jsonl`, in order.
        settings: Every setting by its dotted key, empty where there is no `config.yaml`.
    """

    folder: Path
    name: str
    lines: tuple[dict, ...]
    settings: dict[str, object]

    @property
    def last_step(self) -> int:
        """The last step in the log."""
        return max((line["step"] for line in self.lines), default=0)

    @cached_property
    def _series(self) -> dict[str, dict[int, float]]:
        series: dict[str, dict[int, float]] = {}
        for line in self.lines:
            for key, value in line.items():
                # Beyond any figure that can be drawn.
                finite = isinstance(value, int | float) and abs(value) < 1e100
                if key != "step" and finite:
                    series.setdefault(key, {})[line["step"]] = float(value)
        return series

    def series(self, key: str) -> list[tuple[int, float]]:
        """Steps and finite values of a figure, by rising step; empty if it was never logged."""
        return sorted(self._series.get(key, {}).items())

    def last(self, key: str) -> float | None:
        """The last value of a figure, or None."""
        series = self.series(key)
        return series[-1][1] if series else None

    def pictures(self, name: str) -> list[tuple[int, Path]]:
        """Steps and files of the pictures of a name, by rising step, none beyond the log."""
        found = []
        for file in (self.folder / "panels").glob(f"{name}_*.png"):
            number = file.stem.removeprefix(f"{name}_")
            if number.isdigit() and int(number) <= self.last_step:
                found.append((int(number), file))
        return sorted(found)


def read_run(folder: str | Path, name: str | None = None) -> RunLog:
    """Reads a run's folder; a last line that is cut short, as of a run at work, is passed over.

    Args:
        folder: The run's folder.
        name: Its name on pages; the folder's own if None.

    Raises:
        ValueError: If there is no log in the folder, or none of its lines can be read.
    """
    folder = Path(folder)
    file = folder / "log.jsonl"
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{folder}: expected the folder of a training run with log.jsonl, got none") from error
    lines = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            lines.append(entry)
    if not lines:
        raise ValueError(f"{file}: expected JSON lines with a step each, got none")
    return RunLog(folder, name or folder.resolve().name, tuple(lines), _settings(folder / "config.yaml"))


def _settings(file: Path) -> dict[str, object]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except Exception:
        # A run without readable settings still has a log; YAML errors are of a package that is not ours to import.
        return {}
    return dict(_flat(content)) if isinstance(content, dict) else {}


def _flat(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    entries = []
    for key, value in content.items():
        entries += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return entries
