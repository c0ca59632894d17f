"""DPDD: 500 scenes by a Canon EOS 5D Mark IV, at wide and at narrow aperture, with dual-pixel views.

Source and target of a scene have different file numbers, mostly by one and in either direction, so that neither equal
names nor the nearest number make pairs. Both lists ascend, hence pairs are made by position. Dual-pixel views bear the
number of the centre view and end in `_L` and `_R`. The second layout has whole pictures for testing and crops for
training, which are splits of their own here.

References:
    Abuolaim, Brown, Defocus Deblurring Using Dual-Pixel Data, ECCV 2020.
    Zamir et al., Restormer, CVPR 2022: the second layout and the labels indoor and outdoor.
"""

import re
from pathlib import Path

import numpy as np

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, pictures, unmatched

__all__ = ["DPDD"]

_NAME = "dpdd"
_CROPS = "_crops"
_SPLITS = ("train", "val", "test", f"train{_CROPS}", f"val{_CROPS}")
# Source minus target is -2, -1 or 1 over the 76 test pairs. A larger distance means that files are missing.
_LARGEST_DISTANCE = 2
_LABELS = ("indoor", "outdoor")


def _folders(root: Path, split: str) -> dict[str, Path] | None:
    """Folders of the views c, l and r and of the targets in whichever layout is there."""
    if (root / f"{split}_c" / "source").is_dir():
        views = {view: root / f"{split}_{view}" / "source" for view in "clr"}
        return {**views, "target": root / f"{split}_c" / "target"}
    end = _CROPS if split.endswith(_CROPS) else ""
    for base in (root / split.removesuffix(_CROPS) / "DPDD", *((root,) if split == "test" else ())):
        if (base / f"inputC{end}").is_dir():
            return {**{view: base / f"input{view.upper()}{end}" for view in "clr"}, "target": base / f"target{end}"}
    return None


def _splits_at(root: Path) -> tuple[str, ...]:
    return tuple(split for split in _SPLITS if _folders(root, split))


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    folders = _folders(root, split)
    captures, references = pictures(folders["c"]), pictures(folders["target"])
    # The distances of the numbers are known of the test split alone.
    if len(captures) != len(references) or (split == "test" and _first_apart(captures, references) is not None):
        problems.append(_misfit(folders, captures, references))
        return []
    views = _views(folders, captures, problems)
    groups = _groups(root, folders["c"].parent, len(captures), problems) if split == "test" else None
    return [
        PairFiles(
            name=capture.stem, capture=capture, reference=reference, set_name=_NAME, scene=_shot(capture),
            group=groups[position] if groups else _NAME, **{side: found.get(_shot(capture)) for side, found in views},
        )
        for position, (capture, reference) in enumerate(zip(captures, references, strict=True))
    ]  # fmt: skip


def _shot(file: Path) -> str:
    """Name of a view's centre view: `1P0A0917_L` is a view of `1P0A0917`."""
    return re.sub(r"_[LR](?![A-Za-z0-9])", "", file.stem)


def _views(folders: dict[str, Path], captures: list[Path], problems: list[str]) -> list[tuple[str, dict[str, Path]]]:
    """Left and right views by the name of their centre view; none where neither folder is there."""
    sides = [("left", folders["l"]), ("right", folders["r"])]
    if not any(folder.is_dir() for _, folder in sides):
        return []
    centre = {_shot(file): file for file in captures}
    found = [(side, by_key(pictures(folder), _shot, problems)) for side, folder in sides]
    for (side, views), (_, folder) in zip(found, sides, strict=True):
        unmatched(centre, views, f"{side} view", folder, problems)
    return found


def _number(file: Path) -> tuple[str, int] | None:
    """Prefix and number that the camera gave; None for other names, such as those of crops."""
    found = re.fullmatch(r"(.*?)(\d{4})", file.stem)
    return (found[1], int(found[2])) if found else None


def _first_apart(captures: list[Path], references: list[Path]) -> int | None:
    """First position where the camera's numbers are too far apart for a pair."""
    for position, (capture, reference) in enumerate(zip(captures, references, strict=False)):
        one, other = _number(capture), _number(reference)
        if one and other and one[0] == other[0] and abs(one[1] - other[1]) > _LARGEST_DISTANCE:
            return position
    return None


def _misfit(folders: dict[str, Path], captures: list[Path], references: list[Path]) -> str:
    """Where pairing by position goes wrong."""
    position = _first_apart(captures, references)
    if position is None:
        position = min(len(captures), len(references))
    here, there = ((files[position].name if position < len(files) else "nothing") for files in (captures, references))
    return (
        f"{folders['c']} and {folders['target']}: expected pairs by position, got {len(captures)} captures and "
        f"{len(references)} references; the first that do not fit are {here} and {there}"
    )


def _groups(root: Path, base: Path, total: int, problems: list[str]) -> list[str] | None:
    """Indoor or outdoor for each test pair, from the labels: 1-based positions in the sorted list."""
    places = [folder for folder in (base, root) if any(_label_file(folder, label).exists() for label in _LABELS)]
    if not places:
        return None
    place = places[0]
    groups = [""] * total
    for label in _LABELS:
        file = _label_file(place, label)
        try:
            # Pickled arrays run code of whoever made them.
            positions = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            problems.append(f"{file}: expected an array of whole numbers, got none ({error})")
            return None
        if positions.dtype.kind not in "iu" or not ((positions >= 1) & (positions <= total)).all():
            problems.append(f"{file}: expected positions from 1 to {total}, got others")
            return None
        for position in positions.ravel().tolist():
            if groups[position - 1]:
                problems.append(f"{file}: expected each position once as indoor or outdoor, got {position} again")
                return None
            groups[position - 1] = label
    if not all(groups):
        first = groups.index("") + 1
        problems.append(f"{place}: expected a label for each of {total} test pairs, got none for position {first}")
        return None
    return groups


def _label_file(folder: Path, label: str) -> Path:
    return folder / f"{label}_labels.npy"


DPDD = PairedSet(
    name=_NAME,
    title="DPDD, dual-pixel defocus deblurring, 1680 x 1120 (Abuolaim and Brown, ECCV 2020)",
    source="github.com/Abuolaim/defocus-deblurring-dual-pixel; a second layout by github.com/swz30/Restormer",
    licence="see its authors' page",
    layout="{train,val,test}_{c,l,r}/source and *_c/target, or {train,val,test}/DPDD/{input{C,L,R},target}[_crops]",
    splits=_SPLITS,
    splits_at=_splits_at,
    find=_find,
    counts={"train": 350, "val": 74, "test": 76, "test/indoor": 37, "test/outdoor": 39},
    input_psnr={"test": 23.89},
    note="8 and 16 bits give figures that differ by some hundredths of a dB: say which",
)
