"""Finding the sets below a folder and the captures in them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.captures import Capture
from evaluation.paired_sets.cuhk import CUHK
from evaluation.paired_sets.ded import DED
from evaluation.paired_sets.dpdd import DPDD
from evaluation.paired_sets.folder import FOLDER_SETS
from evaluation.paired_sets.lfdof import LFDOF
from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import natural
from evaluation.paired_sets.realblur import REALBLUR
from evaluation.paired_sets.realdof import REALDOF
from evaluation.paired_sets.rtf import RTF
from evaluation.paired_sets.sdd import SDD

__all__ = ["PAIRED_SETS", "captures", "find_sets", "list_captures"]

PAIRED_SETS = {
    known.name: known for known in (DPDD, REALDOF, RTF, LFDOF, CUHK, SDD, REALBLUR, DED, *FOLDER_SETS)
}  # fmt: skip
"""Every known set, by name."""


def find_sets(root: str | Path) -> list[tuple[PairedSet, Path]]:
    """Finds the sets whose layout a folder has or, if it has none, the folders directly in it.

    Args:
        root: One set, or a folder of sets.

    Returns:
        Sets and where each is, at least one, in natural order of the folders.

    Raises:
        ValueError: If there is no such folder, or no set in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: expected a set of captures or a folder of sets, got no such folder")
    found = _sets_at(root)
    if not found:
        children = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        found = [entry for path in sorted(children, key=lambda path: natural(path.name)) for entry in _sets_at(path)]
    if not found:
        raise ValueError(
            f"{root}: expected a set of captures or a folder of sets, got no known layout; "
            f"the simplest is {PAIRED_SETS['folder'].layout}"
        )
    return found


def _sets_at(root: Path) -> list[tuple[PairedSet, Path]]:
    return [(known, root) for known in PAIRED_SETS.values() if known.splits_at(root)]


def list_captures(
    root: str | Path, *, sets: Sequence[str] | None = None, split: str = "test", count: int | None = None,
    references_only: bool = True,
) -> list[tuple[PairedSet, PairFiles]]:  # fmt: skip
    """Lists the captures below a folder; no picture is decoded.

    Args:
        root: One set, or a folder of sets.
        sets: Sets to take, by the names in `PAIRED_SETS` or of their folders; None takes every set that has the split
            and, where these are asked for, references.
        split: Split of each set.
        count: Captures of each set, first in its order; None for all.
        references_only: Leaves out sets without references, or with references that are for looking alone.

    Returns:
        Sets and files, at least one, always in the same order.

    Raises:
        ValueError: If a set is unknown or not there, two folders are the same set, a file is missing or unpaired, the
            count is below 1, or nothing is left.
    """
    if count is not None and count < 1:
        raise ValueError(f"count must be None or at least 1, got {count}")
    chosen = _chosen(find_sets(root), sets, Path(root))
    listed: list[tuple[PairedSet, PairFiles]] = []
    places: dict[str, Path] = {}
    for known, place in chosen:
        if sets is None and split not in known.splits_at(place):
            continue
        pairs = known.pairs(place, split)[:count]
        if references_only and (known.for_looking or pairs[0].reference is None):
            if sets is None:
                continue
            raise ValueError(f"{place}: expected a set with references for figures, got {known.name}, which has none")
        name = pairs[0].set_name
        if name in places:
            raise ValueError(f"{root}: expected one set called {name}, got {places[name]} and {place}")
        places[name] = place
        listed += [(known, files) for files in pairs]
    if not listed:
        kind = " with references" if references_only else ""
        raise ValueError(f"{root}: expected captures{kind} of the split {split}, got none")
    return listed


def captures(
    root: str | Path, *, sets: Sequence[str] | None = None, split: str = "test", count: int | None = None,
    references_only: bool = True,
) -> Iterator[Capture]:  # fmt: skip
    """Reads the captures below a folder one after the other; arguments and errors are those of `list_captures`.

    Raises:
        ValueError: At once for what names tell; on the way if a picture cannot be read or sizes differ.
    """
    listed = list_captures(root, sets=sets, split=split, count=count, references_only=references_only)
    return (known.capture(files) for known, files in listed)


def _chosen(
    found: list[tuple[PairedSet, Path]], sets: Sequence[str] | None, root: Path
) -> list[tuple[PairedSet, Path]]:  # fmt: skip
    """The found sets that are asked for."""
    if sets is None:
        return found
    names = [{known.name, place.resolve().name} for known, place in found]
    for name in sets:
        if not any(name in both for both in names):
            if name in PAIRED_SETS:
                layout = PAIRED_SETS[name].layout
                raise ValueError(f"{root}: expected the set {name}, got none with its layout: {layout}")
            raise ValueError(f"sets must be some of {', '.join(PAIRED_SETS)}, or folders of {root}, got {name!r}")
    if not sets:
        raise ValueError("sets must be None or name at least one set, got none")
    return [entry for entry, both in zip(found, names, strict=True) if both & set(sets)]
