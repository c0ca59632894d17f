"""SDD: pairs by one camera in two settings, deliberately not aligned.

References:
    Li et al., Learning Single Image Defocus Deblurring with Misaligned Training Pairs, AAAI 2023 (JDRL).
"""

from pathlib import Path

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import same_names

__all__ = ["SDD"]

_NAME = "sdd"
_FOLDERS = {"train": "train_patches", "test": "test"}


def _splits_at(root: Path) -> tuple[str, ...]:
    return tuple(split for split, folder in _FOLDERS.items() if (root / folder / "blur").is_dir())


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    base = root / _FOLDERS[split]
    return [
        PairFiles(name=name, capture=capture, reference=reference, set_name=_NAME, group=_NAME, scene=name)
        for name, capture, reference in same_names(base / "blur", base / "gt", problems)
    ]


SDD = PairedSet(
    name=_NAME,
    title="SDD, misaligned pairs of 4096 x 2160 (Li et al., JDRL, AAAI 2023)",
    source="github.com/liyucs/JDRL",
    licence="see its authors' page",
    layout="train_patches/{blur,gt}/NAME.png and test/{blur,gt}/NAME.png",
    splits=tuple(_FOLDERS),
    splits_at=_splits_at,
    find=_find,
    counts={"test": 35},
    note="pairs are misaligned on purpose: published figures warp the reference to the result first",
)
