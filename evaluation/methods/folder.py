"""Results that another program made, read from a folder and measured like those of any method.

A result is the picture PATH/<set>/<group>/<name>, PATH/<set>/<name> or PATH/<name>, the first that exists, with
whatever suffix of a photo; the name may contain folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.methods import Restored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.captures import Capture

__all__ = ["ResultsFolder", "folder"]

_LISTED = 10


@dataclass(frozen=True)
class ResultsFolder:
    """A folder of results as a method.

    Attributes:
        path: The folder.
    """

    path: Path
    takes_map = False

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        """Reads the result of a capture.

        Raises:
            ValueError: If there is none, there are several, or it has another size.
        """
        import torch

        from photos import read

        file = self.find(capture.set_name, capture.group, capture.name)
        if file is None:
            raise ValueError(f"{self.path}: expected a result named {capture.name}, got none")
        image = torch.from_numpy(read(file).pixels).permute(2, 0, 1)[None]
        if image.shape != capture.y.shape:
            expected, got = (f"{shape[-2]} x {shape[-1]}" for shape in (capture.y.shape, image.shape))
            raise ValueError(f"{file}: expected a picture of {expected} pixels like the capture, got {got}")
        return Restored(image.to(capture.y), None, 0)

    def check(self, captures: Iterable[tuple[str, str, str]]) -> None:
        """Looks for the result of every capture.

        Args:
            captures: Set, group and name of each.

        Raises:
            ValueError: If results are missing, the first of them listed, or a capture has several.
        """
        captures = list(captures)
        missing = ["/".join(capture) for capture in captures if self.find(*capture) is None]
        if missing:
            more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
            raise ValueError(
                f"{self.path}: expected results of {len(captures)} captures as <set>/<group>/<name>, <set>/<name> or "
                f"<name>, got none of {len(missing)}: {', '.join(missing[:_LISTED])}{more}"
            )

    def find(self, set_name: str, group: str, name: str) -> Path | None:
        """The file of a capture's result, or None.

        Raises:
            ValueError: If the place holds several pictures of that name.
        """
        for place in (f"{set_name}/{group}/{name}", f"{set_name}/{name}", name):
            files = self._files.get(place, ())
            if len(files) > 1:
                raise ValueError(f"{self.path}: expected one result {place}, got {', '.join(f.name for f in files)}")
            if files:
                return files[0]
        return None

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The photos below the folder by their path without suffix."""
        from photos import find_photos

        files = {}
        for file in find_photos(self.path):
            files.setdefault(file.relative_to(self.path).with_suffix("").as_posix(), []).append(file)
        return files


def folder(path: str | Path) -> ResultsFolder:
    """The results in a folder as a method; its `check` is to be called before anything is measured.

    Raises:
        ValueError: If there is no such folder, or it holds no photo.
    """
    from photos import find_photos

    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path}: expected a folder of results, got no such folder")
    find_photos(path)
    return ResultsFolder(path)
