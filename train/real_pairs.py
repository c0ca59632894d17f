"""Real captures with their sharp photos to train on, among simulated ones or alone.

Any set that `evaluation.paired_sets` knows will do, or a folder of such sets; the simplest is `blurred/NAME`
beside `sharp/NAME`. Of a set with a training split that is taken, else all of it. Photos are compared pixel by
pixel: what is not aligned is learnt as blur.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.paired_sets import PairedSet, PairFiles, find_sets
from evaluation.paired_sets.folder import FOLDER_SETS
from evaluation.paired_sets.pairing import pictures
from train.latent_prior_config import LatentPriorConfig
from train.left_out import LeftOut
from train.photo_cache import PhotosInMemory, read_rgb
from train.photo_choice import split_holdout
from train.simulated_captures import open_captures
from train.simulated_pairs import SimulatedPairs

__all__ = ["MixedPairs", "RealPairs", "find_pairs", "open_pairs", "split_pairs"]


def open_pairs(
    config: LatentPriorConfig, run_dir: Path, report: Callable[[str], None], left_out: LeftOut | None = None,
    dry_run: bool = False,
) -> tuple:  # fmt: skip
    """Opens what a latent prior is trained on.

    Args:
        config: Settings of the run.
        run_dir: Its folder, where captures are simulated if the settings name none.
        report: Told what there is, and what is left out from the start.
        left_out: Takes note of photos that cannot be used once they are drawn.
        dry_run: Whether nothing is written.

    Returns:
        Pairs to train on, held-out ones, and how many there are, in words.

    Raises:
        ValueError: If there is nothing to train on, or a pair cannot be used.
    """
    data, side = config.data, config.simulation.side
    files = [] if config.pairs is None else find_pairs(config.pairs, side)
    if not config.simulates:
        training, held_out = (
            RealPairs(part, side, data.cache_gib, left_out) for part in split_pairs(files, data.holdout)
        )
        words = f"{len(training)} training and {len(held_out)} held-out pairs"
        report(words)
        return training, held_out, words
    folder = Path(config.simulation.folder or run_dir / "captures")
    seed, batch = config.run.seed, config.optim.batch
    opened = open_captures(data, config.simulation, seed, batch, folder, report, left_out, dry_run=dry_run)
    training, held_out = (SimulatedPairs(captures) for captures in opened)
    if files:
        training = MixedPairs(training, RealPairs(files, side, data.cache_gib, left_out), config.pairs_share)
        report(f"{len(files)} real pairs")
    return training, held_out, f"{len(opened[0].photos)} training and {len(opened[1].photos)} held-out photos"


def find_pairs(root: str | Path, side: int) -> list[PairFiles]:
    """Finds the pairs of a set, or of a folder of sets.

    Args:
        root: The folder.
        side: Side in pixels of the parts that are to be drawn; no photo may be smaller.

    Raises:
        ValueError: If there is no set, a file is missing or unpaired, or sizes differ; the first such file is named.
    """
    files = [pair for known, place in find_sets(root) for pair in _pairs(known, place)]
    for pair in files:
        _check(pair, side)
    return files


def split_pairs(files: list[PairFiles], count: int) -> tuple[list[PairFiles], list[PairFiles]]:
    """Splits pairs into (training, held out): the latter of `count` sharp photos, spread evenly over the list.

    Raises:
        ValueError: If there are fewer than two sharp photos.
    """
    # Captures of the same scene, which share a sharp photo, stay together.
    sharp = list(dict.fromkeys(pair.reference for pair in files))
    if len(sharp) < 2:
        raise ValueError(f"{sharp[0]}: expected another sharp photo, to hold one of them out, got this one alone")
    held = set(split_holdout(sharp, count)[1])
    return [pair for pair in files if pair.reference not in held], [pair for pair in files if pair.reference in held]


class RealPairs:
    """Pairs of captures and sharp photos, by their number.

    Args:
        files: As of `find_pairs`, with the same side.
        side: Side in pixels of the parts that are drawn.
        gib: Memory for decoded photos, in all.
        left_out: Takes note of photos that cannot be decoded.
    """

    def __init__(self, files: list[PairFiles], side: int, gib: float, left_out: LeftOut | None = None) -> None:
        self.side = side
        self._sharp = PhotosInMemory([pair.reference for pair in files], gib / 2, left_out)
        self._captures = PhotosInMemory([pair.capture for pair in files], gib / 2, left_out)

    def __len__(self) -> int:
        return len(self._captures)

    @property
    def files(self) -> list[Path]:
        """Captures, then sharp photos."""
        return [*self._captures.files, *self._sharp.files]

    def draw(self, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random part of a random pair: sharp photo and capture, uint8 (3, S, S) each."""
        return self._part(int(rng.integers(len(self))), rng)

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A part to look at, always the same, of one pair after the other: as of `draw`."""
        return self._part(number % len(self), np.random.default_rng(number))

    def _part(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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

    @property
    def files(self) -> list[Path]:
        """All photos of both."""
        return [*self.simulated.files, *self.real.files]

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
