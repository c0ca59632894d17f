"""What a benchmark leaves behind: rows, means with intervals, and their tables."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from evaluation.metrics import bootstrap_interval
from evaluation.results_form import check_results
from evaluation.scoring import METRICS
from photos.files import replacing

__all__ = [
    "SCHEMA_VERSION", "gain", "read_results", "relative_gain", "scene_of", "summarise", "table", "write_results",
]  # fmt: skip

SCHEMA_VERSION = 2

_HARM_DB = 0.1
"""A picture that loses more PSNR than this counts as harmed."""


def scene_of(row: dict) -> tuple[str, str]:
    """What rows share whose captures are not independent: their set, and the photo or the scene."""
    # Rows of before there were scenes have none.
    return row["set"], row.get("scene", row["name"])


def gain(row: dict, metric: str = "psnr") -> float | None:
    """A metric's difference of restored picture and input; None where either has no figure."""
    restored, before = row["metrics"][metric], row["input"][metric]
    if metric == "psnr":
        # The PSNR of equal pictures is infinite; 8-bit pictures that differ stay below 100 dB.
        restored, before = 100.0 if row["equal"] else restored, 100.0 if row["input_equal"] else before
    return None if restored is None or before is None else restored - before


def summarise(rows: Sequence[dict], metrics: Sequence[str]) -> list[dict]:
    """Means of every set and column over the rows that count.

    The intervals resample scenes, not rows: the captures of one scene are not independent.
    """
    summaries = []
    for set_name, column in dict.fromkeys((row["set"], row["column"]) for row in rows):
        listed = [row for row in rows if (row["set"], row["column"]) == (set_name, column)]
        counted = [row for row in listed if row["counted"]]
        if not counted:
            continue
        gains = {name: _mean_and_interval(counted, lambda row, key=name: gain(row, key)) for name in metrics}
        values = {name: _mean_and_interval(counted, lambda row, key=name: row["metrics"][key]) for name in metrics}
        groups = dict.fromkeys(row["group"] for row in counted)
        in_decibels = [(value, row) for row in counted if (value := gain(row)) is not None]
        worst, best = (
            (choose(in_decibels, key=lambda pair: pair[0]) if in_decibels else None) for choose in (min, max)
        )
        summaries.append(
            {
                "set": set_name,
                "column": column,
                "method": counted[0]["method"],
                "map": counted[0]["map"],
                "pictures": len(counted),
                "left_out": len(listed) - len(counted),
                "mean": {metric: mean for metric, (mean, _) in values.items()},
                "interval_95": {metric: interval for metric, (_, interval) in values.items()},
                "input_mean": {metric: _mean(row["input"][metric] for row in counted) for metric in metrics},
                "gain": {metric: mean for metric, (mean, _) in gains.items()},
                "gain_interval_95": {metric: interval for metric, (_, interval) in gains.items()},
                "by_group": {
                    group: {
                        metric: _mean(row["metrics"][metric] for row in counted if row["group"] == group)
                        for metric in metrics
                    }
                    for group in groups
                },
                "gain_by_group": {
                    group: _mean(gain(row) for row in counted if row["group"] == group) for group in groups
                },
                "other_focus": _other_focus(counted, metrics),
                "harmed": sum(value < -_HARM_DB for value, _ in in_decibels) / max(len(in_decibels), 1),
                "worst": _picture(worst),
                "best": _picture(best),
                "evaluations": _mean(row["evaluations"] for row in counted),
                "seconds": _mean(row["seconds"] for row in counted),
                "peak_memory_mib": max(row["peak_memory_mib"] for row in counted),
            }
        )
    return summaries


def relative_gain(rows: Sequence[dict], column: str, baseline: str, metric: str) -> tuple[float, list[float]] | None:
    """Mean over pictures of (value - baseline's value) / baseline's value, in percent, with its 95 % interval.

    The form in which image restoration by score matching was first reported on real captures: against
    plain denoising of the same picture. None without a common picture.
    """
    pairs: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        if row["counted"] and row["column"] in (column, baseline) and row["metrics"].get(metric) is not None:
            pairs.setdefault((row["set"], row["group"], row["name"]), {})[row["column"]] = row
    shares = {
        key: 100 * (both[column]["metrics"][metric] / both[baseline]["metrics"][metric] - 1)
        for key, both in pairs.items() if len(both) == 2 and both[baseline]["metrics"][metric]
    }  # fmt: skip
    if not shares:
        return None
    return _mean(shares.values()), _interval((scene_of(pairs[key][column]), share) for key, share in shares.items())


def table(results: dict) -> str:
    """The means as a Markdown page: a table for each set."""
    lines = ["# Benchmark", "", results["protocol"]["description"], ""]
    for set_name in dict.fromkeys(summary["set"] for summary in results["summary"]):
        lines += [f"## {set_name}", "", *set_table(results, set_name), ""]
    lines += [f"Not run: `{skipped['method']}`: {skipped['reason']}." for skipped in results["skipped"]]
    lines += [
        f"{METRICS[name].title} was not measured: {about['reason']}."
        for name, about in results["metrics"].items()
        if about["reason"]
    ]
    return "\n".join([*lines, origin(results)]) + "\n"


