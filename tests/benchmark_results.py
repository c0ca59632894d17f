"""Results of a benchmark, made up: random figures in the form that `evaluation/benchmark.py` writes."""

import json

import numpy as np

from evaluation.results import SCHEMA_VERSION, summarise

METRICS = {
    "psnr": {"title": "PSNR, dB", "higher_is_better": True, "reason": None},
    "mae": {"title": "MAE", "higher_is_better": False, "reason": None},
    "lpips_squeeze": {"title": "LPIPS (squeeze)", "higher_is_better": False, "reason": "no weights"},
}


def made_up_row(column, set_name, group, name, psnr, before=20.0, mae=0.1, **more):
    """One row; `more` replaces its other parts."""
    return {
        "set": set_name, "name": name, "group": group, "column": column, "method": column, "map": None,
        "counted": True, "metrics": {"psnr": psnr, "mae": mae, "lpips_squeeze": None},
        "input": {"psnr": before, "mae": 0.2, "lpips_squeeze": None}, "other_focus": None, "input_other_focus": None,
        "equal": False, "input_equal": False, "evaluations": 8.0, "seconds": 1.5, "peak_memory_mib": 100.0,
        "pictures": None, **more,
    }  # fmt: skip


def made_up_results(rows, **more):
    """Results around rows; `more` replaces their other parts."""
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": {"name": "simulated", "description": "Made-up captures."},
        "settings": {"data": {"root": "photos", "count": 24}, "seed": 0},
        "seed": 0, "versions": {"python": "3.11", "torch": "2.13"}, "git": {"commit": "0123456789ab", "dirty": False},
        "device": "cpu", "threads": 1, "weights_sha256": {}, "metrics": METRICS, "skipped": [],
        "summary": summarise(rows, list(METRICS)),
        "rows": rows, **more,
    }  # fmt: skip


def random_rows(column, photos, groups, seed, set_name="set"):
    """A row for each photo and group."""
    rng = np.random.default_rng(seed)
    return [
        made_up_row(column, set_name, group, photo, float(rng.normal(25, 2)), mae=float(rng.uniform(0, 0.2)))
        for photo in photos
        for group in groups
    ]


def stored(path, results):
    """Writes results as a file and returns its path."""
    path.write_text(json.dumps(results), "utf-8")
    return path
