"""Runs a sweep of trainings one after the other on this machine, without an account anywhere.

    python train/sweep.py configs/sweeps/lr.yaml data.root=PHOTOS run.dir=runs/lr

The file is one of Weights & Biases (`wandb sweep` takes it too). Each run gets a folder in run.dir, named after its
values; other settings go to every run, and W&B is written offline unless run.wandb says otherwise. Run the same
command again to go on: finished runs are skipped, interrupted ones resume. At the end run.dir holds results.md and
results.json, best run first.
"""

import json
import math
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.exit_codes import INTERRUPTED
from samplers.standard_streams import run_command

PROJECT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the sweep; returns the exit code, 1 if a run failed."""
    parser = Parser(prog="train/sweep.py", description=__doc__)
    parser.add_argument("sweep", help="YAML file of a sweep, as in configs/sweeps/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run; run.dir is needed")
    parser.add_argument("--count", type=int, metavar="N", help="number of runs (default: run_cap of the file)")
    parser.add_argument("--seed", type=int, default=0, help="seed of a random sweep (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    arguments = parser.parse_intermixed_args(argv)
    settings = dict(word.partition("=")[::2] for word in arguments.overrides)
    if not all("=" in word and not word.startswith("=") for word in arguments.overrides):
        parser.error(f"expected assignments key=value, got {' '.join(arguments.overrides)}")
    if not settings.get("run.dir"):
        parser.error("run.dir=DIR is needed: the folder of the sweep")
    if arguments.count is not None and arguments.count < 1:
        parser.error(f"--count must be at least 1, got {arguments.count}")
    if arguments.seed < 0:
        parser.error(f"--seed must be 0 or more, got {arguments.seed}")

    # Only now the slow imports: --help and usage errors answer at once.
    from train.sweep_plan import read_sweep

    try:
        plan = read_sweep(arguments.sweep, arguments.count, arguments.seed)
        both = sorted(settings.keys() & (plan.constants.keys() | _varying(plan)))
        if both:
            raise ValueError(f"{', '.join(both)} is a parameter of {arguments.sweep}; change it there")
        return _run_all(plan, Path(settings.pop("run.dir")), settings, dry_run=arguments.dry_run)
    except (ValueError, OSError) as error:
        return report_error("train/sweep.py", error, 1)
    except KeyboardInterrupt:
        return report_error("train/sweep.py", "interrupted; the same command goes on", INTERRUPTED)


def _run_all(plan, root: Path, settings: dict[str, str], *, dry_run: bool) -> int:  # noqa: ANN001 - SweepPlan
    from photos.files import make_folder

    # The file is for W&B's agent, too, whose runs are online.
    settings, results = {"run.wandb": "offline"} | settings, []
    named: dict[str, dict] = {}
    for combination in plan.combinations:
        if named.setdefault(name := folder_name(combination), combination) != combination:
            raise ValueError(f"expected runs whose folders differ, got two called {name}: give values other spellings")
    if not dry_run:
        make_folder(root)
    for number, combination in enumerate(plan.combinations, start=1):
        folder = root / folder_name(combination)
        # Later words win over the ones for the agent of W&B.
        words = [_of_project(word) for word in plan.words(combination)]
        words += [*(f"{k}={v}" for k, v in settings.items()), f"run.dir={folder.resolve()}"]
        print(f"[{number}/{len(plan.combinations)}] {shlex.join(words)}", flush=True)
        if not dry_run:
            results.append(_run(words, folder, combination, plan.metric))
            print(f"    {results[-1]['status']}, {plan.metric} {_shown(results[-1]['value'])}", flush=True)
    if not dry_run:
        _write_results(plan, root, results)
    return int(any(result["status"] == "failed" for result in results))


def _of_project(word: str) -> str:
    """The whole path of a script or configuration of the project; all else is relative to the folder of the caller."""
    return str(PROJECT / word) if "=" not in word and (PROJECT / word).is_file() else word


def _run(words: list[str], folder: Path, combination: dict[str, object], metric: str) -> dict:
    """Runs one training, unless the same command has finished before."""
    from photos.files import make_folder, replacing
    from train.run_log import read_run

    # What finished by another command has to answer for it itself: a run refuses settings that changed.
    done, started = folder / "sweep.json", time.monotonic()
    try:
        record = json.loads(done.read_text(encoding="utf-8"))
        finished = record["command"] == words[1:]
    except (OSError, ValueError, KeyError, TypeError):
        record, finished = {}, False
    if finished:
        status, seconds = "skipped, finished before", record.get("seconds")
    else:
        code = subprocess.run(words).returncode
        status, seconds = "finished" if code == 0 else "failed", round(time.monotonic() - started, 1)
        if code == 0:
            make_folder(folder)
            with replacing(done) as temporary:
                temporary.write_text(json.dumps({"command": words[1:], "seconds": seconds}) + "\n", encoding="utf-8")
    # In the folder of a run that could not begin there may be the log of another.
    run = read_run(folder) if status != "failed" else None
    value, steps = (None, 0) if run is None else (run.last(metric), run.last_step)
    logged = {key for line in run.lines for key in line} - {"step"} if run else {metric}
    if metric not in logged:
        # All others would lack it too.
        known = ", ".join(sorted(logged))
        raise ValueError(f"{folder}: expected figures of {metric}, by which the sweep ranks, got those of {known}")
    return {
        "parameters": combination, "folder": folder.name, "status": status, "value": value, "steps": steps,
        "seconds": seconds,
    }  # fmt: skip


def folder_name(combination: dict[str, object]) -> str:
    """A folder's name for the values of a run: the last parts of their keys where these differ."""
    last = [key.rpartition(".")[2] for key in combination]
    names = last if len(set(last)) == len(last) else list(combination)
    words = [f"{name}={value}" for name, value in zip(names, combination.values(), strict=True)]
    plain = ",".join("".join(c if c.isalnum() or c in "._-=" else "-" for c in word) for word in words)
    return plain or "run"


def _write_results(plan, root: Path, results: list[dict]) -> None:  # noqa: ANN001 - SweepPlan
    from photos.files import replacing

    sign = -1 if plan.maximize else 1
    ranked = sorted(results, key=lambda r: (r["value"] is None, sign * (r["value"] or 0)))
    keys = list(dict.fromkeys(key for result in ranked for key in result["parameters"]))
    goal = "more is better" if plan.maximize else "less is better"
    head = [*keys, plan.metric, "steps", "seconds", "status"]
    lines = [f"Ranked by {plan.metric}, {goal}.", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for result in ranked:
        cells = [result["parameters"].get(key, "–") for key in keys]
        cells += [_shown(result["value"]), result["steps"], _shown(result["seconds"]), result["status"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    table = "\n".join(lines) + "\n"
    content = {
        "schema_version": 1, "metric": plan.metric, "maximize": plan.maximize, "constants": plan.constants,
        "runs": ranked,
    }  # fmt: skip
    for name, text in (("results.md", table), ("results.json", json.dumps(content, indent=1) + "\n")):
        with replacing(root / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"\n{table}")


def _varying(plan) -> set[str]:  # noqa: ANN001 - SweepPlan
    return {key for combination in plan.combinations for key in combination}


def _shown(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.5g}"


if __name__ == "__main__":
    run_command(main)
