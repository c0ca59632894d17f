"""Settings of the training data: where the sharp photos are, and which patches of them are used."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from train.changes import changeable

__all__ = ["DataConfig"]


def _require(condition: bool, key: str, expectation: str, value: object) -> None:
    if not condition:
        raise ValueError(f"data.{key} must be {expectation}, got {value}")


@dataclass
class DataConfig:
    """Where the sharp photos are and how patches are cut from them.

    Attributes:
        root: Folder of photos, searched recursively; or tar files in WebDataset's notation, such as
            `shards/{000000..000123}.tar` or the same as URLs, read as a stream.
        patch: Side of a training patch in pixels; smaller photos are left out.
        min_scale: Photos are shrunk by a random factor between this and 1 (shrinking also sharpens).
        full_size: Fraction of patches that are not shrunk.
        min_contrast: Patches of less contrast are rejected as flat, in 8-bit codes; 0 rejects none. See
            `train.patch_quality` for both measures.
        max_smoothness: Patches that are smoother are rejected as out of focus; about 1 for sharp edges and textures,
            3 for a defocus of 2 px; null rejects none.
        keep_rejected: Fraction of rejected patches that are used all the same: skies are flat, and sharp.
        holdout: Number of photos, spread over the sorted list, kept from training for the panels.
        exclude: Folders of test photos; their copies among the training photos are left out.
        cache: Folder for decoded photos, which all processes and later runs share; null keeps them in memory.
        cache_gib: Without `cache`: memory for decoded photos, per process; the others are decoded at each use.
        workers: Processes that prepare patches, per training process; 0 prepares them in the training process.
        patches_per_photo: Of a stream: patches cut from a photo each time it passes.
        photos_per_shard: Of a stream: photos taken from a tar file before the next one is opened; of a larger file the
            next photos follow in the next epoch, a smaller one is read again.
        lanes: Of a stream: tar files read at the same time, over all processes; samples come from them in turn.
    """

    root: str = MISSING
    patch: int = 64
    min_scale: float = 0.5
    full_size: float = 0.5
    min_contrast: float = 1.5
    max_smoothness: float | None = 2.4
    keep_rejected: float = 0.1
    holdout: int = 8
    exclude: list[str] = field(default_factory=list)
    cache: str | None = changeable(None)
    cache_gib: float = changeable(4.0)
    workers: int = changeable(0)
    patches_per_photo: int = 4
    photos_per_shard: int = 1000
    lanes: int = 16

    def __post_init__(self) -> None:
        _require(self.patch >= 16 and self.patch % 8 == 0, "patch", "a multiple of 8, at least 16", self.patch)
        _require(0 < self.min_scale <= 1, "min_scale", "in (0, 1]", self.min_scale)
        _require(0 <= self.full_size <= 1, "full_size", "in [0, 1]", self.full_size)
        _require(self.min_contrast >= 0, "min_contrast", "non-negative", self.min_contrast)
        smoothness = self.max_smoothness
        _require(smoothness is None or smoothness > 1, "max_smoothness", "null or above 1", smoothness)
        _require(0 <= self.keep_rejected <= 1, "keep_rejected", "in [0, 1]", self.keep_rejected)
        _require(self.cache_gib >= 0, "cache_gib", "non-negative", self.cache_gib)
        for key in ("holdout", "patches_per_photo", "photos_per_shard", "lanes"):
            _require(getattr(self, key) >= 1, key, "at least 1", getattr(self, key))
        _require(self.workers >= 0, "workers", "non-negative", self.workers)
