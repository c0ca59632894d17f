"""Says where the time of a restoration goes: the map, the lens, the latent prior, the network, the data step, the rest.

    python evaluation/cost.py PHOTO [--preset fast] [--size 1024x1024] [--weights DIR]

The photo is continued by its mirror image, or cut, to the size that is asked for, and restored blind once as
`samplers/deblur.py` does, without files; one restoration of a small piece goes before, so that nothing is done for the
first time. A row of Markdown is printed. The profiler itself takes less than a hundredth of the time.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

if TYPE_CHECKING:
    from torch import Tensor

    from samplers import DefocusDeblurPipeline
    from samplers.settings import SamplerSettings

COLUMNS = ("map", "lens", "latent prior", "network", "data step", "rest")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, restores and prints; returns the exit code."""
    parser = Parser(prog="evaluation/cost.py", description=__doc__)
    add = parser.add_argument
    add("photo", type=Path, metavar="PHOTO", help="a photo that is out of focus somewhere")
    add("--preset", choices=("fast", "balanced", "best"), default="fast", help="settings of the sampler (fast)")
    add("--size", type=_size, metavar="WxH", help="pixels (default: the photo's)")
    add("--weights", default="weights/base", metavar="DIR", help="folder of a saved pipeline (weights/base)")
    add("--threads", type=int, metavar="N", help="of the CPU (default: what PyTorch takes)")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None and arguments.threads < 1:
        parser.error(f"--threads: expected at least 1, got {arguments.threads}")
    # Only now the slow imports: --help and usage errors answer at once.
    import torch

    from photos import PhotoError, read
    from samplers import DefocusDeblurPipeline
    from samplers.config import load_config
    from samplers.settings import SamplerSettings, preset_file
    from samplers.weights import WeightsError

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    try:
        pipeline = DefocusDeblurPipeline.from_pretrained(arguments.weights)
        image = torch.from_numpy(read(arguments.photo).pixels).permute(2, 0, 1)[None].contiguous()
    except (WeightsError, PhotoError) as error:
        return report_error("evaluation/cost.py", error, 2 if isinstance(error, WeightsError) else 1)
    settings = load_config(SamplerSettings, preset_file(arguments.preset))
    try:
        if arguments.size is not None:
            image = mirrored(image, *arguments.size)
        pipeline(image[..., :64, :64].contiguous(), settings=settings)
        seconds, blurred = profile(pipeline, image, settings)
    except (RuntimeError, MemoryError) as error:
        size = "x".join(map(str, arguments.size or image.shape[:1:-1]))
        return report_error("evaluation/cost.py", f"expected to restore {size} pixels, got: {error}", 1)
    height, width = image.shape[-2:]
    print(f"| photo | blurred | preset | {' | '.join(COLUMNS)} | all, s |\n|---|---|---|{'---|' * (len(COLUMNS) + 1)}")
    cells = " | ".join(f"{seconds[column]:.1f}" for column in COLUMNS)
    print(f"| {width} x {height} | {blurred:.0%} | `{arguments.preset}` | {cells} | {sum(seconds.values()):.1f} |")
    networks = (seconds["network"] + seconds["latent prior"]) / sum(seconds.values())
    print(f"\nNetwork and latent prior: {networks:.0%}; {torch.get_num_threads()} threads")
    return 0


def mirrored(image: "Tensor", width: int, height: int) -> "Tensor":
    """A photo continued by its mirror images to a size, or cut to it: (1, 3, h, w) -> (1, 3, height, width)."""
    import torch

    for axis, length in ((-1, width), (-2, height)):
        tile = torch.cat([image, image.flip(axis)], axis)
        copies = -(-length // tile.shape[axis])
        image = torch.cat(copies * [tile], axis).narrow(axis, 0, length)
    return image.contiguous()


def profile(
    pipeline: "DefocusDeblurPipeline", image: "Tensor", settings: "SamplerSettings"
) -> tuple[Mapping[str, float], float]:
    """Restores a photo blind.

    Args:
        pipeline: Restores it.
        image: In [0, 1], shape (1, 3, H, W).
        settings: Of the sampler.

    Returns:
        Seconds by `COLUMNS`, and the share of pixels that are blurred by the estimated map.
    """
    profiler = cProfile.Profile()
    profiler.enable()
    result = pipeline(image, settings=settings)
    profiler.disable()
    stats = pstats.Stats(profiler).stats
    seconds = {column: sum(_seconds(stats, part) for part in parts) for column, parts in _parts().items()}
    seconds["rest"] = _seconds(stats, type(pipeline).__call__) - sum(seconds.values())
    return seconds, float((result.radius_map > 0).float().mean())


def _parts() -> Mapping[str, Sequence[Callable]]:
    """The functions that each column but the last is made of; none calls another of them."""
    from optics import UnknownLens
    from samplers.guidance.likelihood import GuidedDenoiser
    from samplers.latent_guide import LatentGuide
    from samplers.map_estimators import estimate_map
    from samplers.tiling import TiledNetwork

    return {
        "map": [estimate_map],
        "lens": [UnknownLens.found],
        "latent prior": [LatentGuide.prior, LatentGuide.second_estimate],
        "network": [TiledNetwork.forward],
        "data step": [GuidedDenoiser.increment],
    }


def _seconds(stats: Mapping, function: Callable) -> float:
    """Time in a function and what it calls."""
    # The profiler sees the function that a decorator as torch.no_grad wraps.
    code = getattr(function, "__wrapped__", function).__code__
    return stats.get((code.co_filename, code.co_firstlineno, code.co_name), (0, 0, 0, 0.0))[3]


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
        if min(width, height) < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a size in pixels as 1024x768, got {text}") from None
    return width, height


if __name__ == "__main__":
    run_command(main)