def set_table(results: dict, set_name: str) -> list[str]:
    """Lines of one set's table and of what is to be said below it."""
    summaries = [summary for summary in results["summary"] if summary["set"] == set_name]
    shown = [name for name, about in results["metrics"].items() if not about["reason"]]
    groups = list(dict.fromkeys(group for summary in summaries for group in summary["gain_by_group"]))
    groups = groups if len(groups) > 1 else []
    has_other = any(summary["other_focus"] for summary in summaries)
    head = ["column", "gain, dB [95 %]", *(METRICS[name].title for name in shown), *(f"gain, {g}" for g in groups)]
    head += ["gain to other focus, dB"] * has_other + ["worst", "harmed", "evaluations", "s", "MiB"]
    lines = [_row(head), _row(["---"] * len(head))]
    for summary in summaries:
        other = summary["other_focus"]
        lines.append(
            _row(
                [
                    summary["column"],
                    _signed(summary["gain"]["psnr"], summary["gain_interval_95"]["psnr"]),
                    *(_number(summary["mean"][name], METRICS[name].digits) for name in shown),
                    *(_signed(summary["gain_by_group"].get(group)) for group in groups),
                    *([_signed(other["gain"] if other else None)] * has_other),
                    _signed(summary["worst"]["gain_db"] if summary["worst"] else None),
                    f"{100 * summary['harmed']:.0f} %",
                    _number(summary["evaluations"], 0),
                    _number(summary["seconds"], 2),
                    _number(summary["peak_memory_mib"], 0),
                ]
            )
        )
    before = summaries[0]["input_mean"]
    said = ", ".join(f"{METRICS[name].title} {_number(before[name], METRICS[name].digits)}" for name in shown)
    left_out = f", {summaries[0]['left_out']} more left out of the means" if summaries[0]["left_out"] else ""
    return [*lines, "", f"{summaries[0]['pictures']} pictures{left_out}. Input: {said}."]


def origin(results: dict) -> str:
    """Commit, versions, device, threads and seed in a sentence."""
    git = results["git"]
    commit = f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git["commit"] else "unknown"
    return (
        "Gains are in PSNR over the input; intervals are 95 % of the mean, by bootstrap over photos or scenes; harmed: "
        f"share of pictures that lose more than {_HARM_DB} dB. Commit {commit}, torch {results['versions']['torch']}, "
        f"{results['device']}, {results['threads']} threads, seed {results['seed']}."
    )


def write_results(folder: Path, results: dict) -> None:
    """Writes `results.json` and `results.md`, each whole or not at all."""
    texts = {"results.md": table(results), "results.json": json.dumps(results, indent=1, allow_nan=False) + "\n"}
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_results(file: Path) -> dict:
    """Reads a `results.json`.

    Raises:
        ValueError: If it cannot be read, is not JSON, of another schema, or not as the benchmark writes it.
    """
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise ValueError(f"{file}: expected the results.json of a benchmark, which cannot be read: {reason}") from None
    found = results.get("schema_version") if isinstance(results, dict) else None
    if found != SCHEMA_VERSION:
        raise ValueError(f"{file}: expected results of schema {SCHEMA_VERSION}, got schema {found}")
    check_results(file, results)
    return results


def _other_focus(rows: Sequence[dict], metrics: Sequence[str]) -> dict | None:
    """Means against the second reference, and the gain in PSNR towards it."""
    rows = [row for row in rows if row["other_focus"]]
    if not rows:
        return None
    # Equal pictures have an infinite PSNR, which is no figure.
    known = [(row["other_focus"]["psnr"], row["input_other_focus"]["psnr"]) for row in rows]
    return {
        "mean": {metric: _mean(row["other_focus"][metric] for row in rows) for metric in metrics},
        "input_mean": {metric: _mean(row["input_other_focus"][metric] for row in rows) for metric in metrics},
        "gain": _mean(after - before for after, before in known if after is not None and before is not None),
    }


def _picture(found: tuple[float, dict] | None) -> dict | None:
    if found is None:
        return None
    value, row = found
    return {"set": row["set"], "group": row["group"], "name": row["name"], "column": row["column"], "gain_db": value}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _mean_and_interval(
    rows: Sequence[dict], value: Callable[[dict], float | None]
) -> tuple[float | None, list[float] | None]:
    return _mean(value(row) for row in rows), _interval((scene_of(row), value(row)) for row in rows)


def _interval(values: Iterable[tuple[tuple[str, str], float | None]]) -> list[float] | None:
    """95 % interval of the mean of values that belong to scenes."""
    by_scene: dict[tuple[str, str], list[float | None]] = {}
    for scene, value in values:
        by_scene.setdefault(scene, []).append(value)
    known = [mean for listed in by_scene.values() if (mean := _mean(listed)) is not None]
    return list(bootstrap_interval(known)) if known else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else f"{value:+.2f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
