"""The form of a benchmark's results: a file may be damaged or of something else, and its readers are not to fail on it.

A form is a type or a function that tells; a list of one form, for lists; a dictionary of the form of each key that must
be there, or of `str` to the form of all values; or a tuple of forms, of which one must fit.
"""

from collections.abc import Collection
from pathlib import Path

__all__ = ["check_results", "fits", "is_row"]


def is_row(row: object, metrics: Collection[str]) -> bool:
    """Whether something is a row as `evaluation/benchmark.py` writes them, with all metrics."""
    if not fits(row, _ROW):
        return False
    # Old rows say neither.
    whole = fits(row.get("scene", ""), str) and fits(row.get("made_from", []), [(str, int)])
    figures = [row[key] for key in ("metrics", "input", "other_focus", "input_other_focus") if row[key] is not None]
    return whole and all(set(metrics) <= known.keys() for known in figures)


def fits(value: object, form: object) -> bool:
    """Whether a value that was read from JSON has a form."""
    if isinstance(form, tuple):
        return any(fits(value, one) for one in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(item, form[0]) for item in value)
    if isinstance(form, dict) and str in form:
        return isinstance(value, dict) and all(fits(item, form[str]) for item in value.values())
    if isinstance(form, dict):
        return isinstance(value, dict) and all(key in value and fits(value[key], one) for key, one in form.items())
    return isinstance(value, form) if isinstance(form, type) else form(value)


def check_results(file: Path, results: dict) -> None:
    """Compares results with those that `evaluation/benchmark.py` writes, but for their settings, which may be older.

    Args:
        file: Where they are from, for the error.
        results: What the file holds, of the schema of today.

    Raises:
        ValueError: If a part is missing or of another form; the first such part is named.
    """
    for part, form in _RESULTS.items():
        if not fits(results, {part: form}):
            raise ValueError(f"{file}: expected the part {part} as the benchmark writes it, got another")
    metrics = results["metrics"].keys()
    for number, row in enumerate(results["rows"]):
        if not is_row(row, metrics):
            raise ValueError(f"{file}: expected rows as the benchmark writes them, got another as rows[{number}]")
    for number, means in enumerate(results["summary"]):
        if not metrics <= means["mean"].keys() & means["input_mean"].keys():
            raise ValueError(f"{file}: expected means of all metrics, got others in summary[{number}]")


def _is_number(value: object) -> bool:
    # Neither NaN nor so large that a sum overflows.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _is_interval(value: object) -> bool:
    return fits(value, [_is_number]) and len(value) == 2


def _is_none(value: object) -> bool:
    return value is None


_FIGURE = (_is_number, _is_none)
_FIGURES = {str: _FIGURE}
_TEXT = (str, _is_none)
_ROW = {
    "set": str, "group": str, "name": str, "column": str, "method": str, "map": _TEXT, "counted": bool,
    "metrics": _FIGURES, "input": _FIGURES, "other_focus": (_FIGURES, _is_none),
    "input_other_focus": (_FIGURES, _is_none), "equal": bool, "input_equal": bool,
    "evaluations": _FIGURE, "seconds": _is_number, "peak_memory_mib": _is_number, "pictures": (dict, _is_none),
}  # fmt: skip
_MEANS = {
    "set": str, "column": str, "pictures": int, "left_out": int, "mean": _FIGURES, "input_mean": _FIGURES,
    "gain": {"psnr": _FIGURE}, "gain_interval_95": {"psnr": (_is_interval, _is_none)}, "gain_by_group": _FIGURES,
    "other_focus": ({"gain": _FIGURE}, _is_none), "worst": ({"gain_db": _is_number}, _is_none), "harmed": _is_number,
    "evaluations": _FIGURE, "seconds": _FIGURE, "peak_memory_mib": _FIGURE,
}  # fmt: skip
_RESULTS = {
    "protocol": {"description": str}, "seed": int, "versions": {"torch": _TEXT},
    "git": {"commit": _TEXT, "dirty": (bool, _is_none)}, "device": str, "threads": int,
    "metrics": {str: {"reason": _TEXT}}, "skipped": [{"method": str, "reason": str}], "summary": [_MEANS], "rows": list,
}  # fmt: skip
