"""RealBlur-J and RealBlur-R: pairs of camera shake, not of defocus, from JPEG and from raw files.

The original names its folders at length, with a literal "itensity", and keeps train and test apart by text lists alone.

References:
    Rim et al., Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms, ECCV 2020.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, last_number, natural, pictures, same_names, unmatched

__all__ = ["REALBLUR"]

_NAME = "realblur"
_ORIGINAL = {
    "RealBlur-J": "RealBlur-J_ECC_IMCORR_centroid_itensity_ref",
    "RealBlur-R": "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref",
}
_LISTED = ("train", "test")


def _flattened(root: Path, split: str) -> Iterator[tuple[str, Path]]:
    """Groups and their folders in the flattened layout."""
    for group in _ORIGINAL:
        for base in (root, root / "RealBlur"):
            folder = base / split / group.replace("-", "_")
            if (folder / "input").is_dir():
                yield group, folder


def _list_file(root: Path, group: str, split: str) -> Path:
    return root / f"{group.replace('-', '_')}_{split}_list.txt"


def _originals(root: Path) -> dict[str, Path]:
    return {group: root / folder for group, folder in _ORIGINAL.items() if (root / folder).is_dir()}


def _splits_at(root: Path) -> tuple[str, ...]:
    groups = _originals(root)
    listed = [split for split in _LISTED if any(_list_file(root, group, split).is_file() for group in groups)]
    flat = [split for split in _LISTED if any(_flattened(root, split))]
    return tuple(dict.fromkeys([*listed, *flat, *(["all"] if groups else [])]))


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    found = []
    for group, folder in _originals(root).items():
        if split == "all":
            found += _scenes(folder, group, problems)
        elif (listing := _list_file(root, group, split)).is_file():
            found += _listed(listing, root, folder, group, problems)
        else:
            problems.append(f"{listing}: expected the list of the split {split}, got no such file")
    if not found and split != "all":
        for group, folder in _flattened(root, split):
            found += [
                _pair(name, capture, reference, group, name)
                for name, capture, reference in same_names(folder / "input", folder / "target", problems)
            ]
    return found


def _pair(name: str, capture: Path, reference: Path, group: str, scene: str) -> PairFiles:
    return PairFiles(name=name, capture=capture, reference=reference, set_name=_NAME, group=group, scene=scene)


def _scenes(folder: Path, group: str, problems: list[str]) -> list[PairFiles]:
    """All pairs of a group, scene by scene."""
    found = []
    for scene in sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: natural(path.name)):
        captures = by_key(pictures(scene / "blur"), last_number, problems)
        references = by_key(pictures(scene / "gt"), last_number, problems)
        unmatched(captures, references, "reference", scene / "gt", problems)
        found += [
            _pair(f"{scene.name}/{file.stem}", file, references[number], group, scene.name)
            for number, file in captures.items()
            if number in references
        ]
    return found


def _listed(listing: Path, root: Path, folder: Path, group: str, problems: list[str]) -> list[PairFiles]:
    """The pairs that a text list names; its columns are told apart by their folders, blur and gt."""
    found = []
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        named = {Path(column).parent.name: Path(column) for column in re.split(r"[\s,]+", line.strip()) if column}
        if not named:
            continue
        if "blur" not in named or "gt" not in named:
            problems.append(f"{listing}, line {number}: expected paths in blur/ and gt/, got {line}")
            continue
        # Paths begin with the long name of the folder or inside it.
        capture, reference = (
            next((base / named[part] for base in (root, folder) if (base / named[part]).is_file()), root / named[part])
            for part in ("blur", "gt")
        )
        missing = [file for file in (capture, reference) if not file.is_file()]
        problems.extend(f"{file}: expected a picture that {listing} names, got no such file" for file in missing)
        if not missing:
            scene = capture.parent.parent.name
            found.append(_pair(f"{scene}/{capture.stem}", capture, reference, group, scene))
    return found


REALBLUR = PairedSet(
    name=_NAME,
    title="RealBlur-J and RealBlur-R, camera shake (Rim et al., ECCV 2020)",
    source="see its authors' page",
    licence="see its authors' page",
    layout=(
        f"{_ORIGINAL['RealBlur-J']}/sceneNNN/{{blur/blur_N,gt/gt_N}}.png "
        "with RealBlur_{J,R}_{train,test}_list.txt, or {train,test}/RealBlur_{J,R}/{input,target}/NAME.png"
    ),
    splits=("train", "test", "all"),
    splits_at=_splits_at,
    find=_find,
    counts={f"{split}/{group}": n for split, n in (("train", 3758), ("test", 980)) for group in _ORIGINAL},
    note="motion blur, no defocus; published figures scale and align each result before they measure it",
)
