"""Measures estimators of defocus maps.

    python evaluation/defocus_maps.py simulated PHOTOS -o DIR [--weights DIR] [--methods evidence,fused]
    python evaluation/defocus_maps.py pixel4_dp|cuhk FOLDER -o DIR ...

  simulated   PHOTOS are sharp: error in pixels on the maps of the simulated protocol, whose blur and noise the
              evidence supposes, and (mismatched) on random scenes, lenses, cameras and files
  pixel4_dp   rank correlation with published maps, at half size
  cuhk        separation of hand-made masks of what is out of focus by the radius

Estimators do what the pipeline does with a lens that is unknown: a second estimate where the first one shows another
PSF than was assumed. With `-once` after its name an estimator keeps to the first, by a typical lens. Those that need
a network take it from the folder of weights, of which `defocus_map/` is enough. Figures are of the estimates
themselves; `acted_upon` is the first of them for what a restorer makes of an estimate, who leaves alone what is
unknown or all but sharp.
Results are DIR/defocus_maps.json and DIR/defocus_maps.md; the table is printed.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

PROTOCOLS = ("simulated", "pixel4_dp", "cuhk")
SCHEMA = 2
ONCE = "-once"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = Parser(prog="evaluation/defocus_maps.py", description=__doc__)
    add = parser.add_argument
    add("protocol", choices=PROTOCOLS, help="what is measured")
    add("folder", type=Path, metavar="FOLDER", help="sharp photos, or the set of captures")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results, replacing older")
    add("--weights", metavar="DIR", help="folder of weights with a defocus_map (default: only what needs none)")
    add("--methods", metavar="A,B", help="estimators (default: all that can be, none of them -once)")
    add("--count", type=int, metavar="N", help="photos or captures (default: 24 photos, all captures)")
    add("--stride", type=int, default=1, metavar="N", help="takes every N-th, for tuning (default: 1)")
    arguments = parser.parse_args(argv)
    if arguments.stride < 1 or (arguments.count is not None and arguments.count < 1):
        parser.error("--count, --stride: expected at least 1, got less")
    # Only now the slow imports: --help and usage errors answer at once.
    from samplers.weights import WeightsError

    try:
        methods = _methods(arguments)
    except (WeightsError, ValueError) as error:
        return report_error("evaluation/defocus_maps.py", error, 2)
    try:
        results = _measure(arguments, methods)
    except (ValueError, OSError) as error:
        return report_error("evaluation/defocus_maps.py", error, 1)
    print(table(results))
    return 0


def table(results: dict) -> str:
    """Markdown of results: a row for each estimator and figure, a column for each group.

    Args:
        results: As written to `defocus_maps.json`.
    """
    summary = results["summary"]
    groups = list(dict.fromkeys(entry["group"] for entry in summary))
    lines = [
        f"{results['figure']} is the {results['title']}. Means over captures, with 95 % bootstrap intervals.", "",
        f"| estimator | figure | {' | '.join(groups)} |", f"|---|---|{'---|' * len(groups)}",
    ]  # fmt: skip
    cells = {(entry["method"], entry["figure"], entry["group"]): entry for entry in summary}
    for method, figure in dict.fromkeys((entry["method"], entry["figure"]) for entry in summary):
        entries = [cells.get((method, figure, group)) for group in groups]
        values = [
            f"{e['mean']:.3f} ({e['interval_95'][0]:.3f} to {e['interval_95'][1]:.3f})" if e else "–" for e in entries
        ]
        lines.append(f"| {method} | {figure} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _methods(arguments: argparse.Namespace) -> dict:
    """Estimators by name: from a capture in [0, 1], (1, 3, H, W), to radius and confidence, (1, 1, H, W).

    With each comes what a restorer makes of the two.
    """
    from samplers.map_estimators import MAP_ESTIMATORS
    from samplers.weights import load_defocus_map

    network = None if arguments.weights is None else load_defocus_map(arguments.weights)
    if arguments.methods is not None:
        return {name: _estimator(name, network) for name in arguments.methods.split(",")}
    names = [name for name in MAP_ESTIMATORS if network is not None or name not in ("fused", "learned")]
    return {name: _estimator(name, network) for name in names}


def _estimator(name: str, network):  # noqa: ANN001, ANN202 - imported late
    from optics import UNKNOWN, estimate_noise_std
    from samplers.map_estimators import MAP_ESTIMATORS, estimate_map, map_estimator

    if not name.removesuffix(ONCE):
        raise ValueError(f"--methods: expected some of {', '.join(MAP_ESTIMATORS)}, got {name!r} as a name")
    # Made in either case: it refuses what cannot be before anything is measured.
    once = map_estimator(name.removesuffix(ONCE), network)
    if name.endswith(ONCE):
        return once.estimate, once.acted_upon
    return lambda y: estimate_map(y, estimate_noise_std(y), name, network, UNKNOWN, plain=True), once.acted_upon


def _measure(arguments: argparse.Namespace, methods: dict) -> dict:
    import torch

    from evaluation.map_protocols import PROTOCOLS as KNOWN
    from evaluation.metrics.intervals import bootstrap_interval
    from evaluation.output_folder import try_folder
    from evaluation.provenance import provenance
    from photos.files import replacing
    from samplers.weights import weights_folder

    protocol = KNOWN[arguments.protocol]
    count = 24 if arguments.count is None and arguments.protocol == "simulated" else arguments.count
    rows = []
    for case in protocol.cases(arguments.folder, count, arguments.stride):
        if not rows:
            try_folder(arguments.output, ("defocus_maps.json", "defocus_maps.md"))
        for name, (estimate, acted_upon) in methods.items():
            start = time.perf_counter()
            estimated = estimate(case.y)
            seconds = time.perf_counter() - start
            figures = case.figures(*estimated)
            figures["acted_upon"] = case.figures(*acted_upon(*estimated))[protocol.figure]
            figures = {key: value if math.isfinite(value) else None for key, value in figures.items()}
            rows.append({"group": case.group, "name": case.name, "method": name, **figures, "seconds": seconds})
        print(f"{case.group}/{case.name}", file=sys.stderr)
    if not rows:
        raise ValueError(f"{arguments.folder}: expected captures to measure, got none")
    summary = []
    for method in methods:
        for figure in (key for key in rows[0] if key not in ("group", "name", "method")):
            for group in dict.fromkeys(row["group"] for row in rows):
                chosen = [row for row in rows if row["method"] == method and row["group"] == group]
                # A map without confidence anywhere has no error where it is confident.
                values = [row[figure] for row in chosen if row[figure] is not None]
                if not values:
                    continue
                summary.append({
                    "method": method, "figure": figure, "group": group, "captures": len(values),
                    "mean": sum(values) / len(values), "interval_95": bootstrap_interval(values),
                })  # fmt: skip
    weights = None if arguments.weights is None else weights_folder(arguments.weights)
    results = {
        "schema_version": SCHEMA, "protocol": arguments.protocol, "figure": protocol.figure, "title": protocol.title,
        "settings": {"folder": str(arguments.folder), "count": count, "stride": arguments.stride},
        **provenance(weights, torch.device("cpu")), "summary": summary, "rows": rows,
    }  # fmt: skip
    for name, text in (("json", json.dumps(results, indent=1, allow_nan=False)), ("md", table(results))):
        with replacing(arguments.output / f"defocus_maps.{name}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    return results


if __name__ == "__main__":
    run_command(main)
