"""Shows training runs: as one HTML page from their logs, or as a dashboard at Weights & Biases.

    python train/dashboard.py runs/small runs/other -o dashboard.html
    python train/dashboard.py runs/small --wandb scorefocus

Both have the panels of `train/dashboard_panels.py`. The page needs nothing but itself, and runs need not be finished.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the dashboard; returns the exit code."""
    parser = Parser(prog="train/dashboard.py", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a training run, with log.jsonl")
    parser.add_argument("-o", "--out", metavar="FILE", help="HTML page to write (default: dashboard.html)")
    parser.add_argument("--link", action="store_true", help="link pictures relative to the page instead of embedding")
    parser.add_argument("--wandb", metavar="PROJECT", help="build the dashboard in this W&B project instead")
    parser.add_argument("--entity", help="user or team of the W&B project (default: your own)")
    arguments = parser.parse_args(argv)
    if arguments.wandb is None and arguments.entity is not None:
        parser.error("--entity belongs to --wandb")
    if arguments.wandb is not None and (arguments.out or arguments.link):
        parser.error("-o and --link belong to the page, not to --wandb")

    # Only now the slow imports: --help and usage errors answer at once.
    from train.run_log import read_run

    try:
        runs = [read_run(folder, name) for folder, name in zip(arguments.runs, _names(arguments.runs), strict=True)]
        if arguments.wandb is not None:
            from train.dashboard_wandb import save_workspace

            print(save_workspace(arguments.wandb, arguments.entity, runs))
        else:
            from train.dashboard_page import write_dashboard

            out = Path(arguments.out or "dashboard.html")
            write_dashboard(out, runs, link_pictures=arguments.link)
            print(out)
    except (ValueError, OSError) as error:
        return report_error("train/dashboard.py", error, 1)
    return 0


def _names(folders: Sequence[str]) -> list[str]:
    """Names of runs: of their folders, with as many parents as it takes to tell them apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    depth = 1
    while len({part[-depth:] for part in parts}) < len({*parts}):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _main() -> int:
    code = main()
    if code and "wandb" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        # Past W&B's own hook, which complains of the process that was ended.
        os._exit(code)
    return code


if __name__ == "__main__":
    run_command(_main)
