"""A batch of photos: which files become which, and writing what belongs together at once.

A photo `name.ext` becomes `name.ext`, its defocus map `name.ext_defocus.tif`, the map's confidence
`name.ext_confidence.tif` where it was estimated, and for looking at `name.ext_overlay.png` and `name.ext_report.html`:
with the suffix kept, photos that differ in it alone stay apart. Where asked for, samples `name.ext_sample1.ext` and
their spread `name.ext_spread.tif`, and the reverse process `name.ext_trajectory.webp` and `.svg`, are written as well.
A raw photo becomes `name.ext.tif`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from photos import RAW_SUFFIXES, PhotoError, find_photos
from samplers.claims import claimed

__all__ = ["CollisionError", "ExistingError", "Job", "check_outputs", "plan", "written_together"]


class CollisionError(ValueError):
    """Two photos, or a photo and a result, would be the same file; the message is for the user."""


class ExistingError(PhotoError):
    """A result is there already and was not to be replaced."""


@dataclass(frozen=True)
class Job:
    """One photo and the files that are made of it.

    Attributes:
        photo: The file to read.
        result: The restored photo.
        with_report: Whether a report and an overlay are written.
        with_confidence: Whether the map is to be estimated, and its confidence written.
        samples: Number of samples that are written, and their spread; 0 for neither.
        with_trajectory: Whether the reverse process is written.
    """

    photo: Path
    result: Path
    with_report: bool = True
    with_confidence: bool = True
    samples: int = 0
    with_trajectory: bool = False

    @property
    def defocus_map(self) -> Path:
        """The map of blur radii."""
        return self.result.with_name(f"{self.result.name}_defocus.tif")

    @property
    def confidence(self) -> Path:
        """How far each radius of an estimated map can be trusted."""
        return self.result.with_name(f"{self.result.name}_confidence.tif")

    @property
    def overlay(self) -> Path:
        """The photo with its radii in colours."""
        return self.result.with_name(f"{self.result.name}_overlay.png")

    @property
    def report(self) -> Path:
        """The page that shows before and after."""
        return self.result.with_name(f"{self.result.name}_report.html")

    @property
    def sample_files(self) -> list[Path]:
        """The samples, with the suffix of the photo."""
        name = self.result.name
        return [
            self.result.with_name(f"{name}_sample{number}{self.result.suffix}") for number in range(1, self.samples + 1)
        ]

    @property
    def spread(self) -> Path:
        """The map of the samples' standard deviation."""
        return self.result.with_name(f"{self.result.name}_spread.tif")

    @property
    def animation(self) -> Path:
        """The estimates of the reverse process."""
        return self.result.with_name(f"{self.result.name}_trajectory.webp")

    @property
    def plot(self) -> Path:
        """The curves of the reverse process."""
        return self.result.with_name(f"{self.result.name}_trajectory.svg")

    @property
    def outputs(self) -> list[Path]:
        """All files that are written."""
        return [
            self.result,
            self.defocus_map,
            *([self.confidence] if self.with_confidence else []),
            *([self.overlay, self.report] if self.with_report else []),
            *([*self.sample_files, self.spread] if self.samples else []),
            *([self.animation, self.plot] if self.with_trajectory else []),
        ]


def plan(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    with_report: bool = True,
    with_confidence: bool = True,
    samples: int = 0,
    with_trajectory: bool = False,
) -> tuple[list[Job], list[str]]:
    """Finds the photos at some paths and names their results; the tree below a given folder is kept.

    Photos in `out` itself are passed over where it lies in a given folder: they are earlier results.

    Args:
        paths: Photos and folders of photos.
        out: Folder of the results.
        with_report: Whether reports and overlays are written.
        with_confidence: Whether maps are to be estimated, and their confidence written.
        samples: Number of samples that are written of each photo.
        with_trajectory: Whether the reverse process of each photo is written.

    Returns:
        The jobs in the order of the paths, and a sentence for each path that leads to no photo.

    Raises:
        CollisionError: If a file would be written twice, or a photo overwritten.
    """
    out, jobs, errors = Path(out), {}, []
    inner = out.resolve()
    for path in map(Path, paths):
        try:
            found = find_photos(path)
        except PhotoError as error:
            errors.append(str(error))
            continue
        is_file = found == [path]
        if not is_file and path.resolve() in inner.parents:
            found = [photo for photo in found if inner not in photo.resolve().parents]
            if not found:
                errors.append(f"{path}: expected photos outside the folder of results {out}, got none")
        for photo in found:
            result = out / (photo.name if is_file else photo.relative_to(path))
            if photo.suffix.lower() in RAW_SUFFIXES:
                result = result.with_name(f"{result.name}.tif")
            job = Job(photo, result, with_report, with_confidence, samples, with_trajectory)
            other = jobs.setdefault(job.result, job)
            if other.photo.resolve() != photo.resolve():
                raise CollisionError(f"{photo}: expected results of its own, got {job.result}, made of {other.photo}")
    _check_apart(list(jobs.values()))
    return list(jobs.values()), errors


def _check_apart(jobs: list[Job]) -> None:
    # Paths may lead to one file through links, so resolved ones are compared.
    photos = {job.photo.resolve() for job in jobs}
    owners: dict[Path, Job] = {}
    for job in jobs:
        for output in job.outputs:
            resolved = output.resolve()
            if resolved in photos:
                raise CollisionError(f"{job.photo}: expected another folder for the results, for {output} is a photo")
            other = owners.setdefault(resolved, job)
            if other is not job:
                raise CollisionError(f"{job.photo}: expected results of its own, got {output}, made of {other.photo}")


def check_outputs(job: Job, overwrite: bool) -> None:
    """Finds out before the work whether its results may be written.

    Raises:
        ExistingError: If one exists and may not be replaced.
        PhotoError: If the folder cannot be written.
    """
    for output in job.outputs:
        if os.path.lexists(output) and (not overwrite or output.is_dir()):
            hint = "a folder" if output.is_dir() else "an existing file (give --overwrite to replace it)"
            raise ExistingError(f"{job.photo}: expected no file {output} yet, got {hint}")
    folder = next(parent for parent in job.result.parents if os.path.lexists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise PhotoError(f"{job.photo}: expected a folder to write {job.result.name} to, got {folder}, which is none")


@contextmanager
def written_together(job: Job) -> Iterator[dict[Path, Path]]:
    """Gives a temporary name for each result; they take their places if, and only if, no error occurs.

    Raises:
        BusyError: If another process is at work on the same results.
        PhotoError: If the results cannot be written.
    """
    parent = job.result.parent
    try:
        with claimed(job.result) as place:
            names = {output: place.folder / output.name for output in job.outputs}
            try:
                yield names
            except PhotoError as error:
                raise type(error)(str(error).replace(str(place.folder), str(parent))) from error
            # The map comes last: it holds the record that tells a finished photo.
            place.commit(sorted((output.name for output in names), key=lambda name: name == job.defocus_map.name))
    except OSError as error:
        raise PhotoError(f"{job.result}: the results cannot be written: {error.strerror or error}") from error
