"""DED: Lytro captures with all-in-focus references and defocus maps.

The released loader draws its split at random. Here a pair belongs to the test split if its number is a multiple of 12,
whichever others are there, so that the split is the same everywhere, but not that of published figures.

References:
    Defocus Image Deblurring Network With Defocus Map Estimation as Auxiliary Task, TIP 2021 (DID-ANet).
"""

from pathlib import Path

from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, last_number, pictures, unmatched

__all__ = ["DED"]

_NAME = "ded"
_TEST_EVERY = 12


def _splits_at(root: Path) -> tuple[str, ...]:
    return ("train", "test") if (root / "image").is_dir() and (root / "sharp").is_dir() else ()


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    captures = by_key(pictures(root / "image"), last_number, problems)
    references = by_key(pictures(root / "sharp"), last_number, problems)
    unmatched(captures, references, "reference", root / "sharp", problems)
    maps = by_key(pictures(root / "filtered"), last_number, problems)
    if (root / "filtered").is_dir():
        unmatched(captures, maps, "defocus map", root / "filtered", problems)
    return [
        PairFiles(
            name=file.stem, capture=file, reference=references[number], set_name=_NAME, group=_NAME, scene=file.stem,
            defocus_map=maps.get(number),
        )
        for number, file in captures.items()
        if number in references and (int(number) % _TEST_EVERY == 0) == (split == "test")
    ]  # fmt: skip


DED = PairedSet(
    name=_NAME,
    title="DED, Lytro pairs with defocus maps (DID-ANet, TIP 2021)",
    source="see its authors' page",
    licence="see its authors' page",
    layout="image/image_N.jpg, sharp/PREFIX_N.jpg and filtered/defocus_filterd_N.png",
    splits=("train", "test"),
    splits_at=_splits_at,
    find=_find,
    note="the released split is random; here numbers divisible by 12 are the test split; maps are code / 256 / 255",
)
