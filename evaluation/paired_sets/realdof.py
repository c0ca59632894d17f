"""RealDOF: 50 scenes by two cameras behind a beam splitter; for testing alone.

References:
    Lee et al., Iterative Filter Adaptive Network for Single Image Defocus Deblurring, CVPR 2021.
"""

from pathlib import Path

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import same_names

__all__ = ["REALDOF"]

_NAME = "realdof"


def _splits_at(root: Path) -> tuple[str, ...]:
    return ("test",) if all((root / part).is_dir() for part in ("source", "target")) else ()


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    return [
        PairFiles(name=name, capture=capture, reference=reference, set_name=_NAME, group=_NAME, scene=name)
        for name, capture, reference in same_names(root / "source", root / "target", problems)
    ]


REALDOF = PairedSet(
    name=_NAME,
    title="RealDOF, 50 real scenes (Lee et al., CVPR 2021)",
    source="github.com/codeslake/IFAN",
    licence="see its authors' page",
    layout="source/NN.png and target/NN.png",
    splits=("test",),
    splits_at=_splits_at,
    find=_find,
    counts={"test": 50},
    input_psnr={"test": 22.33},
    note="some pairs stay misaligned by 1 to 3 pixels: LPIPS tells more than PSNR; the plain protocol aligns nothing",
)
