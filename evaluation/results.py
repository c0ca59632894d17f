"""What a benchmark leaves behind: provenance, rows, means and their table."""

import hashlib
import json
import math
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from evaluation.metrics import bootstrap_interval

__all__ = ["SCHEMA_VERSION", "peak_memory", "provenance", "summarise", "table", "write_results"]

SCHEMA_VERSION = 1
_METRICS = ("psnr", "ssim", "lpips", "mae")


def provenance(weights: Path | None, device: torch.device) -> dict[str, object]:
    """Versions, commit, device and, if weights are given, the sha256 of every file of theirs."""
    project = Path(__file__).resolve().parent.parent
    commit, changes = _git(project, "rev-parse", "HEAD"), _git(project, "status", "--porcelain")
    files = sorted(weights.rglob("*.safetensors")) if weights else []
    return {
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in ("scorefocus", "torch", "diffusers", "numpy", "lpips")},
        },
        "git": {"commit": commit, "dirty": bool(changes) if changes is not None else None},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "weights_sha256": {
            file.relative_to(weights).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        },
    }


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Largest memory so far in MiB, of the process and of the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"process_mib": round(process, 1), "gpu_mib": gpu}


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Means of every method and map over the rows that count.

    The intervals resample photos, not rows: the captures of one photo are not independent.
    """
    summaries = []
    for method, map_source in dict.fromkeys((row["method"], row["map"]) for row in rows):
        listed = [row for row in rows if (row["method"], row["map"]) == (method, map_source)]
        counted = [row for row in listed if row["counted"]]
        if not counted:
            continue
        worst = min(counted, key=_gain)
        summaries.append(
            {
                "method": method,
                "map": map_source,
                "pictures": len(counted),
                "left_out": len(listed) - len(counted),
                "mean": {metric: _mean(row[metric] for row in counted) for metric in _METRICS},
                "input_mean": {metric: _mean(row["input"][metric] for row in counted) for metric in _METRICS},
                "interval_95": {metric: _interval(counted, lambda row, key=metric: row[key]) for metric in _METRICS},
                "gain_db": _mean(map(_gain, counted)),
                "gain_db_interval_95": _interval(counted, _gain),
                "gain_db_by_group": {
                    group: _mean(_gain(row) for row in counted if row["group"] == group)
                    for group in dict.fromkeys(row["group"] for row in counted)
                },
                "worst_gain": {"name": worst["name"], "group": worst["group"], "gain_db": _gain(worst)},
                "seconds": _mean(row["seconds"] for row in counted),
                "evaluations": _mean(row["evaluations"] for row in counted),
            }
        )
    return summaries


def table(results: dict) -> str:
    """The means as a Markdown page."""
    groups = list(dict.fromkeys(row["group"] for row in results["rows"]))
    head = ["method", "map", "PSNR", "gain, dB", "SSIM", "LPIPS", "MAE", *(f"gain, {group}" for group in groups)]
    head += ["worst", "s", "evaluations"]
    lines = ["# Benchmark", "", results["protocol"]["description"], "", _row(head), _row(["---"] * len(head))]
    for summary in results["summary"]:
        mean, (low, high) = summary["mean"], summary["gain_db_interval_95"]
        lines.append(
            _row(
                [
                    summary["method"],
                    summary["map"] or "–",
                    _number(mean["psnr"], 2),
                    f"{summary['gain_db']:+.2f} [{low:+.2f}, {high:+.2f}]",
                    _number(mean["ssim"], 3),
                    _number(mean["lpips"], 3),
                    _number(mean["mae"], 4),
                    *(f"{summary['gain_db_by_group'].get(group, math.nan):+.2f}" for group in groups),
                    f"{summary['worst_gain']['gain_db']:+.2f}",
                    _number(summary["seconds"], 2),
                    _number(summary["evaluations"], 0),
                ]
            )
        )
    input_mean = results["summary"][0]["input_mean"] if results["summary"] else dict.fromkeys(_METRICS)
    lines += [
        "",
        f"{results['pictures']} pictures. Input: PSNR {_number(input_mean['psnr'], 2)} dB, "
        f"SSIM {_number(input_mean['ssim'], 3)}, LPIPS {_number(input_mean['lpips'], 3)}. "
        "Gains are in PSNR over the input; intervals are 95 % of the mean, over photos.",
    ]
    if results["lpips"]["reason"]:
        lines.append(f"LPIPS was not measured: {results['lpips']['reason']}.")
    git = results["git"]
    commit = f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git["commit"] else "unknown"
    lines.append(f"Commit {commit}, torch {results['versions']['torch']}, {results['device']}, seed {results['seed']}.")
    return "\n".join(lines) + "\n"


def write_results(folder: Path, results: dict) -> None:
    """Writes `results.json` and `results.md`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"results.md": table(results), "results.json": json.dumps(results, indent=1, allow_nan=False) + "\n"}
    for name, text in texts.items():
        temporary = folder / f".{name}.part"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)


def _gain(row: dict) -> float:
    # Equal pictures have no finite PSNR; 8-bit pictures that differ stay well below 100 dB.
    restored, before = (100.0 if value is None else value for value in (row["psnr"], row["input"]["psnr"]))
    return restored - before


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _interval(rows: Sequence[dict], value) -> list[float] | None:
    photos = dict.fromkeys((row["set"], row["name"]) for row in rows)
    means = [_mean(value(row) for row in rows if (row["set"], row["name"]) == photo) for photo in photos]
    known = [mean for mean in means if mean is not None]
    return list(bootstrap_interval(known)) if known else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
