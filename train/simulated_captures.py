"""Simulated captures with their radius maps to train on, each a pure function of (seed, number).

A capture costs more than a training step makes of it, so captures are simulated when they are first needed,
kept in a folder and used again: sample n takes one of the first n / reuse + 1 captures, and of no more than there
are to be. Which one, which part of it and how it is turned depends on (seed, n) alone, and what a capture is
on (seed, its number) alone: a run resumes exactly, on any number of workers and processes, whatever is in
the folder.

The folder holds `capture_N.bin`: the 8-bit picture (3, S, S), then the radii in pixels (S, S) as float16; and where the
sharp photos are asked for, `sharp_N.bin`: that photo, stored by the same camera, 8-bit, (3, S, S).
"""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from optics.simulation import SIMULATOR, Simulator
from photos.files import make_folder, replacing
from train.changes import changeable
from train.data_config import DataConfig
from train.left_out import LeftOut
from train.patch_quality import contrast_and_smoothness
from train.patches import draw_patch
from train.photo_cache import CachedPhotos, PhotosInMemory
from train.photo_choice import choose_photos

__all__ = ["SimulatedCaptures", "SimulationConfig", "open_captures", "sharp_throughout", "turned"]

_TRIES = 24
_BLOCK = 56  # pixels
_LEAST_CONTRAST = 1.5  # 8-bit codes; what has less is flat, sharp or not
_FAINTEST, _FAINT = 0.0, 0.12  # share of its contrast that a faint photo keeps
_BURIED, _BURYING_NOISE = 0.03, (0.01, 0.3)  # share of its contrast, and noise of full range

_MOST_IN_FRONT = 2  # layers that a random scene may have before its background
_GAMMA, _BALANCE, _SATURATION = (0.6, 1.6), 0.15, (0.0, 1.0)


@dataclass
class SimulationConfig:
    """What captures are simulated.

    Attributes:
        side: Side of a capture in pixels, at least that of a training patch.
        captures: Number of different captures; fewer are simulated where a run is short.
        reuse: Training samples for each new capture, until there are all.
        matched: Share of captures that keep to the restorer's world: one layer, disks, white noise, sRGB values.
        faint: Share of captures of photos with little contrast or none: what cannot be seen is to be unknown.
        buried: Share of training samples whose light is buried in noise, so that noise is not taken for sharp detail.
        largest_radius: In pixels.
        outlined: Share of scenes whose layers end at edges of the photo, see `Simulator`.
        collage: Share of scenes, but matched ones, whose layers in front show other photos, at least one.
        recoloured: Share of scenes whose photos have other tones than they came with, see `_recoloured`.
        block_smoothness: Photos are drawn again whose blocks of about 56 px are not all sharp, see `sharp_throughout`:
            what is defocused in the photo would be learnt as sharp; null takes all.
        folder: Where captures are kept, for several runs of the same photos and seed; `captures` in the run's own
            folder if null.
    """

    side: int = 160
    captures: int = 6000
    reuse: int = 16
    matched: float = 0.3
    faint: float = 0.06
    buried: float = 0.03
    largest_radius: float = 8.0
    outlined: float = 0.0
    collage: float = 0.0
    recoloured: float = 0.0
    block_smoothness: float | None = 2.0
    folder: str | None = changeable(None)

    def __post_init__(self) -> None:
        def require(condition: bool, key: str, expectation: str) -> None:
            if not condition:
                raise ValueError(f"simulation.{key} must be {expectation}, got {getattr(self, key)}")

        require(self.side >= 16, "side", "at least 16")
        require(self.captures >= 1, "captures", "at least 1")
        require(self.reuse >= 1, "reuse", "at least 1")
        require(0 <= self.matched <= 1, "matched", "in [0, 1]")
        require(0 <= self.faint <= 1, "faint", "in [0, 1]")
        require(0 <= self.buried <= 1, "buried", "in [0, 1]")
        require(self.block_smoothness is None or self.block_smoothness > 1, "block_smoothness", "null or above 1")
        for key in ("outlined", "collage", "recoloured"):
            require(0 <= getattr(self, key) <= 1, key, "in [0, 1]")
        require(1 < self.largest_radius <= 16, "largest_radius", "above 1 and at most 16")

    def canvas(self) -> int:
        """Side in pixels of the part of a sharp photo that a capture needs, a multiple of 8."""
        return 8 * math.ceil((self.side + 2 * Simulator(self.largest_radius).margin) / 8)


