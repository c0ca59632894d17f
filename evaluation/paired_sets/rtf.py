"""RTF: 22 refocused light fields of 360 x 360 pixels, as they are passed on; for testing alone.

References:
    D'Andres et al., Non-Parametric Blur Map Regression for Depth of Field Extension, TIP 2016.
"""

from pathlib import Path

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, last_number, pictures, unmatched

__all__ = ["RTF"]

_NAME = "rtf"


def _splits_at(root: Path) -> tuple[str, ...]:
    return ("test",) if (root / "image" / "0").is_dir() and (root / "GT").is_dir() else ()


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    captures = by_key(pictures(root / "image" / "0"), last_number, problems)
    references = by_key(pictures(root / "GT"), last_number, problems)
    unmatched(captures, references, "reference", root / "GT", problems)
    return [
        PairFiles(
            name=file.stem, capture=file, reference=references[number], set_name=_NAME, group=_NAME, scene=file.stem
        )
        for number, file in captures.items()
        if number in references
    ]


RTF = PairedSet(
    name=_NAME,
    title="RTF, 22 light-field captures of 360 x 360 (D'Andres et al., TIP 2016)",
    source="see its authors' page",
    licence="see its authors' page",
    layout="image/0/image_NN.png and GT/sharp_NN.png",
    splits=("test",),
    splits_at=_splits_at,
    find=_find,
    counts={"test": 22},
    note="the authors' own package has other sizes and blur maps beside; this layout is the one passed on since",
)
