"""Finding pictures in folders and joining those that belong together, by names or by positions."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from photos import PHOTO_SUFFIXES

__all__ = ["by_key", "last_number", "natural", "pictures", "same_names", "unmatched"]


def natural(name: str) -> list[object]:
    """Key that sorts names as people do: numbers by value, letters without case."""
    return [int(part) if odd % 2 else part.lower() for odd, part in enumerate(re.split(r"(\d+)", name))]


def pictures(folder: Path, *, below: bool = False) -> list[Path]:
    """Photos in a folder, hidden ones left out, in natural order; none if there is no such folder.

    Args:
        folder: The folder.
        below: Whether folders in it are searched too.
    """
    if not folder.is_dir():
        return []
    found = (
        file for file in (folder.rglob("*") if below else folder.iterdir())
        if file.suffix.lower() in PHOTO_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )  # fmt: skip
    return sorted(found, key=lambda file: natural(file.relative_to(folder).as_posix()))


def last_number(file: Path) -> str | None:
    """The number at the end of a file's name, without leading zeros: `image_07.png` gives `7`."""
    found = re.search(r"(\d+)$", file.stem)
    return str(int(found[1])) if found else None


def by_key(files: Iterable[Path], key: Callable[[Path], str | None], problems: list[str]) -> dict[str, Path]:
    """Files by what joins them; files without a key are left out, and two of the same key are a problem."""
    found: dict[str, Path] = {}
    for file in files:
        name = key(file)
        if name in found:
            problems.append(f"{file} and {found[name]} stand for the same picture: expected one of them")
        elif name is not None:
            found[name] = file
    return found


def unmatched(
    captures: Mapping[str, Path], others: Mapping[str, Path], what: str, folder: Path, problems: list[str],
    *, spare: bool = False,
) -> None:  # fmt: skip
    """Says what is missing of captures' references, views or masks, or is there without a capture.

    Args:
        captures: Captures by key.
        others: Their companions by key.
        what: What a companion is, as `reference`.
        folder: Where companions are looked for.
        problems: Where sentences go.
        spare: Whether companions of captures that are not there are fine.
    """
    problems.extend(f"{file} has no {what} in {folder}" for key, file in captures.items() if key not in others)
    if not spare:
        problems.extend(f"{file} is the {what} of no capture" for key, file in others.items() if key not in captures)


def same_names(source: Path, target: Path, problems: list[str]) -> list[tuple[str, Path, Path]]:
    """Pairs of the same name, whatever the suffix: name, capture, reference."""
    captures = by_key(pictures(source), lambda file: file.stem, problems)
    references = by_key(pictures(target), lambda file: file.stem, problems)
    unmatched(captures, references, "reference", target, problems)
    return [(name, file, references[name]) for name, file in captures.items() if name in references]
