"""What estimated defocus maps are measured on, case by case: simulated captures, and two sets of real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PROTOCOLS", "MapCase", "Protocol"]


class MapCase(NamedTuple):
    """One capture whose map is estimated.

    Attributes:
        group: What gets means of its own.
        name: Name, unique in its group.
        y: Capture in [0, 1], shape (1, 3, H, W).
        figures: Of an estimate, radius and confidence of shape (1, 1, H, W), by their names.
    """

    group: str
    name: str
    y: Tensor
    figures: Callable[[Tensor, Tensor], dict[str, float]]


class Protocol(NamedTuple):
    """Cases of a folder, and the figure that tables show first.

    Attributes:
        cases: Cases of a folder, at most so many photos, every so many-th of them.
        figure: Name of the figure.
        title: What it is.
    """

    cases: Callable[[Path, int | None, int], Iterator[MapCase]]
    figure: str
    title: str


def _simulated(root: Path, count: int | None, stride: int) -> Iterator[MapCase]:
    """Maps of `evaluation.simulated`, disks and noise of 0.01; and random scenes, lenses, cameras and files."""
    import numpy as np
    import torch

    from evaluation.map_figures import radius_errors
    from evaluation.simulated import CROP, simulations
    from optics.simulation import Simulator
    from photos import read

    simulator = Simulator()
    side = CROP + 2 * simulator.margin
    for simulation in simulations(root, count, stride):
        capture = simulation.capture()
        yield MapCase(simulation.map_name, capture.name, capture.y, _against(radius_errors, capture.radius_map))
        if simulation.map_name != "constant":
            continue
        # After a photo's last map: the same photo in a world that no estimator supposes.
        photo = torch.from_numpy(read(simulation.file).pixels).permute(2, 0, 1)
        height, width = (min(side, length) for length in photo.shape[1:])
        top, left = (photo.shape[1] - height) // 2, (photo.shape[2] - width) // 2
        photo = photo[:, top : top + height, left : left + width]
        random = simulator(photo, np.random.default_rng([1, simulation.index]))
        yield MapCase("mismatched", capture.name, random.y[None], _against(radius_errors, random.radius_map[None]))


def _against(compare: Callable, truth: Tensor) -> Callable[[Tensor, Tensor], dict[str, float]]:
    return lambda radius, confidence: compare(radius, confidence, truth)


def _pixel4(root: Path, count: int | None, stride: int) -> Iterator[MapCase]:
    """Published maps of unknown scale and sign, at half size, where they know the radius and off the border."""
    import torch

    from evaluation.map_figures import rank_correlation
    from evaluation.paired_sets import PAIRED_SETS
    from photos import read_map

    paired_set = PAIRED_SETS["pixel4_dp"]
    for files in paired_set.pairs(root)[::stride][:count]:
        if files.defocus_map is None:
            raise ValueError(f"{root}: expected a folder defocus_map with a map of each capture, got none")
        capture = paired_set.capture(files)
        published = torch.from_numpy(read_map(files.defocus_map))[None, None]
        # 0 is no radius but what was not measured: surfaces without texture, and the gaps between objects.
        known = torch.nn.functional.avg_pool2d((published > 0).float(), 2) == 1
        published = torch.nn.functional.avg_pool2d(published, 2)
        if published.shape[-2:] != capture.y.shape[-2:]:
            raise ValueError(f"{files.defocus_map}: expected a map of the size of {files.capture}, got another size")
        inner = slice(capture.border, -capture.border)
        known = known[..., inner, inner].numpy()
        published = published[..., inner, inner].numpy()[known]

        def figures(
            radius: Tensor, confidence: Tensor, published=published, known=known, inner=inner  # noqa: ANN001
        ) -> dict[str, float]:
            signed = rank_correlation(radius[..., inner, inner].numpy()[known], published)
            return {"rank_correlation": abs(signed), "signed": signed, "confidence": float(confidence.mean())}

        yield MapCase("pixel4_dp", capture.name, capture.y, figures)


def _cuhk(root: Path, count: int | None, stride: int) -> Iterator[MapCase]:
    """Hand-made masks, white where a photo is out of focus; photos that are so nowhere or everywhere are left out."""
    from evaluation.map_figures import area_under_curve
    from evaluation.paired_sets import find_sets
    from evaluation.paired_sets.reading import read_capture

    files = [files for known, place in find_sets(root) for files in known.pairs(place) if files.mask is not None]
    if not files:
        raise ValueError(f"{root}: expected photographs with masks of what is out of focus, got none")
    for one in files[::stride][:count]:
        capture = read_capture(one)
        mask = capture.mask.numpy()
        if mask.all() or not mask.any():
            continue

        def figures(radius: Tensor, confidence: Tensor, mask=mask) -> dict[str, float]:  # noqa: ANN001
            area = area_under_curve(radius.numpy(), mask)
            return {"area_under_curve": area, "confidence": float(confidence.mean())}

        yield MapCase("cuhk", capture.name, capture.y, figures)


PROTOCOLS = {
    "simulated": Protocol(_simulated, "error_px", "mean absolute error of the radius, pixels"),
    "pixel4_dp": Protocol(_pixel4, "rank_correlation", "rank correlation with the published map, without its sign"),
    "cuhk": Protocol(_cuhk, "area_under_curve", "area under the curve, radius against mask"),
}
