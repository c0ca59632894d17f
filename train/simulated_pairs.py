"""Sharp photos and simulated captures of them to train on, each pair a pure function of (seed, number).

Captures are those of `train.simulated_captures`, in the same folders: one that was filled for a defocus map
network serves here too. Their sharp photos, stored by the same cameras, are kept beside them as `sharp_N.bin`,
8-bit (3, S, S), drawn again where they are missing.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from train.patches import noise_quantile
from train.simulated_captures import SimulatedCaptures, turned

__all__ = ["CropConfig", "NoisyParts", "PairedParts", "SimulatedPairs", "whole_pairs"]


@dataclass
class CropConfig:
    """Smaller crops at the beginning of a run, as Swin-Diff's relatives are trained.

    Attributes:
        first: Sides of these crops in pixels, each for an equal part of the time.
        until: Share of the run after which crops have the side `data.patch`.
    """

    first: list[int] = field(default_factory=list)
    until: float = 0.8

    def __post_init__(self) -> None:
        if self.first and min(self.first) < 16:
            raise ValueError(f"crops.first must be sides of at least 16, got {self.first}")
        if not 0 <= self.until <= 1:
            raise ValueError(f"crops.until must be in [0, 1], got {self.until}")

    def side(self, progress: float, last: int) -> int:
        """Side of the crops at a share of the run in [0, 1); `last` is that of the end."""
        if not self.first or progress >= self.until:
            return last
        return self.first[int(len(self.first) * progress / self.until)]


class SimulatedPairs:
    """Whole pairs by their number.

    Args:
        captures: Where captures come from and are kept.
    """

    def __init__(self, captures: SimulatedCaptures) -> None:
        self.captures = captures

    def __len__(self) -> int:
        return self.captures.simulation.captures

    @property
    def files(self) -> list[Path]:
        """The sharp photos."""
        return self.captures.photos.files

    def draw(self, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The pair of a training sample, see `SimulatedCaptures.drawn`."""
        return self.pair(self.captures.drawn(sample, rng))

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Sharp photo and capture, uint8 (3, S, S) each."""
        return self.captures.sharp(number), self.captures.capture(number)[0]


class PairedParts(Dataset):
    """Random parts of pairs, turned and mirrored at random.

    Item n holds `x` and `y` in [-1, 1], (3, P, P); `keep`, 1 where the prior is to be kept and 0 where it is to be
    left out, (1,); and `noise`, standard normal for the prior to start from, (N, D). All items of an optimizer step
    have the same P.

    Args:
        pairs: Where pairs come from: `draw(sample, rng)`.
        config: Of the data: the side of the last crops, and workers.
        crops: Sides of the crops before.
        steps: Optimizer steps of the run.
        batch: Samples of one optimizer step, over all processes.
        prior_shape: N and D.
        dropout: Share of samples whose prior is left out.
        seed: Seed of everything random.
    """

    def __init__(
        self, pairs, config, crops: CropConfig, *, steps: int, batch: int, prior_shape: tuple[int, int],  # noqa: ANN001
        dropout: float, seed: int,
    ) -> None:  # fmt: skip
        self.pairs, self.config, self.crops = pairs, config, crops
        self.steps, self.batch, self.prior_shape, self.dropout, self.seed = steps, batch, prior_shape, dropout, seed

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, 2, sample])
        x, y = self.pairs.draw(sample, rng)
        side = self.crops.side(sample // self.batch / self.steps, self.config.patch)
        top, left = (int(rng.integers(length - side + 1)) for length in y.shape[1:])
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        window = slice(top, top + side), slice(left, left + side)
        x, y = (turned(values[:, *window], turns, flip) for values in (x, y))
        return {
            "x": _tensor(x), "y": _tensor(y),
            "keep": torch.tensor([float(rng.random() >= self.dropout)]),
            "noise": torch.from_numpy(rng.standard_normal(self.prior_shape, dtype=np.float32)),
        }  # fmt: skip


class NoisyParts(Dataset):
    """Parts of pairs with the noise of a diffusion.

    Item n holds `x` and `y` as of `PairedParts`, the values of x spread over the interval that an 8-bit code is;
    `noise`, standard normal, (3, P, P); `quantile` of its level, as of `train.patches.training_sample`; and
    `prior_noise`, standard normal for the prior to start from, (N, D).

    Args:
        parts: The parts.
    """

    def __init__(self, parts: PairedParts) -> None:
        self.parts, self.config, self.batch = parts, parts.config, parts.batch

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.parts.seed, 3, sample])
        item = self.parts[sample]
        shape = tuple(item["x"].shape)
        spread = (rng.random(shape, dtype=np.float32) - np.float32(0.5)) / np.float32(127.5)
        return {
            "x": item["x"] + torch.from_numpy(spread), "y": item["y"], "prior_noise": item["noise"],
            "noise": torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)),
            "quantile": noise_quantile(sample, self.batch, rng),
        }  # fmt: skip


def whole_pairs(pairs: SimulatedPairs, count: int) -> tuple[Tensor, Tensor]:
    """The first pairs: sharp photos and captures in [-1, 1], (count, 3, S, S) each."""
    both = [pairs.pair(number) for number in range(count)]
    x, y = (torch.stack([_tensor(pair[part]) for pair in both]) for part in (0, 1))
    return x, y


def _tensor(values: np.ndarray) -> Tensor:
    """8-bit values -> [-1, 1]."""
    return torch.from_numpy(values.astype(np.float32) / np.float32(127.5) - np.float32(1))
