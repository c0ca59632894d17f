"""LFDOF: light fields refocused at three apertures and up to five distances, one reference for all of a scene.

References:
    Ruan et al., AIFNet: All-in-Focus Image Restoration Network Using a Light Field-Based Dataset.
"""

import re
from pathlib import Path

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, pictures, unmatched

__all__ = ["LFDOF"]

_NAME = "lfdof"
_SPLITS = ("train", "test")


def _splits_at(root: Path) -> tuple[str, ...]:
    return tuple(split for split in _SPLITS if (root / f"{split}_data" / "input").is_dir())


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    base = root / f"{split}_data"
    references = by_key(pictures(base / "ground_truth"), lambda file: file.stem, problems)
    found, scenes = [], {}
    for capture in pictures(base / "input", below=True):
        parts = re.fullmatch(r"(.+)_(ap\d+)_\d+", capture.stem)
        if parts is None:
            problems.append(f"{capture}: expected a name such as IMG_1275_ap1_00, got {capture.stem}")
            continue
        scene, aperture = parts.groups()
        scenes.setdefault(scene, capture)
        if scene in references:
            found.append(
                PairFiles(
                    name=capture.stem, capture=capture, reference=references[scene], set_name=_NAME, group=aperture,
                    scene=scene,
                )
            )  # fmt: skip
    unmatched(scenes, references, "reference", base / "ground_truth", problems)
    return found


LFDOF = PairedSet(
    name=_NAME,
    title="LFDOF, refocused light fields of 1008 x 688 (Ruan et al., AIFNet)",
    source="see its authors' page",
    licence="see its authors' page",
    layout="{train,test}_data/input/IMG_N/IMG_N_apA_FF.png and {train,test}_data/ground_truth/IMG_N.png",
    splits=_SPLITS,
    splits_at=_splits_at,
    find=_find,
    counts={
        "train": 11261, "train/ap1": 3676, "train/ap2": 3757, "train/ap3": 3828,
        "test": 725, "test/ap1": 238, "test/ap2": 242, "test/ap3": 245,
    },
    input_psnr={"test": 25.87},
    note="not every focus of a scene is there; captures of one scene are not independent",
)  # fmt: skip