class SimulatedCaptures(Dataset):
    """Random parts of simulated captures; item n is `y` in [0, 1], (3, P, P), and `radius_map` in pixels, (1, P, P).

    With sharp photos, it is `x` too: that part of the photo, stored by the same camera, in [0, 1], (3, P, P).

    Args:
        photos: Sharp photos by their number, shape (H, W, 3), 8-bit, no smaller than the canvas of a capture.
        data: How parts are cut from photos and captures.
        simulation: What is simulated.
        seed: Seed of everything random.
        batch: Samples of one optimizer step, over all processes.
        folder: Where captures are kept; must exist.
        with_sharp: Whether items hold the sharp photos.
    """

    def __init__(
        self, photos: PhotosInMemory | CachedPhotos, data: DataConfig, simulation: SimulationConfig, seed: int,
        batch: int, folder: Path, with_sharp: bool = False,
    ) -> None:  # fmt: skip
        self.photos, self.config, self.simulation = photos, data, simulation
        self.seed, self.batch, self.folder, self.with_sharp = seed, batch, folder, with_sharp

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, 0, sample])
        number = self.drawn(sample, rng)
        y, radius = self.capture(number)
        parts = [y, radius, self.sharp(number)] if self.with_sharp else [y, radius]
        top, left = (int(rng.integers(self.simulation.side - self.config.patch + 1)) for _ in range(2))
        rows, columns = slice(top, top + self.config.patch), slice(left, left + self.config.patch)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        y, radius, *sharp = (turned(values[:, rows, columns], turns, flip) for values in parts)
        if rng.random() < self.simulation.buried:
            y, *sharp = _buried(y, rng, *sharp)
        item = {"y": y.astype(np.float32) / np.float32(255), "radius_map": radius.astype(np.float32)}
        if sharp:
            item["x"] = sharp[0].astype(np.float32) / np.float32(255)
        return {key: torch.from_numpy(values) for key, values in item.items()}

    def drawn(self, sample: int, rng: np.random.Generator) -> int:
        """Number of the capture of a training sample: every `reuse` samples a new one, else one of those before."""
        reuse = self.simulation.reuse
        newest = min(self.simulation.captures, sample // reuse + 1) - 1
        # The newest first, so that all are used.
        fresh = sample % reuse == 0 and newest == sample // reuse
        return newest if fresh else int(rng.integers(newest + 1))

    def capture(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A whole capture, from the folder or simulated: uint8 (3, S, S) and radii in pixels, float16 (1, S, S)."""
        side = self.simulation.side
        content = _stored(self._file("capture", number), 5 * side * side)
        if content is None:
            return self._simulate(number)
        y = np.frombuffer(content, np.uint8, 3 * side * side).reshape(3, side, side)
        return y, np.frombuffer(content, np.float16, offset=3 * side * side).reshape(1, side, side)

    def sharp(self, number: int) -> np.ndarray:
        """The photo in focus, stored by the same camera, from the folder or drawn again: uint8 (3, S, S)."""
        side = self.simulation.side
        file = self._file("sharp", number)
        content = _stored(file, 3 * side * side)
        if content is None:
            photos, simulator, rng = self._photos(number)
            return _written(file, _codes(simulator.in_focus(simulator.scene(photos[0], rng, photos[1:]))))[0]
        return np.frombuffer(content, np.uint8).reshape(3, side, side)

    def _simulate(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        photos, simulator, rng = self._photos(number)
        capture = simulator(photos[0], rng, photos[1:])
        if self.with_sharp:
            _written(self._file("sharp", number), _codes(capture.x))
        return _written(self._file("capture", number), _codes(capture.y), capture.radius_map.half().numpy())

    def _file(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}_{number:06d}.bin"

    def _photos(self, number: int) -> tuple[list[Tensor], Simulator, np.random.Generator]:
        """What a capture shows, who takes it, and the rest of chance.

        Photos have values in [0, 1] and their margins, shape (3, S + 2 m, S + 2 m); those after the first are in front.
        """
        settings = self.simulation
        rng = np.random.default_rng([self.seed, 1, number])
        photos = [self._sharp_patch(rng)]
        matched = bool(rng.random() < settings.matched)
        simulator = Simulator(settings.largest_radius, matched=matched, outlined=settings.outlined)
        faint = rng.uniform(_FAINTEST, _FAINT) if rng.random() < settings.faint else None
        # From streams of their own, and only where it matters, so that captures without are what they were.
        own = np.random.default_rng([self.seed, 4, number])
        if own.random() < settings.collage and not matched:
            photos += [self._sharp_patch(own) for _ in range(_MOST_IN_FRONT)]
        if own.random() < settings.recoloured:
            photos = [_recoloured(photo, own) for photo in photos]
        if faint is not None:
            mean = photos[0].mean((1, 2), keepdims=True)
            photos = [mean + np.float32(faint) * (photo - mean) for photo in photos]
        needed = settings.side + 2 * simulator.margin
        return [torch.from_numpy(photo[:, :needed, :needed].copy()) for photo in photos], simulator, rng

    def _sharp_patch(self, rng: np.random.Generator) -> np.ndarray:
        """Part of a photo, in focus throughout where that is asked for: float32 in [0, 1], (3, P, P)."""
        settings = self.simulation
        cutting = replace(self.config, patch=settings.canvas())
        for _ in range(_TRIES):
            patch = draw_patch(lambda rng: self.photos[int(rng.integers(len(self.photos)))], cutting, rng)
            if settings.block_smoothness is None or sharp_throughout(patch, settings.block_smoothness):
                break
        return patch.astype(np.float32).transpose(2, 0, 1) / np.float32(255)


def open_captures(
    data: DataConfig, simulation: SimulationConfig, seed: int, batch: int, folder: Path, report: Callable[[str], None],
    left_out: LeftOut | None = None, with_sharp: bool = False, dry_run: bool = False,
) -> tuple[SimulatedCaptures, SimulatedCaptures]:
    """Opens the training captures and those of held-out photos.

    Args:
        data: Where the sharp photos are and how parts are cut.
        simulation: What is simulated.
        seed: Seed of everything random.
        batch: Samples of one optimizer step, over all processes.
        folder: Where captures are kept; made if it is missing.
        report: Told once what photos are left out from the start and what is cached.
        left_out: Takes note of photos that cannot be used once they are drawn.
        with_sharp: Whether items hold the sharp photos.
        dry_run: Whether the folder is left as it is, and not made; nor is a cache.

    Raises:
        ValueError: If there are no photos to train on, or the folder holds captures of others.
    """
    if simulation.side < data.patch:
        raise ValueError(f"simulation.side must be at least data.patch={data.patch}, got {simulation.side}")
    if dry_run:
        # Nothing is decoded into a cache to say what there is.
        data = replace(data, cache=None)
    canvas = simulation.canvas()
    needed = f"the {canvas} pixels that simulation.side={simulation.side} takes with its margin"
    training, held_out = choose_photos(replace(data, patch=canvas), report, needed)
    opened = []
    for files, name in ((training, "training"), (held_out, "held_out")):
        in_memory = data.cache is None
        photos = (
            PhotosInMemory(files, data.cache_gib, left_out) if in_memory else CachedPhotos(files, Path(data.cache))
        )
        place = folder / name
        if not dry_run:
            make_folder(place)
            _claim(place, files, data, simulation, seed)
        opened.append(SimulatedCaptures(photos, data, simulation, seed, batch, place, with_sharp))
    return opened[0], opened[1]


def sharp_throughout(patch: np.ndarray, max_smoothness: float) -> bool:
    """Whether every block of about 56 px that is not flat is in focus, see `train.patch_quality`.

    Args:
        patch: 8-bit values, shape (H, W, 3).
        max_smoothness: Largest smoothness of what counts as in focus.
    """
    edges = [np.linspace(0, length, max(length // _BLOCK, 1) + 1).astype(int) for length in patch.shape[:2]]
    for top, bottom in pairwise(edges[0]):
        for left, right in pairwise(edges[1]):
            contrast, smoothness = contrast_and_smoothness(patch[top:bottom, left:right])
            if contrast >= _LEAST_CONTRAST and smoothness > max_smoothness:
                return False
    return True


def turned(values: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """Mirrors a picture and turns it by quarter turns: (C, P, P) -> (C, P, P)."""
    values = values[:, :, ::-1] if flip else values
    return np.ascontiguousarray(np.rot90(values, turns, axes=(1, 2)))


def _codes(picture: Tensor) -> np.ndarray:
    """Values in [0, 1] in steps of 1/255, uint8."""
    return (picture * 255).round().byte().numpy()


def _written(file: Path, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Writes arrays one after the other, and a checksum, and returns them."""
    content = b"".join(array.tobytes() for array in arrays)
    with replacing(file) as temporary:
        temporary.write_bytes(content + _checksum(content))
    return arrays


def _stored(file: Path, length: int) -> bytes | None:
    """The arrays of a file, of a length in bytes; None where it is missing or damaged, to be simulated again."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    content, checksum = content[:length], content[length:]
    # Earlier versions wrote none.
    return content if len(content) == length and checksum in (b"", _checksum(content)) else None


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def _recoloured(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The photo by another light: contrast, brightness, balance and saturation, float32 in [0, 1], (3, H, W).

    Tones are changed by powers, so that black and white stay and nothing is clipped.
    """
    grey = photo.mean(0, keepdims=True)
    photo = grey + np.float32(rng.uniform(*_SATURATION)) * (photo - grey)
    gamma = math.exp(rng.uniform(*np.log(_GAMMA))) * np.exp(rng.uniform(-_BALANCE, _BALANCE, (3, 1, 1)))
    return np.power(photo, gamma.astype(np.float32))


def _buried(y: np.ndarray, rng: np.random.Generator, *sharp: np.ndarray) -> list[np.ndarray]:
    """Takes nearly all contrast from 8-bit values (3, P, P) and adds noise of any strength, in colour or grey, to y."""
    mean = y.mean((1, 2), keepdims=True)
    noise = rng.standard_normal((3 if rng.random() < 0.7 else 1, *y.shape[1:]))
    std = 255 * math.exp(rng.uniform(*np.log(_BURYING_NOISE)))
    contrast = rng.uniform(0, _BURIED)
    faint, *sharp = (mean + contrast * (values - mean) for values in (y, *sharp))
    return [np.rint((faint + std * noise).clip(0, 255)).astype(np.uint8), *sharp]


def _claim(folder: Path, files: list[Path], data: DataConfig, simulation: SimulationConfig, seed: int) -> None:
    """Notes what the captures of a folder are made of, or finds that they are made of the same."""
    made_by = asdict(simulation)
    # What says which captures are used, not what they are.
    for key in ("captures", "reuse", "buried", "folder"):
        del made_by[key]
    cutting = ("min_scale", "full_size", "min_contrast", "max_smoothness", "keep_rejected")
    made_by |= {key: getattr(data, key) for key in cutting}
    content = {"simulator": SIMULATOR, "seed": seed, "photos": [file.as_posix() for file in files], **made_by}
    note = folder / "captures.json"
    if not note.exists():
        with replacing(note) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{note}: expected what the captures here are made of, got damaged JSON; remove {folder}")
    # As it was before there was a choice.
    found = dict.fromkeys(("outlined", "collage", "recoloured"), 0.0) | found
    changed = [key for key, value in content.items() if found.get(key) != value]
    if changed:
        raise ValueError(f"{folder}: expected captures of this run, got those of another {', '.join(changed)}")
