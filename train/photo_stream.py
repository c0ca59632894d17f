"""Training patches of photos in tar files that are read as a stream, for sets that do not fit one disk.

The files follow WebDataset's conventions and are opened by that library (the extra `stream`): local paths or URLs,
several by braces. Only photos are taken from them, and only decoded as photos; whatever else a tar file
holds, pickled data among it, is passed over unread.

Samples come from `data.lanes` lanes in turn: sample n is number n // lanes of lane n % lanes. A lane reads one tar
file after another; which, and from which photo on, follows from the seed and the lane's count alone, as every file
is left after `data.photos_per_shard` photos. Sample n is therefore a function of the settings and n, for any
number of processes and workers; and a run resumes exactly, by reading over at most one file per lane. Changing
`optim.batch` changes noise levels only; changing `data.lanes`, `patches_per_photo` or `photos_per_shard` in the
middle of a run changes what follows.
"""

import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate, get_worker_info

from photos import PHOTO_SUFFIXES, PhotoError
from photos.files import replacing
from train.data_config import DataConfig
from train.duplicates import copies_among, fingerprint
from train.left_out import LeftOut
from train.patch_quality import accepted
from train.patches import cut_patch, draw_patch, training_sample
from train.photo_cache import decode_rgb
from train.photo_choice import excluded_prints

__all__ = ["PatchStream", "StreamLoader", "is_stream"]

_TRIES = 8
_UNUSABLE = 1000  # members in a row, after which a tar file is given up


def is_stream(root: str) -> bool:
    """Whether `data.root` names tar files rather than a folder."""
    return ".tar" in root and not Path(root).is_dir()


class PatchStream:
    """Random patches of the photos in tar files, in an order that the seed decides.

    The first `data.holdout` photos of the first file are kept from training.

    Args:
        config: Tar files, how to cut patches, and the stream's lanes.
        seed: Seed of everything random.
        batch: Samples of one optimizer step, over all processes.
        held_out_dir: Folder for the held-out photos.
        left_out: Takes note of photos that cannot be used.

    Raises:
        ValueError: If the library is not installed, or the settings do not fit a stream.

    Attributes:
        files: Tar files that are on a disk.
    """

    def __init__(
        self, config: DataConfig, seed: int, batch: int, held_out_dir: Path, left_out: LeftOut | None = None
    ) -> None:
        try:
            from webdataset.shardlists import expand_urls
        except ImportError as error:
            raise ValueError(
                f"data.root={config.root} names tar files, which need the package webdataset: "
                "pip install 'scorefocus[stream]'"
            ) from error
        if config.cache is not None:
            raise ValueError(f"data.cache must be null for tar files, got {config.cache}: it holds photos of a folder")
        self.config, self.seed, self.batch, self.held_out_dir = config, seed, batch, held_out_dir
        try:
            self.shards = sorted(expand_urls(config.root))
        except ValueError as error:
            raise ValueError(f"data.root={config.root}: expected names of tar files, got {error}") from None
        self.files = [Path(shard) for shard in self.shards if Path(shard).is_file()]
        self.excluded = excluded_prints(config.exclude)[0]
        self._left_out = left_out or LeftOut()

    @property
    def description(self) -> str:
        """How many tar files there are."""
        return f"{len(self.shards)} tar files of training photos"

    def held_out_files(self) -> list[Path]:
        """Photos kept from training, copied to `held_out_dir`.

        Raises:
            ValueError: If the first tar file does not begin with photos.
        """
        self.held_out_dir.mkdir(parents=True, exist_ok=True)
        files = []
        for index, (name, data) in enumerate(islice(_members(self.shards[0]), self.config.holdout)):
            if self._decoded(name, data) is not None:
                files.append(self.held_out_dir / f"{index:04d}{Path(name).suffix.lower()}")
                with replacing(files[-1]) as temporary:
                    temporary.write_bytes(data)
        if not files:
            raise ValueError(f"{self.shards[0]}: expected photos to hold out at its beginning, got none")
        return files

    def lane(self, lane: int, place: int) -> Iterator[np.ndarray]:
        """The patches of a lane from a place on, without end; 8-bit values, shape (P, P, 3) each."""
        block, skipped = divmod(place, self.config.photos_per_shard * self.config.patches_per_photo)
        while True:
            yield from self._block(lane + block * self.config.lanes, skipped)
            block, skipped = block + 1, 0

    def _block(self, number: int, skipped: int) -> Iterator[np.ndarray]:
        """The patches that are cut at one opening of a tar file; openings are numbered over all lanes."""
        config = self.config
        epoch, place = divmod(number, len(self.shards))
        shard = self.shards[int(np.random.default_rng([self.seed, epoch]).permutation(len(self.shards))[place])]
        first, skipped = divmod(skipped, config.patches_per_photo)
        members = enumerate(self._members_from(shard, epoch * config.photos_per_shard))
        photo, at = None, -1
        for ordinal in range(first, config.photos_per_shard):
            # What cannot be used is replaced by the next photo that can; nothing before is decoded.
            while photo is None or at < ordinal:
                at, (name, data) = next(members)
                photo = self._usable(name, data) if at >= ordinal else None
                if at > ordinal + _UNUSABLE:
                    raise ValueError(f"{shard}: expected photos to train on, got none among {_UNUSABLE} in a row")
            for patch in range(skipped if ordinal == first else 0, config.patches_per_photo):
                rng = np.random.default_rng([self.seed, number, ordinal, patch])
                yield draw_patch(lambda _, photo=photo: photo, config, rng)

    def _members_from(self, shard: str, start: int) -> Iterator[tuple[str, bytes]]:
        """Photos of a tar file from the start-th on, undecoded, round and round; the count goes round too."""
        held = self.config.holdout if shard == self.shards[0] else 0
        count = 0
        for member in islice(_members(shard), held, None):
            if count >= start:
                yield member
            count += 1
        if count == 0:
            raise ValueError(f"{shard}: expected photos{' besides those held out' if held else ''}, got none")
        start = start % count if start >= count else 0
        while True:
            yield from islice(_members(shard), held + start, None)
            start = 0

    def _usable(self, name: str, data: bytes) -> np.ndarray | None:
        """The photo if it is whole, large enough, no copy of a test photo, and not out of focus throughout."""
        photo = self._decoded(name, data)
        if photo is None:
            return None
        if min(photo.shape[:2]) < self.config.patch:
            return self._left_out.add(f"{name}: {photo.shape[1]} x {photo.shape[0]}, smaller than a patch")
        if copies_among([fingerprint(photo)], self.excluded) != [None]:
            return self._left_out.add(f"{name}: a copy of a photo of data.exclude")
        rng = np.random.default_rng(zlib.crc32(data))
        thresholds = self.config.min_contrast, self.config.max_smoothness
        shown = any(accepted(cut_patch(photo, self.config, rng), *thresholds) for _ in range(_TRIES))
        return photo if shown or rng.random() < self.config.keep_rejected else None

    def _decoded(self, name: str, data: bytes) -> np.ndarray | None:
        try:
            return decode_rgb(Path(name), data)
        except PhotoError as error:
            return self._left_out.add(str(error))


