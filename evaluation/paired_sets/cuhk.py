"""CUHK blur detection: photographs with defocus and hand-made masks, without references.

References:
    Shi, Xu, Jia, Discriminative Blur Detection Features, CVPR 2014.
"""

from pathlib import Path

from evaluation.captures import Capture
from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, pictures, unmatched
from evaluation.paired_sets.reading import read_capture

__all__ = ["CUHK"]

_NAME = "cuhk"
_PREFIX = "out_of_focus"
_MASKS = "gt"


def _splits_at(root: Path) -> tuple[str, ...]:
    places = [root, *(folder for folder in root.iterdir() if folder.is_dir())] if root.is_dir() else []
    there = any(file.stem.startswith(_PREFIX) for place in places for file in pictures(place))
    return ("test",) if there else ()


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    # The set's other half is motion blur, motion0001.jpg and so on.
    files = [file for file in pictures(root, below=True) if file.stem.startswith(_PREFIX)]
    captures = by_key((file for file in files if file.parent.name != _MASKS), lambda file: file.stem, problems)
    masks = by_key((file for file in files if file.parent.name == _MASKS), lambda file: file.stem, problems)
    if masks:
        unmatched(captures, masks, "mask", next(iter(masks.values())).parent, problems)
    return [
        PairFiles(
            name=name, capture=file, reference=None, set_name=_NAME, group=_NAME, scene=name, mask=masks.get(name)
        )
        for name, file in captures.items()
    ]


def _read(files: PairFiles) -> Capture:
    """Reads the photograph; its mask says what is out of focus, not what is measured, and stays a file."""
    capture = read_capture(files)
    return Capture(capture.set_name, capture.group, capture.name, capture.y, None, bits=capture.bits)


CUHK = PairedSet(
    name=_NAME,
    title="CUHK blur detection, its photographs with defocus (Shi et al., CVPR 2014)",
    source="see its authors' page",
    licence="see its authors' page",
    layout="out_of_focusNNNN.jpg (or .JPG), and masks of the same name in a folder gt",
    splits=("test",),
    splits_at=_splits_at,
    find=_find,
    read=_read,
    counts={"test": 704},
    note="no references: figures without reference and blur masks alone",
)
