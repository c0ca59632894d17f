"""Training patches of sharp photos, each a pure function of (seed, sample number).

Sample n is the same whichever process draws it, in whichever batch, before or after a resume: its
photo, crop, symmetry, noise level and noise come from one generator seeded by (seed, n). Nothing of
the loader therefore needs to be stored in a checkpoint.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from photos import read
from train.config import DataConfig

__all__ = ["SharpPatches", "StepSampler", "patch_loader", "read_rgb", "split_holdout"]


def read_rgb(file: Path) -> np.ndarray:
    """Reads a photo, upright, rounded to 8 bit: shape (H, W, 3), uint8.

    Raises:
        PhotoError: If the file is not a whole photo.
    """
    return np.rint(read(file).pixels * 255).astype(np.uint8)


def split_holdout(files: list[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Splits photos into (training, held out); the latter are spread evenly over the list."""
    if len(files) < 2:
        raise ValueError(f"expected at least 2 photos, got {len(files)}")
    count = min(count, len(files) // 2)
    held = {round((index + 0.5) * len(files) / count) for index in range(count)}
    held = {min(index, len(files) - 1) for index in held}
    return [f for i, f in enumerate(files) if i not in held], [f for i, f in enumerate(files) if i in held]


class SharpPatches(Dataset):
    """Random patches of photos with their training noise.

    Item n is a dictionary of `x`: photo patch in [-1, 1], shape (3, P, P); `noise`: standard normal,
    shape (3, P, P); `quantile`: the noise level's quantile in (0, 1), shape (). The quantiles of the
    B samples of one optimizer step are stratified: one in each interval of length 1/B.

    Args:
        files: Photos.
        config: How to cut patches.
        seed: Seed of everything random.
        batch: Samples of one optimizer step, over all processes.
    """

    def __init__(self, files: list[Path], config: DataConfig, seed: int, batch: int) -> None:
        self.files = files
        self.config = config
        self.seed = seed
        self.batch = batch
        self._photos: dict[int, np.ndarray] = {}
        self._budget = config.cache_gib * 2**30

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, sample])
        x = self._patch(rng)
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        quantile = (sample % self.batch + rng.uniform(1e-6, 1 - 1e-6)) / self.batch
        return {"x": x, "noise": noise, "quantile": torch.tensor(quantile, dtype=torch.float32)}

    def _patch(self, rng: np.random.Generator) -> Tensor:
        photo = self._photo(int(rng.integers(len(self.files))))
        height, width = photo.shape[:2]
        side = self.config.patch
        scale = 1.0 if rng.random() < self.config.full_size else rng.uniform(self.config.min_scale, 1.0)
        # The window to cut, no larger than the photo; small photos are enlarged by the resize below.
        window = min(round(side / scale), height, width)
        top, left = int(rng.integers(height - window + 1)), int(rng.integers(width - window + 1))
        crop = photo[top : top + window, left : left + window]
        if window != side:
            crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        crop = np.rot90(crop[:, ::-1] if flip else crop, turns)
        # 8-bit values are intervals, not points: spread them so that the density has no atoms.
        values = (crop + rng.uniform(-0.5, 0.5, crop.shape)) / 127.5 - 1
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))

    def _photo(self, index: int) -> np.ndarray:
        if index in self._photos:
            return self._photos[index]
        photo = read_rgb(self.files[index])
        if photo.nbytes <= self._budget:
            self._budget -= photo.nbytes
            self._photos[index] = photo
        return photo


class StepSampler(Sampler):
    """Sample numbers of one process, from a given optimizer step to the end of the run.

    Samples step * batch ... (step + 1) * batch - 1 make one optimizer step; they are dealt to the
    processes in turn, so that every process sees all noise levels.
    """

    def __init__(self, first_step: int, steps: int, batch: int, rank: int, world: int) -> None:
        self.first_step, self.steps, self.batch, self.rank, self.world = first_step, steps, batch, rank, world

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first_step * self.batch + self.rank, self.steps * self.batch, self.world))

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.batch // self.world


def patch_loader(
    patches: SharpPatches, *, first_step: int, steps: int, micro_batch: int, rank: int, world: int
) -> DataLoader:
    """Batches of one process, `micro_batch` samples each; shared state is not needed between processes."""
    sampler = StepSampler(first_step, steps, patches.batch, rank, world)
    workers = patches.config.workers
    return DataLoader(
        patches, batch_size=micro_batch, sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