class StreamLoader:
    """Batches of one process from a stream, as many as the sampler's numbers fill.

    Args:
        patches: The stream.
        sampler: Sample numbers of this process.
        micro_batch: Samples of a batch.
        workers: Processes that prepare patches; 0 prepares them in this one.

    Raises:
        ValueError: If the lanes cannot be shared equally by all processes and their workers.
    """

    def __init__(self, patches: PatchStream, sampler: Sampler, micro_batch: int, workers: int) -> None:
        lanes, world = patches.config.lanes, sampler.world
        if lanes % (world * max(workers, 1)):
            raise ValueError(
                f"data.lanes={lanes} must be divisible by processes x data.workers = {world} x {max(workers, 1)}"
            )
        self._micro_batch, self._length = micro_batch, len(sampler) // micro_batch
        # Single samples, which come from the workers in turn: each of them reads lanes of its own.
        self._samples = DataLoader(
            _LaneSamples(patches, sampler), batch_size=None, num_workers=workers,
            prefetch_factor=max(2, micro_batch // workers) if workers else None,
        )  # fmt: skip

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        samples = iter(self._samples)
        for _ in range(self._length):
            yield default_collate(list(islice(samples, self._micro_batch)))


class _LaneSamples(IterableDataset):
    def __init__(self, patches: PatchStream, sampler: Sampler) -> None:
        self.patches, self.sampler = patches, sampler

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        info = get_worker_info()
        first, of = (info.id, info.num_workers) if info else (0, 1)
        patches, lanes = self.patches, {}
        for number in islice(self.sampler, first, None, of):
            place, lane = divmod(number, patches.config.lanes)
            if lane not in lanes:
                lanes[lane] = patches.lane(lane, place)
            rng = np.random.default_rng([patches.seed, number])
            yield training_sample(next(lanes[lane]), number, patches.batch, rng)


def _members(shard: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the photos in a tar file, in its order."""
    from webdataset.gopen import gopen
    from webdataset.tariterators import tar_file_iterator

    try:
        with gopen(shard) as stream:
            for member in tar_file_iterator(stream, select_files=_is_photo):
                yield member["fname"], member["data"]
    except PhotoError:
        raise
    except Exception as error:
        # Pipes, sockets and tar files fail in many ways, with any exception.
        raise ValueError(f"{shard}: expected a tar file of photos, got an error: {error}") from error


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in PHOTO_SUFFIXES and not Path(name).name.startswith(".")
