"""Finds how much the latent prior's regression is to weigh in the sampler's guidance.

    python train/second_estimate.py runs/prior2 --weights runs/prior2/export --count 12

The pipeline of the weights restores captures of the run's held-out photos, simulated with the settings of the
run or, of real pairs alone, held out of these, blind, with every pair of `latent_prior_variance` and
`latent_prior_fade` below, and without its latent prior.
Rows are listed by the mean gain in PSNR over the capture, the best first; beside it stands the gain of the worst
eighth. The regression alone has a row too.
"""

from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

VARIANCES = (1.0, 4.0, 16.0, 64.0)
FADES = (0.0, 0.03, 0.1)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints the table; returns the exit code."""
    parser = Parser(prog="train/second_estimate.py", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run of train/latent_prior.py")
    parser.add_argument("--weights", required=True, metavar="DIR", help="saved pipeline with a latent_prior")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="captures (default: 12)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="other settings of the sampler")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.count < 1:
        parser.error(f"--count: expected at least 1, got {arguments.count}")
    try:
        for name, mean, worst in _compare(arguments.run, arguments.weights, arguments.count, arguments.overrides):
            print(f"{name:28s}  gain {mean:+.3f} dB  worst eighth {worst:+.3f} dB")
    except (ValueError, OSError) as error:
        return report_error("train/second_estimate.py", error, 1)
    return 0


def _compare(run: Path, weights: str, count: int, overrides: Sequence[str]) -> list[tuple[str, float, float]]:
    """Rows of what was done, mean gain and that of the worst eighth in dB, by falling mean."""
    from dataclasses import replace
    from itertools import product

    import torch

    from evaluation.metrics import psnr
    from restorers.swin_diff import SwinDiffRestorer
    from samplers.config import load_config
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.settings import SamplerSettings
    from train.latent_prior_config import LatentPriorConfig
    from train.real_pairs import open_pairs

    config = load_config(LatentPriorConfig, run / "config.yaml")
    settings = load_config(SamplerSettings, None, overrides)
    pipeline = DefocusDeblurPipeline.from_pretrained(weights)
    if pipeline.latent_prior is None:
        raise ValueError(f"{weights}: expected a pipeline with a latent_prior, got one without")
    _, pairs, _ = open_pairs(config, run, lambda line: None)
    regression = SwinDiffRestorer(pipeline.latent_prior, settings.tile, settings.precision)

    def sampled(**changes) -> object:  # noqa: ANN003 - settings
        return lambda y: pipeline(y, settings=replace(settings, **changes)).image

    ways = {"regression alone": regression, "without": sampled(latent_prior="off")}
    for variance, fade in product(VARIANCES, FADES):
        name = f"variance {variance:g}  fade {fade:g}"
        ways[name] = sampled(latent_prior="on", latent_prior_variance=variance, latent_prior_fade=fade)
    gains = {name: [] for name in ways}
    for number in range(count):
        x, y = (torch.from_numpy(picture.astype("float32"))[None] / 255 for picture in pairs.pair(number))
        for name, restore in ways.items():
            gains[name].append(psnr(restore(y), x) - psnr(y, x))
    rows = [(name, sum(gain) / count, sum(sorted(gain)[: max(count // 8, 1)]) / max(count // 8, 1))
            for name, gain in gains.items()]  # fmt: skip
    return sorted(rows, key=lambda row: -row[1])


if __name__ == "__main__":
    run_command(main)
