"""Exports the average of a run's weights over another length than those it tracked.

    python train/average.py runs/base --length 0.07 -o runs/base/length-0.07

The run has left snapshots of its averages in `averages/`; see `train/averaging.py`. The result is a
pipeline folder for `samplers/deblur.py --weights`.
"""

from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    parser = Parser(prog="train/average.py", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run of train/score.py")
    parser.add_argument("--length", type=float, required=True, help="share of the run that the average spreads over")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where; must not exist")
    parser.add_argument("--step", type=int, help="optimizer step with a snapshot; the last one by default")
    arguments = parser.parse_args(argv)
    try:
        print(export_average(arguments.run, arguments.length, arguments.output, arguments.step))
    except (ValueError, OSError) as error:
        return report_error("train/average.py", error, 1)
    return 0


def export_average(run: Path, length: float, folder: Path, step: int | None = None) -> str:
    """Writes the average of a length as the run's own export is written; returns a sentence on what was done.

    Args:
        run: Folder of a run.
        length: Standard deviation of the average's profile as a share of the steps.
        folder: Where to write; must not exist.
        step: Optimizer step with a snapshot; the last one by default.

    Raises:
        ValueError: If the run has no such snapshot or the length is impossible.
        FileExistsError: If the folder exists.
    """
    from dataclasses import asdict

    from diffusion import ScoreNetwork
    from samplers.config import ConfigError, load_config
    from train.averaging import combine, find_snapshots
    from train.config import ScoreConfig
    from train.export import export_pipeline

    if folder.exists():
        raise FileExistsError(f"{folder}: expected the name of a new folder, got one that exists")
    snapshots = find_snapshots(run / "averages")
    step = snapshots[-1].step if step is None else step
    weights, error = combine(snapshots, step, length)
    try:
        config = load_config(ScoreConfig, run / "config.yaml")
    except ConfigError as error:
        raise ValueError(f"{run}: expected the settings of a run of train/score.py, got others: {error}") from None
    network = ScoreNetwork(**asdict(config.network), sigma_max=config.noise.sigma_max)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ValueError(f"{run}: expected snapshots of the network in config.yaml, got those of another") from None
    export_pipeline(network, folder, config.noise, config.pipeline)
    advice = "" if error < 0.05 else "; too far from the lengths that were tracked, or too few snapshots"
    return f"average of length {length} at step {step} in {folder}; its profile is met to {error:.2%}{advice}"


if __name__ == "__main__":
    run_command(main)
