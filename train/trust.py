"""Finds how much of a restoration to trust, on simulated captures whose blur is not what the sampler supposes.

    python train/trust.py data.root=PHOTOS --weights weights/small --count 36

Captures are simulated from sharp photos with random lenses, cameras and files (see `optics/simulation.py`), the map
and the lens are estimated, and the weights of `samplers/trust.py` are those with the least squared error. Left out
are pictures in which the pipeline's own map finds blur before any is simulated: photos hold bokeh, and sharpening it
would count as error. Printed are the weights, and the mean gain without, with, and with weights found on the other
captures.
"""

import argparse
import sys
from collections.abc import Sequence

from samplers.command_line import Parser, report_error, seed
from samplers.standard_streams import run_command

_SIDE = 192  # pixels
_BLOCK = 16  # pixels
_BLURRED_ALREADY = 0.06  # share of the pixels
_RIDGE = 1e-4
_TRIES = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints the weights; returns the exit code."""
    parser = Parser(prog="train/trust.py", description=__doc__)
    parser.add_argument("overrides", nargs="+", metavar="data.root=PHOTOS", help="settings of the photos")
    parser.add_argument("--weights", default="weights/base", metavar="DIR", help="pipeline (default: weights/base)")
    parser.add_argument("--preset", default="fast", help="settings in configs/deblur/ (default: fast)")
    parser.add_argument("--count", type=int, default=36, metavar="N", help="captures (default: 36)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the captures (default: 0)")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.count < 2:
        parser.error(f"--count: expected at least 2, got {arguments.count}")
    from samplers.config import ConfigError

    try:
        _find(arguments)
    except ConfigError as error:
        return report_error("train/trust.py", error, 2)
    except (ValueError, OSError) as error:
        return report_error("train/trust.py", error, 1)
    return 0


def _find(arguments: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from samplers.config import load_config
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.settings import SamplerSettings, preset_file
    from train.checked_settings import load_settings
    from train.defocus_map_config import DefocusMapConfig

    data = load_settings(DefocusMapConfig, None, [*arguments.overrides, "run.dir=unused"]).data
    pipeline = DefocusDeblurPipeline.from_pretrained(arguments.weights)
    settings = load_config(SamplerSettings, preset_file(arguments.preset), ["trust=null"])
    captures = _captures(data, pipeline, arguments.count, arguments.seed)
    sums = [_sums(pipeline, settings, y, x) for y, x in tqdm(captures, total=arguments.count, disable=None)]
    everything = torch.stack([fit_trust([other for other in sums if other is not left_out]) for left_out in sums])
    weights = fit_trust(sums)
    print("weights " + " ".join(f"{value:.2f}" for value in weights))
    for name, per_capture in (
        ("without", [None] * len(sums)), ("with", [weights] * len(sums)), ("with those of the others", everything),
    ):  # fmt: skip
        gains = torch.stack([_gain(one, given) for one, given in zip(sums, per_capture, strict=True)])
        print(
            f"{name}: mean gain {gains.mean():+.2f} dB, worst {gains.min():+.2f} dB, "
            f"{(gains < -0.1).double().mean():.0%} lose more than 0.1 dB"
        )


def fit_trust(sums: list):  # noqa: ANN201 - Tensor, imported late
    """Weights of least squared error, each capture's error relative to what it was, shape (3,).

    Args:
        sums: For each capture, features (N, 3) and, of its N blocks, the mean squares of change and error and the mean
            of their product.
    """
    import torch

    weights = torch.zeros(3, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = sum(_relative_error(one, weights) for one in sums) / len(sums) + _RIDGE * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def _relative_error(sums: tuple, weights):  # noqa: ANN001, ANN202
    """Squared error of y + a (x^ - y) relative to that of y: with e = x - y and d = x^ - y, E (e - a d)^2 / E e^2."""
    import torch

    features, change, error, product = sums
    share = 1.0 if weights is None else torch.sigmoid(features @ weights)
    return (error - 2 * share * product + share**2 * change).mean() / error.mean()


def _gain(sums: tuple, weights):  # noqa: ANN001, ANN202
    import torch

    return -10 * torch.log10(torch.as_tensor(_relative_error(sums, weights)))


def _sums(pipeline, settings, y, x) -> tuple:  # noqa: ANN001
    """Restores a capture; what `fit_trust` takes of it."""
    from torch.nn import functional as F

    from samplers.trust import trust_features

    restored = pipeline(y, settings=settings)
    change, error = restored.image - y, x - y
    pictures = [trust_features(restored.radius_map, restored.confidence)]
    pictures += [values.mean(1, keepdim=True) for values in (change**2, error**2, change * error)]
    features, *means = (F.avg_pool2d(values.double(), _BLOCK)[0].flatten(1).T for values in pictures)
    return features, *(mean[:, 0] for mean in means)


def _captures(data, pipeline, count: int, seed: int):  # noqa: ANN001, ANN202
    """Yields so many captures with their sharp photos, in [0, 1], shape (1, 3, H, W)."""
    from dataclasses import replace

    import numpy as np
    import torch

    from optics import TYPICAL
    from optics.simulation import Simulator
    from samplers.map_estimators import map_estimator
    from train.patches import draw_patch
    from train.photo_cache import PhotosInMemory
    from train.photo_choice import choose_photos
    from train.simulated_captures import sharp_throughout

    simulator = Simulator()
    needed = _SIDE + 2 * simulator.margin
    data = replace(data, patch=8 * -(-needed // 8))
    files, _ = choose_photos(data, lambda line: print(line, file=sys.stderr))
    photos = PhotosInMemory(files, data.cache_gib)
    estimate = map_estimator(None, pipeline.defocus_map, TYPICAL)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        for _ in range(_TRIES):
            patch = draw_patch(lambda rng: photos[int(rng.integers(len(photos)))], data, rng)[:needed, :needed]
            photo = torch.from_numpy(patch.astype(np.float32).transpose(2, 0, 1) / 255).contiguous()
            found, _ = estimate(photo[None], None)
            if sharp_throughout(patch, 2.2) and (found > 0).float().mean() < _BLURRED_ALREADY:
                break
        else:
            raise ValueError(f"{data.root}: expected photos in focus throughout, got none in {_TRIES} parts of photos")
        capture = simulator(photo, rng)
        yield capture.y[None], capture.x[None].contiguous()


if __name__ == "__main__":
    run_command(main)
