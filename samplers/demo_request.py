"""What a visitor of the demo's page asks for, and how it is done: as by the command, with the same record.

A request becomes a command line of `samplers/deblur.py`; the photo is restored from its file to files by the same
functions, so that nothing is lost between: bit depth, layout, metadata. What was painted becomes a mask beside the
results. The page itself is `samplers.demo_page`; nothing here knows of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from photos import PhotoError, open_pages
from samplers.batch import CollisionError, Job, plan
from samplers.batch_run import BatchRun
from samplers.choices import PRESETS
from samplers.chosen_method import MethodChoice, UsageError, make_method
from samplers.config import ConfigError
from samplers.deblur import command_parser
from samplers.one_photo import FileOptions, restore_file
from samplers.pipeline import Restoration
from samplers.record import Record, shown_parameters
from samplers.restoring import Method
from samplers.reverse_process import SamplerStep
from samplers.weights import WeightsError
from samplers.wishes import Wishes, facts_of_wishes

__all__ = ["Cancelled", "DemoRequest", "DemoResult", "RequestError", "fulfil", "preview"]

LONGEST_SIDE = 1200  # of pictures that are shown and painted on
Watch = Callable[[int, int | None], None]


class RequestError(ValueError):
    """A request cannot be fulfilled; the message is one sentence for the visitor."""


class Cancelled(Exception):
    """The visitor does not want the result any more; what a `watch` raises to stop the work."""


@dataclass(frozen=True)
class DemoRequest:
    """What a visitor asks for; see the options of `samplers/deblur.py`.

    Attributes:
        photo: The file, as it was uploaded.
        painted: Where it is to be restored: opacity of paint on the preview, in [0, 1], float32, shape (h, w) with the
            photo's proportions; None, or no paint, for all of it.
        preset: One of `samplers.choices.PRESETS`.
        strength: Share of the restoration in the result, 0 to 1.
        max_radius: Blur of so many pixels and more stays; None for no limit.

    Raises:
        RequestError: If a value is out of its range.
    """

    photo: Path
    painted: np.ndarray | None = None
    preset: str = "balanced"
    strength: float = 1.0
    max_radius: float | None = None

    def __post_init__(self) -> None:
        if not self.photo.is_file():
            raise RequestError(f"{self.photo.name}: expected a photo, got no such file")
        if self.preset not in PRESETS:
            raise RequestError(f"preset: expected {', '.join(PRESETS)}, got {self.preset}")
        if not 0 <= self.strength <= 1:
            raise RequestError(f"strength: expected a share from 0 to 1, got {self.strength:g}")
        if self.max_radius is not None and not 0 < self.max_radius < math.inf:
            raise RequestError(f"largest radius: expected a radius in pixels above 0, got {self.max_radius:g}")

    def mask(self) -> np.ndarray | None:
        """Where the photo is restored, at its own size, uint8 from 0 to 255, shape (H, W); None for all of it.

        Raises:
            RequestError: If the paint has other proportions than the photo.
            PhotoError: If the photo cannot be read.
        """
        if self.painted is None or not self.painted.any():
            return None
        height, width = next(iter(open_pages(self.photo))).pixels.shape[:2]
        h, w = self.painted.shape
        # A preview's sides are rounded to pixels.
        if min(abs(h - w * height / width), abs(w - h * width / height)) > 1:
            raise RequestError(f"paint: expected the proportions of the photo, {width} x {height}, got {w} x {h}")
        paint = Image.fromarray(self.painted).resize((width, height), Image.Resampling.BILINEAR)
        return np.rint(255 * np.clip(paint, 0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class DemoResult:
    """What came of a request.

    Attributes:
        job: The photo and its results.
        mask: The file of the mask, or None.
        facts: What a summary says, see `samplers.one_photo.restore_file`.
        command: The command line that makes the same.
        warnings: A sentence for each reason to doubt the result.
    """

    job: Job
    mask: Path | None
    facts: dict[str, float | int | str]
    command: str
    warnings: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """All files there are to take home."""
        return [*self.job.outputs, *([] if self.mask is None else [self.mask])]


def fulfil(
    request: DemoRequest, folder: Path, watch: Watch, *, weights: str | None = None, device: str = "auto"
) -> DemoResult:
    """Restores a photo.

    Args:
        request: What is asked for.
        folder: Where the results go; empty.
        watch: Told the number of network evaluations that are done, and of all; the latter is None while the defocus
            map is estimated. What it raises, `Cancelled` for one, stops the work; then nothing is written.
        weights: Folder of a saved pipeline; None for the default.
        device: `auto`, or a name of PyTorch.

    Raises:
        RequestError: If it fails; in the words of the command, but without the folders of this computer.
        Cancelled: If `watch` raises it.
    """
    errors: list[str] = []

    def report(error: object, code: int) -> int:
        errors.append(str(error))
        return code

    try:
        (job,), _ = plan([request.photo], folder)
        mask = request.mask()
        mask_file = None if mask is None else folder / f"{job.result.name}_mask.png"
        if mask_file is not None:
            Image.fromarray(mask).save(mask_file)
        choice = MethodChoice(weights=weights, preset=request.preset, device=device)
        method, where, facts = make_method(choice)
    except (CollisionError, ConfigError, PhotoError, UsageError, WeightsError) as error:
        raise _said(error, request.photo) from None

    record = _record(request, folder, mask_file, choice)
    options = FileOptions(profile_light=choice.profile_light, record=record)
    facts |= facts_of_wishes(mask_file and mask_file.name, request.max_radius, request.strength)
    warnings: list[str] = []
    share = None if mask is None else mask / np.float32(255)
    wishes = Wishes(share, request.max_radius, request.strength, warnings.append)
    run = BatchRun([job], folder, record, overwrite=False, resume=False, quiet=True, report=report)

    def restore(job: Job, label: str | None, check: Callable[[], None]) -> dict:
        return restore_file(job, _Watched(method, watch), where, None, facts, label, wishes, options, check)

    try:
        run.restore([job], restore, {"map": None, "mask": "mask"})
        if errors:
            raise _said(errors[0], request.photo)
    except BaseException:
        if mask_file is not None:
            mask_file.unlink(missing_ok=True)
        raise
    # From the map: a JPEG may have no room for it.
    command, _ = shown_parameters(job.defocus_map)
    return DemoResult(job, mask_file, run.row(job).facts, command, tuple(warnings))


def _record(request: DemoRequest, folder: Path, mask: Path | None, choice: MethodChoice) -> Record:
    """The record of the command that does the same."""
    words = [str(request.photo.absolute()), "-o", str(folder), "--preset", request.preset, "--device", choice.device]
    words += ["--strength", str(request.strength)]
    words += [] if request.max_radius is None else ["--max-radius", str(request.max_radius)]
    words += [] if mask is None else ["--mask", str(mask)]
    words += [] if choice.weights is None else ["--weights", choice.weights]
    parser = command_parser()
    return Record(parser, parser.parse_args(words), ())


class _Watched:
    """A method whose work is watched, and can be stopped, at each network evaluation.

    Args:
        method: What does the work.
        watch: See `fulfil`.
    """

    def __init__(self, method: Method, watch: Watch) -> None:
        self.method, self.watch = method, watch

    def __call__(
        self, image: torch.Tensor, radius_map: torch.Tensor | None,
        callback: Callable[[SamplerStep], None] | None = None, confidence: torch.Tensor | None = None,
    ) -> Restoration:  # fmt: skip
        def seen(step: SamplerStep) -> None:
            self.watch(step.index, step.total)
            if callback is not None:
                callback(step)

        return self.method(image, radius_map, seen, confidence)

    def estimate_map(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.watch(0, None)
        return self.method.estimate_map(image)


def preview(photo: Path) -> tuple[Image.Image, tuple[int, int]]:
    """What a browser can show of a photo: its first picture, small, of 8 bits, with its colour profile.

    Args:
        photo: The file, of any kind that `photos` reads.

    Returns:
        The picture, and width and height of the photo in pixels.

    Raises:
        RequestError: If the photo cannot be read.
    """
    try:
        page = next(iter(open_pages(photo)))
    except PhotoError as error:
        raise _said(error, photo) from None
    picture = Image.fromarray(np.rint(255 * np.clip(page.pixels, 0, 1)).astype(np.uint8))
    size = picture.size
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    # A grey profile does not fit three channels.
    if page.icc is not None and page.layout.startswith("RGB"):
        picture.info["icc_profile"] = page.icc
    return picture, size


def _said(error: object, photo: Path) -> RequestError:
    """An error in one line that names files without the folder they were uploaded to."""
    text = " ".join(str(error).split())
    return RequestError(text.replace(f"{photo.parent}/", ""))
