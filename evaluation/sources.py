"""The captures that a benchmark measures, listed before any of them is read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.captures import Capture
from evaluation.paired_sets import list_captures
from evaluation.settings import DataConfig
from evaluation.simulated import CROP, NOISE_STD, RADIUS_MAPS, simulations

__all__ = ["Source", "protocol", "sources"]

_SMOKE_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


@dataclass(frozen=True)
class Source:
    """A capture that can be loaded; set, group and name are those of `Capture`.

    Attributes:
        scene: What captures of one set share that are not independent: their sharp photo, or the scene.
        files: All that it is loaded from.
        index: Place of its photo in the sorted folder, which seeds the noise; None where none is added.
    """

    set_name: str
    group: str
    name: str
    scene: str
    load: Callable[[], Capture]
    files: tuple[Path, ...]
    index: int | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        """Set, group and name."""
        return self.set_name, self.group, self.name


def sources(data: DataConfig, scratch: Path) -> list[Source]:
    """Lists the captures that the settings name.

    Args:
        data: What to measure.
        scratch: Folder into which photos of scikit-image are written, should they be asked for.

    Raises:
        ValueError: If there is nothing to measure, or a set is not whole.
    """
    if data.protocol == "simulated":
        root = _scikit_image_photos(scratch) if data.root == "scikit-image" else data.root
        return [
            Source(item.set_name, item.map_name, item.name, item.name, item.capture, (item.file,), item.index)
            for item in simulations(root, data.count, data.stride)
        ]
    listed = list_captures(data.root, sets=data.sets, split=data.split, count=data.count)
    return [
        Source(files.set_name, files.group, files.name, files.scene, partial(known.capture, files), files.measured)
        for known, files in listed
    ]


def protocol(data: DataConfig, seed: int) -> dict[str, object]:
    """What was measured, in words and numbers."""
    scoring = (
        "Restored pictures are rounded to the bit depth of their set, 8 unless stated. PSNR over all pixels and "
        "channels of [0, 1] values as stored; SSIM (Gaussian 11): window of std 1.5, K1 0.01, K2 0.03, population "
        "covariance; SSIM (uniform 7): 7 x 7 window, sample covariance; both as means over channels; LPIPS on RGB in "
        "[-1, 1], version 0.1. Aligned figures are marked as such."
    )
    which = f"the first {data.count}" if data.count else "all"
    if data.stride > 1:
        which += f" of every {data.stride}th"
    if data.protocol == "simulated":
        description = (
            f"Simulated defocus of sharp photos, {which} by name: {CROP} x {CROP} centre crops, "
            "each pixel blurred by a disk of its own radius, 16x supersampled, sRGB values as stored; noise std "
            f"{NOISE_STD}, 8 bits. Radius maps: {', '.join(RADIUS_MAPS)} (see evaluation/simulated.py)."
        )
        numbers = {"crop": CROP, "noise_std": NOISE_STD, "radius_maps": list(RADIUS_MAPS)}
    else:
        description = (
            f"Real captures with references, {which} by name in each set, split {data.split}, whole pictures, blind. "
            "Where a set has a mask: PSNR and MAE inside it, SSIM and LPIPS with the reference outside it in both "
            "pictures; masks under 5 % do not count. Treatment of each set: evaluation/paired_sets/."
        )
        numbers = {"smallest_mask": 0.05}
    return {"name": data.protocol, "description": f"{description} {scoring}", "seed": seed, **numbers}


def _scikit_image_photos(folder: Path) -> Path:
    """Writes CC0 and public-domain photos that come with scikit-image: nothing is downloaded."""
    try:
        from skimage import data
    except ImportError:
        raise ValueError("data.root=scikit-image needs that package: pip install 'scorefocus[peers]'") from None
    from PIL import Image

    from photos.files import make_folder, replacing

    make_folder(folder)
    for name in _SMOKE_PHOTOS:
        file = folder / f"{name}.png"
        if not file.exists():
            with replacing(file) as temporary:
                Image.fromarray(getattr(data, name)()).save(temporary, "PNG")
    return folder
