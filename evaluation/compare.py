"""Paired differences between two columns of benchmark results.

    python evaluation/compare.py A.json B.json
    python evaluation/compare.py A.json B.json --columns score-estimated-map=score-true-map
    python evaluation/compare.py A.json A.json --columns input=score-true-map tv-true-map=score-true-map

A and B are results.json files of evaluation/benchmark.py. For every metric the difference B minus A is taken
picture by picture, over the pictures that both have and count; columns of equal name are compared unless
--columns names others. The captures of one photo are not independent: a photo's differences are averaged first,
and the 95 % bootstrap interval of the mean resamples photos.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.cases import case_title, columns_of, decimals, key_of
from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, prints the comparison and returns the exit code."""
    parser = Parser(prog="evaluation/compare.py", description=__doc__)
    parser.add_argument("a", metavar="A.json", type=Path, help="results to compare with")
    parser.add_argument("b", metavar="B.json", type=Path, help="results that are compared")
    parser.add_argument(
        "--columns", nargs="+", metavar="A_COLUMN=B_COLUMN", help="pairs of columns; default: all of equal name"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    arguments = parser.parse_args(argv)

    # Only now the slow imports: --help and usage errors answer at once.
    from evaluation.paired_differences import compare, differing_protocols

    try:
        a, b = _read(arguments.a), _read(arguments.b)
    except ValueError as error:
        return report_error("evaluation/compare.py", error, 1)
    try:
        columns = [_pair(text, a, b) for text in arguments.columns] if arguments.columns else None
    except ValueError as error:
        return report_error("evaluation/compare.py", f"--columns: {error}", 2)
    try:
        comparisons = compare(a, b, columns)
    except ValueError as error:
        return report_error("evaluation/compare.py", f"{arguments.a} and {arguments.b}: {error}", 1)
    warnings = differing_protocols(a, b)
    if others := max(pair["other_inputs"] for pair in comparisons):
        warnings.append(f"the figures before restoration differ on {others} of the pictures: these are other captures")
    for warning in warnings:
        print(f"evaluation/compare.py: warning: {warning}", file=sys.stderr)
    if arguments.json:
        found = {"a": str(arguments.a), "b": str(arguments.b), "warnings": warnings, "comparisons": comparisons}
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print(_page(arguments.a, arguments.b, a["metrics"] | b["metrics"], comparisons), end="")
    return 0


def _read(path: Path) -> dict:
    """The results in a file, or ValueError where it does not hold what a comparison needs."""
    from evaluation.results import read_results
    from evaluation.results_form import fits

    results = read_results(path)
    if not fits(results, {"settings": {"data": dict}, "metrics": {str: {"higher_is_better": _is_direction}}}):
        raise ValueError(f"{path}: expected settings and metrics as the benchmark writes them, got others")
    keys = [(row["column"], *key_of(row)) for row in results["rows"]]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{path}: expected one row for each picture and column, got two of {' '.join(twice)}")
    return results


def _is_direction(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _page(path_a: Path, path_b: Path, metrics: dict, comparisons: Sequence[dict]) -> str:
    """The comparison in Markdown."""
    lines = ["# Paired differences, B minus A", "", f"A: {_cell(path_a)}  ", f"B: {_cell(path_b)}", ""]
    for comparison in comparisons:
        lines += [f"## {_cell(comparison['a'])} → {_cell(comparison['b'])}", ""]
        lines += _row(["metric", "A", "B", "B − A, 95 %", "better", "pictures (photos)", "worst", "best"], head=True)
        for metric, found in comparison["metrics"].items():
            digits = decimals(metric)
            low, high = found["interval_95"]
            lines += _row(
                [
                    _title(metrics, metric),
                    f"{found['mean_a']:.{digits}f}",
                    f"{found['mean_b']:.{digits}f}",
                    f"{found['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]",
                    "–" if found["share_better"] is None else f"{100 * found['share_better']:.0f} %",
                    f"{found['pictures']} ({found['photos']})",
                    *("–" if case is None else f"{case['difference']:+.{digits}f} {case_title(case)}"
                      for case in (found["worst"], found["best"])),
                ]
            )  # fmt: skip
        groups = list(dict.fromkeys(name for found in comparison["metrics"].values() for name in found["by_group"]))
        if len(groups) > 1:
            lines += ["", *_row(["B − A", *groups], head=True)]
            for metric, found in comparison["metrics"].items():
                shown = [found["by_group"].get(group) for group in groups]
                texts = ["–" if value is None else f"{value:+.{decimals(metric)}f}" for value in shown]
                lines += _row([_title(metrics, metric), *texts])
        lines += ["", *_notes(metrics, comparison)]
    lines.append("Means and their intervals are over photos, whose captures are averaged first; shares over pictures.")
    return "\n".join(lines) + "\n"


def _notes(metrics: dict, comparison: dict) -> list[str]:
    """What the reader of one comparison must know beside its figures."""
    notes = []
    if comparison["only_a"] or comparison["only_b"]:
        notes.append(f"Left out: {comparison['only_a']} pictures of A alone, {comparison['only_b']} of B alone.")
    lacking = [_title(metrics, metric) for metric in metrics if metric not in comparison["metrics"]]
    if lacking:
        notes.append(f"Without figures in both: {', '.join(lacking)}.")
    return [line for note in notes for line in (note, "")]


def _pair(text: str, a: dict, b: dict) -> tuple[str, str]:
    """The columns that A_COLUMN=B_COLUMN names; a name may itself contain the sign."""
    if "=" not in text:
        raise ValueError(f"expected A_COLUMN=B_COLUMN, got {text!r}")
    names = text.split("=")
    for cut in range(1, len(names)):
        pair = "=".join(names[:cut]), "=".join(names[cut:])
        if pair[0] in columns_of(a) and pair[1] in columns_of(b):
            return pair
    listed = " and of B, ".join(", ".join(columns_of(results)) for results in (a, b))
    raise ValueError(f"expected a column of A, {listed}, got {text!r}")


def _title(metrics: dict, metric: str) -> str:
    arrow = {True: " ↑", False: " ↓", None: ""}[metrics[metric]["higher_is_better"]]
    return f"{metrics[metric].get('title') or metric}{arrow}"


def _row(cells: Sequence[object], head: bool = False) -> list[str]:
    line = f"| {' | '.join(map(_cell, cells))} |"
    return [line, f"|{' --- |' * len(cells)}"] if head else [line]


def _cell(text: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


if __name__ == "__main__":
    run_command(main)
