"""Training patches of sharp photos, each a pure function of (seed, sample number).

Sample n is the same whichever process draws it, in whichever batch, with or without a cache, before or after a
resume: its photo, crop, symmetry, noise level and noise come from one generator seeded by (seed, n). Nothing of
the loader therefore needs to be stored in a checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from train.data_config import DataConfig
from train.left_out import LeftOut
from train.patches import draw_patch, training_sample
from train.photo_cache import CachedPhotos, PhotosInMemory, read_rgb
from train.photo_choice import choose_photos, split_holdout
from train.photo_stream import PatchStream, StreamLoader, is_stream

__all__ = ["SharpPatches", "StepSampler", "open_patches", "patch_loader", "read_rgb", "split_holdout"]


class SharpPatches(Dataset):
    """Random patches of photos with their training noise; items are those of `train.patches.training_sample`.

    Args:
        files: Photos.
        config: How to cut patches.
        seed: Seed of everything random.
        batch: Samples of one optimizer step, over all processes.
        held_out: Photos kept from training.
        left_out: Takes note of photos that cannot be used.
    """

    def __init__(
        self, files: list[Path], config: DataConfig, seed: int, batch: int, held_out: list[Path] | None = None,
        left_out: LeftOut | None = None,
    ) -> None:  # fmt: skip
        self.config, self.seed, self.batch = config, seed, batch
        self.held_out = held_out or []
        if config.cache is None:
            self._photos = PhotosInMemory(files, config.cache_gib, left_out)
        else:
            self._photos = CachedPhotos(files, Path(config.cache))

    @property
    def description(self) -> str:
        """How many photos there are."""
        return f"{len(self._photos)} training and {len(self.held_out)} held-out photos"

    @property
    def files(self) -> list[Path]:
        """Training photos."""
        return self._photos.files

    def held_out_files(self) -> list[Path]:
        """Photos kept from training."""
        return self.held_out

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, sample])
        patch = draw_patch(lambda rng: self._photos[int(rng.integers(len(self._photos)))], self.config, rng)
        return training_sample(patch, sample, self.batch, rng)


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


def open_patches(
    config: DataConfig, seed: int, batch: int, *, held_out_dir: Path, report: Callable[[str], None],
    left_out: LeftOut | None = None,
) -> SharpPatches | PatchStream:  # fmt: skip
    """Opens the training data: a folder of photos, or a stream of tar files.

    Args:
        config: Where the photos are and how patches are cut.
        seed: Seed of everything random.
        batch: Samples of one optimizer step, over all processes.
        held_out_dir: Folder for the held-out photos of a stream; those of a folder stay where they are.
        report: Told once what is left out from the start and what is cached.
        left_out: Takes note of photos that cannot be used once they are drawn.

    Raises:
        ValueError: If there are no photos to train on.
    """
    if is_stream(config.root):
        return PatchStream(config, seed, batch, held_out_dir, left_out)
    training, held_out = choose_photos(config, report)
    return SharpPatches(training, config, seed, batch, held_out, left_out)


def patch_loader(
    patches: SharpPatches | PatchStream, *, first_step: int, steps: int, micro_batch: int, rank: int, world: int
) -> Iterable[dict[str, Tensor]]:
    """Batches of one process, `micro_batch` samples each; shared state is not needed between processes."""
    sampler = StepSampler(first_step, steps, patches.batch, rank, world)
    workers = patches.config.workers
    if isinstance(patches, PatchStream):
        return StreamLoader(patches, sampler, micro_batch, workers)
    return DataLoader(
        patches, batch_size=micro_batch, sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
