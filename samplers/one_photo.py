"""One photo from file to files: read, restored, and written with its map and report."""

from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
from tqdm import tqdm

from photos import Photo, read, write, write_map, write_overlay, write_report
from samplers.batch import Job, written_together
from samplers.pipeline import Restoration
from samplers.restoring import Method
from samplers.reverse_process import SamplerStep
from samplers.trajectory import Trajectory
from samplers.wishes import Wishes, restore_as_wished

__all__ = ["MapError", "restore_file"]


class MapError(ValueError):
    """A given defocus map does not belong to the photo."""


def restore_file(
    job: Job,
    method: Method,
    device: torch.device,
    radius_map: np.ndarray | None = None,
    facts: Mapping[str, str | float] | None = None,
    label: str | None = None,
    wishes: Wishes | None = None,
) -> Restoration:
    """Restores a photo file and writes its results, all of them or none.

    Args:
        job: The photo and the names of its results.
        method: How it is restored; a `SamplesMethod` where the job asks for samples.
        device: Where.
        radius_map: Blur radii in pixels, shape (H, W); estimated if None.
        facts: What the report says of the method.
        label: Shown with the progress on a terminal; None shows none.
        wishes: What is to stay as it was taken; nothing if None.

    Raises:
        PhotoError: If the photo cannot be read or the results cannot be written.
        MapError: If the map's size is not the photo's.
        MaskError: If the mask's size is not the photo's.
        OutOfMemory: If memory does not suffice.
        FloatingPointError: If the result is not finite.
    """
    photo = read(job.photo)
    size = photo.pixels.shape[:2]
    if radius_map is not None and radius_map.shape != size:
        raise MapError(f"expected a map of {_size(size)} pixels as {job.photo} has, got {_size(radius_map.shape)}")
    image = torch.from_numpy(photo.pixels).permute(2, 0, 1)[None].to(device).contiguous()
    given = None if radius_map is None else torch.from_numpy(radius_map)[None, None].to(device)
    progress = nullcontext() if label is None else tqdm(desc=label, unit=" evaluations", leave=False, disable=None)
    with progress as bar:

        trajectory = Trajectory(size) if job.with_trajectory else None

        def show(step: SamplerStep) -> None:
            if bar is not None:
                bar.total = step.total
                bar.update(step.index - bar.n)
            if trajectory is not None:
                trajectory(step)

        seen = None if bar is None and trajectory is None else show
        restored = restore_as_wished(method, image, given, wishes or Wishes(), seen)
    _write(job, photo, restored, facts or {}, radius_map is None, trajectory)
    return restored


def _write(
    job: Job,
    photo: Photo,
    restored: Restoration,
    facts: Mapping[str, str | float],
    estimated: bool,
    trajectory: Trajectory | None,
) -> None:
    after = restored.image[0].permute(1, 2, 0).cpu().numpy()
    radii = restored.radius_map[0, 0].cpu().numpy()
    with written_together(job) as names:
        write(names[job.result], after, like=photo)
        write_map(names[job.defocus_map], radii)
        if job.with_confidence:
            write_map(names[job.confidence], restored.confidence[0, 0].cpu().numpy())
        if job.samples:
            write_map(names[job.spread], restored.spread[0, 0].cpu().numpy())
            for file, sample in zip(job.sample_files, restored.samples, strict=True):
                write(names[file], sample[0].permute(1, 2, 0).cpu().numpy(), like=photo)
        if trajectory is not None:
            trajectory.write(names[job.animation], names[job.plot], restored.image)
        if job.with_report:
            write_overlay(names[job.overlay], photo.pixels, radii)
            facts = {
                "photo": job.photo.name,
                "defocus map": "estimated" if estimated else "given",
                "mean blur radius (pixels)": float(radii.mean()),
                "largest blur radius (pixels)": float(radii.max()),
                "noise (of full range)": restored.noise_std,
                "network evaluations": restored.evaluations,
                "light that the blur mixed": restored.lens.light,
                "softness of the PSF": "measured" if restored.lens.psf is not None else restored.lens.softness,
                **facts,
            }
            write_report(names[job.report], photo.pixels, after, radii, facts, job.photo.name)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
