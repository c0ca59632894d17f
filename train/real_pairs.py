"""Real captures with their sharp photos to train on, where a user has them.

Any set that `evaluation.paired_sets` knows will do, or a folder of such sets; the simplest is `blurred/NAME`
beside `sharp/NAME`. Of a set with a training split that is taken, else all of it. Photos are compared pixel by
pixel: what is not aligned is learnt as blur.
"""

from pathlib import Path

import numpy as np

from evaluation.paired_sets import PairedSet, PairFiles, find_sets
from evaluation.paired_sets.folder import FOLDER_SETS
from evaluation.paired_sets.pairing import pictures
from train.photo_cache import PhotosInMemory, read_rgb

__all__ = ["MixedPairs", "RealPairs"]


class RealPairs:
    """Pairs of captures and sharp photos, by their number.

    Args:
        root: Folder of a set, or of sets.
        side: Side in pixels of the parts that are drawn; no photo may be smaller.
        gib: Memory for decoded photos, in all.

    Raises:
        ValueError: If there is no set, a file is missing or unpaired, or sizes differ; the first such file is named.
    """

    def __init__(self, root: str | Path, side: int, gib: float) -> None:
        self.side = side
        files = [pair for known, place in find_sets(root) for pair in _pairs(known, place)]
        for pair in files:
            _check(pair, side)
        self._sharp = PhotosInMemory([pair.reference for pair in files], gib / 2)
        self._captures = PhotosInMemory([pair.capture for pair in files], gib / 2)

    def __len__(self) -> int:
        return len(self._captures)

    def draw(self, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random part of a random pair: sharp photo and capture, uint8 (3, S, S) each."""
        number = int(rng.integers(len(self)))
        x, y = self._sharp[number], self._captures[number]
        top, left = (int(rng.integers(length - self.side + 1)) for length in y.shape[:2])
        window = slice(top, top + self.side), slice(left, left + self.side)
        return x[window].transpose(2, 0, 1), y[window].transpose(2, 0, 1)


class MixedPairs:
    """Real pairs among simulated ones.

    Args:
        simulated: Where most come from: `draw(sample, rng)`.
        real: Where the others come from.
        share: Share of the latter.
    """

    def __init__(self, simulated, real: RealPairs, share: float) -> None:  # noqa: ANN001 - anything that draws
        self.simulated, self.real, self.share = simulated, real, share

    def draw(self, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A pair of a training sample, as its source gives it."""
        source = self.real if rng.random() < self.share else self.simulated
        return source.draw(sample, rng)


def _pairs(known: PairedSet, place: Path) -> list[PairFiles]:
    splits = known.splits_at(place)
    pairs = known.pairs(place, "train" if "train" in splits else splits[0])
    if known in FOLDER_SETS:
        # Figures need no sharp photo without a capture; whoever trains has named a file wrongly, or lost one.
        used = {pair.reference for pair in pairs}
        for file in pictures(place / "sharp", below=True):
            if file not in used:
                raise ValueError(f"{file}: expected a capture of the same name in {place / 'blurred'}, got none")
    return pairs


def _check(pair: PairFiles, side: int) -> None:
    if pair.reference is None:
        raise ValueError(f"{pair.capture}: expected a sharp photo of the same name, got a set without any")
    size, sharp = (read_rgb(file).shape[:2] for file in (pair.capture, pair.reference))
    if sharp != size:
        raise ValueError(f"{pair.reference}: expected {_size(size)} pixels as {pair.capture} has, got {_size(sharp)}")
    if min(size) < side:
        raise ValueError(f"{pair.capture}: expected at least {side} x {side} pixels, got {_size(size)}")


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
