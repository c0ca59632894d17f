"""The form of a benchmark's results: a file may be damaged or of something else, and its readers are not to fail on it.

A form is a type or a function that tells; a list of one form, for lists; a dictionary of the form of each key that must
be there, or of `str` to the form of all values; or a tuple of forms, of which one must fit.
"""

from collections.abc import Collection

__all__ = ["is_row"]


def is_row(row: object, metrics: Collection[str]) -> bool:
    """Whether something is a row as `evaluation/benchmark.py` writes them, with all metrics."""
    if not _fits(row, _ROW):
        return False
    # Old rows say neither.
    whole = _fits(row.get("scene", ""), str) and _fits(row.get("made_from", []), [(str, int)])
    figures = [row[key] for key in ("metrics", "input", "other_focus", "input_other_focus") if row[key] is not None]
    return whole and all(set(metrics) <= known.keys() for known in figures)


def _is_number(value: object) -> bool:
    # Neither NaN nor so large that a sum overflows.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _is_none(value: object) -> bool:
    return value is None


def _fits(value: object, form: object) -> bool:
    if isinstance(form, tuple):
        return any(_fits(value, one) for one in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(item, form[0]) for item in value)
    if isinstance(form, dict) and str in form:
        return isinstance(value, dict) and all(_fits(item, form[str]) for item in value.values())
    if isinstance(form, dict):
        return isinstance(value, dict) and all(key in value and _fits(value[key], one) for key, one in form.items())
    return isinstance(value, form) if isinstance(form, type) else form(value)


_FIGURE = (_is_number, _is_none)
_FIGURES = {str: _FIGURE}
_TEXT = (str, _is_none)
_ROW = {
    "set": str, "group": str, "name": str, "column": str, "method": str, "map": _TEXT, "counted": bool,
    "metrics": _FIGURES, "input": _FIGURES, "other_focus": (_FIGURES, _is_none),
    "input_other_focus": (_FIGURES, _is_none), "equal": bool, "input_equal": bool,
    "evaluations": _FIGURE, "seconds": _is_number, "peak_memory_mib": _is_number, "pictures": (dict, _is_none),
}  # fmt: skip
