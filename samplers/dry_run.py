"""What photos would cost: tiles, evaluations, and time by a probe on a piece of the first photo."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion.tiles import tiles
from photos import ValueRange, open_pages
from samplers.batch import Job
from samplers.batch_run import FAILURES, BatchRun, FinishedError
from samplers.memory import fitting_tile, free_bytes, peak_bytes
from samplers.one_photo import check_map
from samplers.posterior_samples import SamplesMethod
from samplers.restoring import Method, ScoreMethod
from samplers.tiling import TiledNetwork
from samplers.wishes import Wishes

__all__ = ["Probe", "print_estimates", "probe"]

_SIDE = 256  # of the probe in pixels


@dataclass(frozen=True)
class Probe:
    """What a restoration of a small piece took.

    Attributes:
        pixels: Its pixels.
        network_seconds: Time in the network.
        other_seconds: Time in all else.
        evaluations: Network evaluations.
    """

    pixels: int
    network_seconds: float
    other_seconds: float
    evaluations: int = 0

    def seconds(self, height: int, width: int, seen: int) -> float:
        """Time that a photo would take.

        Args:
            height: Of the photo in pixels.
            width: Of the photo in pixels.
            seen: Pixels that the network sees in one evaluation, tiles' margins included.
        """
        return (self.other_seconds * height * width + self.network_seconds * seen) / self.pixels


def probe(image: Tensor, method: Method) -> Probe:
    """Restores the middle of a photo, blurred so that there is something to do.

    Args:
        image: Capture in [0, 1], shape (1, 3, H, W).
        method: How photos are restored.
    """
    top, left = ((side - min(side, _SIDE)) // 2 for side in image.shape[-2:])
    piece = image[..., top : top + _SIDE, left : left + _SIDE]
    piece = F.avg_pool2d(F.pad(piece, (3, 3, 3, 3), mode="replicate"), 7, 1).clamp(0, 1)
    method(piece[..., :64, :64], None)  # The first call of everything is slower.
    start = time.perf_counter()
    restored = method(piece, None)
    whole = time.perf_counter() - start
    pixels = piece.shape[-2] * piece.shape[-1]
    score = _score_method(method)
    if score is None:
        return Probe(pixels, 0.0, whole, restored.evaluations)
    network = TiledNetwork(score.pipeline.score_network, _SIDE, score.settings.precision)
    start = time.perf_counter()
    with torch.no_grad():
        network(2 * piece - 1, torch.tensor(0.1)).mean().item()
    in_network = min(whole, restored.evaluations * (time.perf_counter() - start))
    return Probe(pixels, in_network, whole - in_network, restored.evaluations)


def _score_method(method: Method) -> ScoreMethod | None:
    """The diffusion sampler in a method, which may draw several samples by it."""
    inner = method.method if isinstance(method, SamplesMethod) else method
    return inner if isinstance(inner, ScoreMethod) else None


def print_estimates(
    jobs: Sequence[Job], method: Method, device: torch.device, value_range: ValueRange | None, run: BatchRun,
    radius_map: np.ndarray | None, wishes: Wishes, given: Mapping[str, str | None],
) -> None:  # fmt: skip
    """Prints a line for each photo and one for all, and reports what would fail.

    Args:
        jobs: The photos.
        method: How they are restored.
        device: Where.
        value_range: Stored values of black and white.
        run: Takes note of photos that cannot be read, restored or written.
        radius_map: The map that was given, if one was.
        wishes: What is to stay.
        given: Names of `map` and `mask`, as of `BatchRun.restore`.
    """
    measured, total, estimated, score = None, 0.0, 0, _score_method(method)
    network = None if score is None else score.pipeline.score_network
    for job in jobs:
        try:
            run.check(job)
            pages = open_pages(job.photo, value_range)
            photo = next(iter(pages))
            check_map(photo, radius_map)
            wishes.check(photo.pixels.shape[:2])
            if measured is None:
                measured = probe(torch.from_numpy(photo.pixels).permute(2, 0, 1)[None].to(device).contiguous(), method)
        except FinishedError:
            print(f"{job.photo}: kept, it is done")
            continue
        except FAILURES as error:
            run.failed(job, error, given)
            continue
        estimated += 1
        height, width = photo.pixels.shape[:2]
        parts, seen, tile = [f"{width} x {height}" + (f" x {len(pages)}" if len(pages) > 1 else "")], 0, 0
        if network is not None:
            tile = fitting_tile(score.settings.tile, height, width, network, free_bytes(device))
            seen, count = _seen(height, width, tile, network.receptive_field)
            parts.append(f"{count} tile{'s' * (count > 1)} of {tile}")
        if measured.evaluations:
            parts.append(f"{measured.evaluations * len(pages)} evaluations")
        seconds = len(pages) * measured.seconds(height, width, seen)
        total += seconds
        parts += [f"about {seconds:.0f} s", f"about {peak_bytes(height, width, tile, network) / 1e9:.1f} GB"]
        print(f"{job.photo}: {', '.join(parts)}")
    if not estimated:
        return
    free = free_bytes(device)
    print(f"{estimated} photos: about {total:.0f} s on {device}" + (f", {free / 1e9:.1f} GB free" if free else ""))


def _seen(height: int, width: int, tile: int, halo: int) -> tuple[int, int]:
    """Pixels that the network sees in one evaluation of a photo, and the number of tiles."""
    seen = [math.prod(side.stop - side.start for side in part.read) for part in tiles(height, width, tile, halo)]
    return sum(seen), len(seen)
