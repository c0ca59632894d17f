"""One photo from file to files: read, restored, and written with its map and report; a stack page by page."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

import numpy as np
import torch
from tqdm import tqdm

from photos import Photo, ValueRange, open_pages, write, write_map, write_overlay, write_report
from photos.files import format_of
from photos.stack import join
from samplers.batch import Job, written_together
from samplers.pipeline import Restoration
from samplers.posterior_samples import SampledRestoration
from samplers.profile_light import ProfileLight
from samplers.record import SOFTWARE, Record
from samplers.restoring import Method
from samplers.reverse_process import SamplerStep
from samplers.trajectory import Trajectory
from samplers.wishes import MaskError, Wishes, restore_as_wished

__all__ = ["FileOptions", "MapError", "check_map", "restore_file"]

# How the figures of pages make those of a stack.
_JOINED = {"evaluations": sum, "mean_radius": mean, "largest_radius": max, "noise_std": mean, "looks_like_motion": any}
_WRITERS = 4  # files at once; each holds a copy of the photo


class MapError(ValueError):
    """A given defocus map does not belong to the photo."""


@dataclass(frozen=True)
class FileOptions:
    """What is done with files beside the restoration of their pixels.

    Attributes:
        value_range: The stored values that become 0 and 1; None for those of the type.
        keep_metadata: Whether metadata is carried over and the parameters are added.
        profile_light: Whether the method works in linear light, by the curve of the photo's profile.
        record: What reproduces the results; None to write nothing of it.
    """

    value_range: ValueRange | None = None
    keep_metadata: bool = True
    profile_light: bool = False
    record: Record | None = None


def restore_file(
    job: Job,
    method: Method,
    device: torch.device,
    radius_map: np.ndarray | None = None,
    facts: Mapping[str, str | float] | None = None,
    label: str | None = None,
    wishes: Wishes | None = None,
    options: FileOptions | None = None,
    check: Callable[[], object] = lambda: None,
) -> dict[str, float | int | str]:
    """Restores a photo file and writes its results, all of them or none.

    Args:
        job: The photo and the names of its results.
        method: How it is restored; a `SamplesMethod` where the job asks for samples.
        device: Where.
        radius_map: Blur radii in pixels, shape (H, W); estimated if None. The same for all pages of a stack.
        facts: What the report says of the method.
        label: Shown with the progress on a terminal; None shows none.
        wishes: What is to stay as it was taken; nothing if None.
        options: What is done beside; the defaults if None.
        check: Called once no other process can be at work on the photo; what it raises stops the work.

    Returns:
        What a summary says of it: size, pages, evaluations, mean and largest blur radius in pixels, noise, motion.

    Raises:
        PhotoError: If the photo cannot be read or the results cannot be written.
        MapError: If the map's size is not the photo's.
        MaskError: If the mask's size is not the photo's.
        OutOfMemory: If memory does not suffice.
        FloatingPointError: If the result is not finite.
    """
    options = options or FileOptions()
    with written_together(job) as names:
        check()
        pages = open_pages(job.photo, options.value_range)
        entry = None if options.record is None else options.record.of(job.photo, pages.data)
        done = []
        for number, photo in enumerate(pages):
            shown = label if len(pages) == 1 or label is None else f"{label}, page {number + 1} of {len(pages)}"
            trajectory = Trajectory(photo.pixels.shape[:2]) if job.with_trajectory else None
            try:
                restored, codes = _restore(
                    photo, method, device, radius_map, shown, wishes or Wishes(), options.profile_light, trajectory
                )
            except (MapError, MaskError) as error:
                if len(pages) == 1:
                    raise
                raise type(error)(f"{error}, on page {number + 1} of {len(pages)}") from None
            residual = _residual(codes, restored) if job.with_report else None
            restored = _in_stored_values(photo, codes, restored)
            photo = _labelled(photo, entry, options)
            here = names if len(pages) == 1 else _names_of_page(names, number)
            page_facts = facts or {} if len(pages) == 1 else {"page": f"{number + 1} of {len(pages)}", **(facts or {})}
            _write(job, here, photo, restored, residual, page_facts, radius_map is None, trajectory)
            done.append(_in_numbers(restored))
        if len(pages) > 1:
            _join_pages(names, len(pages))
        joined = {key: join_values([page[key] for page in done]) for key, join_values in _JOINED.items()}
        summary = {"width": done[0]["width"], "height": done[0]["height"], "pages": len(pages), **joined}
        if entry is not None:
            options.record.sign(job, names, entry, summary)
    return summary


def check_map(photo: Photo, radius_map: np.ndarray | None) -> None:
    """Checks that a map, if one is given, is as large as a photo; raises a `MapError`."""
    size = photo.pixels.shape[:2]
    if radius_map is not None and radius_map.shape != size:
        raise MapError(f"expected a map of {_size(size)} pixels as {photo.path} has, got {_size(radius_map.shape)}")


def _restore(
    photo: Photo,
    method: Method,
    device: torch.device,
    radius_map: np.ndarray | None,
    label: str | None,
    wishes: Wishes,
    by_profile: bool,
    trajectory: Trajectory | None,
) -> tuple[Restoration, np.ndarray]:
    """Restores a picture; also gives the values before: stored ones, or by profile sRGB codes of the same light."""
    check_map(photo, radius_map)
    light = ProfileLight.of(photo) if by_profile else None
    values = photo.pixels if light is None else light.to_codes(photo.pixels)
    image = torch.from_numpy(values).permute(2, 0, 1)[None].to(device).contiguous()
    given = None if radius_map is None else torch.from_numpy(radius_map)[None, None].to(device)
    progress = nullcontext() if label is None else tqdm(desc=label, unit=" evaluations", leave=False, disable=None)
    with progress as bar:

        def show(step: SamplerStep) -> None:
            if bar is not None:
                bar.total = step.total
                bar.update(step.index - bar.n)
            if trajectory is not None:
                trajectory(step)

        seen = None if bar is None and trajectory is None else show
        restored = restore_as_wished(method, image, given, wishes, seen)
    return restored, values


def _in_stored_values(photo: Photo, values: np.ndarray, restored: Restoration) -> Restoration:
    """The restoration with values as the photo stores them, where others were restored."""
    if values is photo.pixels:
        return restored
    light = ProfileLight.of(photo)

    def stored(image: torch.Tensor) -> torch.Tensor:
        after = light.restored(photo.pixels, values, image[0].permute(1, 2, 0).cpu().numpy())
        return torch.from_numpy(after).permute(2, 0, 1)[None]

    if isinstance(restored, SampledRestoration):
        return restored.of([stored(sample) for sample in restored.samples])
    return replace(restored, image=stored(restored.image))


def _labelled(photo: Photo, entry: dict | None, options: FileOptions) -> Photo:
    """The photo with the metadata that its result is to have."""
    if not options.keep_metadata:
        return photo.stripped()
    return photo if entry is None else photo.inscribed(SOFTWARE, json.dumps(entry))


def _write(
    job: Job,
    names: Mapping,
    photo: Photo,
    restored: Restoration,
    residual: np.ndarray | None,
    facts: Mapping[str, str | float],
    estimated: bool,
    trajectory: Trajectory | None,
) -> None:
    after = restored.image[0].permute(1, 2, 0).cpu().numpy()
    radii = restored.radius_map[0, 0].cpu().numpy()
    files = [partial(write, names[job.result], after, like=photo), partial(write_map, names[job.defocus_map], radii)]
    if job.with_confidence:
        files.append(partial(write_map, names[job.confidence], restored.confidence[0, 0].cpu().numpy()))
    if job.samples:
        files.append(partial(write_map, names[job.spread], restored.spread[0, 0].cpu().numpy()))
        for file, sample in zip(job.sample_files, restored.samples, strict=True):
            files.append(partial(write, names[file], sample[0].permute(1, 2, 0).cpu().numpy(), like=photo))
    if trajectory is not None:
        files.append(partial(trajectory.write, names[job.animation], names[job.plot], restored.image))
    if job.with_report:
        files.append(partial(write_overlay, names[job.overlay], photo.pixels, radii))
        facts = {
            "photo": job.photo.name,
            "defocus map": "estimated" if estimated else "given",
            "mean blur radius (pixels)": float(radii.mean()),
            "largest blur radius (pixels)": float(radii.max()),
            "noise (of full range)": restored.noise_std,
            "network evaluations": restored.evaluations,
            **_of_the_blur(restored),
            **facts,
        }
        # A grey profile does not fit the three channels that are shown.
        icc = photo.icc if photo.layout.startswith("RGB") else None
        title = job.photo.name
        files.append(partial(write_report, names[job.report], photo.pixels, after, radii, facts, title, residual, icc))
    # Compression is most of the time, and lets other threads run.
    with ThreadPoolExecutor(_WRITERS) as pool:
        for written in [pool.submit(file) for file in files]:
            written.result()


def _in_numbers(restored: Restoration) -> dict[str, float | int | bool]:
    """What a summary says of one page."""
    radii = restored.radius_map
    return {
        "width": radii.shape[-1], "height": radii.shape[-2], "evaluations": restored.evaluations,
        "mean_radius": float(radii.mean()), "largest_radius": float(radii.max()),
        "noise_std": float(restored.noise_std), "looks_like_motion": restored.motion,
    }  # fmt: skip


def _of_the_blur(restored: Restoration) -> dict[str, str | float]:
    """What a report says of the lens that was supposed, if one was, and of blur that is none of a lens."""
    lens, facts = restored.lens, {}
    if lens is not None:
        facts["light that the blur mixed"] = lens.light
        facts["softness of the PSF"] = "measured" if lens.psf is not None else lens.softness
        if lens.channel_scales is not None:
            facts["radius in red, green, blue"] = ", ".join(f"{scale:.3g}" for scale in lens.channel_scales)
    if restored.motion:
        facts["looks like"] = "motion, not defocus: estimated radii and their confidence are halved"
    return facts


@torch.no_grad()
def _residual(values: np.ndarray, restored: Restoration) -> np.ndarray | None:
    """The capture minus the restored picture blurred again, shape (H, W, 3).

    None where nothing was blurred, or nothing supposed of the blur.
    """
    if restored.lens is None or not restored.radius_map.any():
        return None
    try:
        operator = restored.lens.operator(restored.radius_map)
        x = operator.extend(2 * restored.image.to(restored.radius_map) - 1)
        again = (restored.lens.model(operator)(x) + 1) / 2
    except (RuntimeError, MemoryError):
        return None  # Too little memory for a picture in the report is no reason to lose the photo.
    return values - again[0].permute(1, 2, 0).cpu().numpy()


def _names_of_page(names: Mapping, number: int) -> dict:
    """Names for the results of one page of a stack, in a folder of its own."""
    folder = next(iter(names.values())).parent / f"page{number}"
    folder.mkdir()
    return {output: folder / temporary.name for output, temporary in names.items()}


def _join_pages(names: Mapping, count: int) -> None:
    """Makes stacks of what was written for each page; of pages to look at, the middle one stands for all."""
    for temporary in names.values():
        pages = [temporary.parent / f"page{number}" / temporary.name for number in range(count)]
        # By content: a stack's suffix may be another, as .lsm of microscopes.
        if format_of(pages[0].read_bytes()) == "TIFF":
            join(pages, temporary)
        else:
            pages[count // 2].rename(temporary)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
