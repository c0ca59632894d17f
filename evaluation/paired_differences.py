"""Paired differences between columns of benchmark results.

The difference B minus A of a metric is taken picture by picture, over the pictures that both columns have and
count. The captures of one photo or scene are not independent: their differences are averaged first, and the bootstrap
resamples photos or scenes, which are called photos below.
"""

import math
from collections.abc import Iterable, Sequence

from evaluation.cases import columns_of, group_title, key_of
from evaluation.metrics import bootstrap_interval
from evaluation.results import scene_of

__all__ = ["compare", "differing_protocols"]

_INPUT_TOLERANCE = 1e-3  # More than another machine's rounding makes of the same picture's figure.


def compare(a: dict, b: dict, columns: Iterable[tuple[str, str]] | None = None) -> list[dict]:
    """Differences B minus A, over the pictures that both have and that count.

    Args:
        a: Results that are compared with.
        b: Results that are compared.
        columns: Pairs of a column of A and one of B; None for all of equal name.

    Returns:
        One dictionary for each pair of columns: `a` and `b`, their names; `pictures` in common, `only_a` and
        `only_b`, numbers; `other_inputs`, the number of pictures whose figures before restoration differ; and
        `metrics`, which maps each metric to `pictures` and `photos` (numbers), `mean_a`, `mean_b`, the `mean`
        difference and its 95 % bootstrap interval `interval_95`, all over photos, `share_better` of the pictures,
        `by_group` (mean differences), and the `worst` and `best` picture with its `difference`; the last are None
        but for `by_group` where no direction is the better one. Metrics without a figure in both are left out.

    Raises:
        ValueError: If there is no common column, or no common picture in a pair of columns that was asked for.
    """
    pairs = list(columns) if columns is not None else [(name, name) for name in columns_of(a) if name in columns_of(b)]
    if not pairs:
        listed = " and ".join(", ".join(columns_of(results)) or "none" for results in (a, b))
        raise ValueError(f"expected columns of equal name, got {listed}; --columns compares others")
    comparisons = [_compare_columns(a, b, *pair) for pair in pairs]
    lacking = [comparison for comparison in comparisons if not comparison["pictures"]]
    if lacking and (columns is not None or len(lacking) == len(comparisons)):
        names = f"{lacking[0]['a']} and {lacking[0]['b']}"
        raise ValueError(f"expected pictures that count in both, got none in columns {names}")
    return [comparison for comparison in comparisons if comparison["pictures"]]


def differing_protocols(a: dict, b: dict) -> list[str]:
    """Where two results do not measure the same: a sentence for each difference of protocol, data or seed."""
    first, second = (
        {
            "protocol.name": results["protocol"].get("name"),
            "seed": results.get("seed"),
            **{f"settings.data.{key}": value for key, value in results["settings"]["data"].items()},
        }
        for results in (a, b)
    )
    return [
        f"the protocols differ in {key}: {first.get(key)!r} in A, {second.get(key)!r} in B"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]


def _compare_columns(a: dict, b: dict, column_a: str, column_b: str) -> dict:
    rows_a, rows_b = (
        {key_of(row): row for row in results["rows"] if row["column"] == column and row["counted"]}
        for results, column in ((a, column_a), (b, column_b))
    )
    pairs = [(row, rows_b[key]) for key, row in rows_a.items() if key in rows_b]
    metrics = {
        metric: _difference([pair for pair in pairs if all(_known(row, metric) for row in pair)], metric, about)
        for metric, about in a["metrics"].items()
        if metric in b["metrics"]
    }
    return {
        "a": column_a,
        "b": column_b,
        "pictures": len(pairs),
        "only_a": len(rows_a) - len(pairs),
        "only_b": len(rows_b) - len(pairs),
        "other_inputs": sum(_other_input(*pair) for pair in pairs),
        "metrics": {metric: difference for metric, difference in metrics.items() if difference},
    }


def _difference(pairs: Sequence[tuple[dict, dict]], metric: str, about: dict) -> dict | None:
    """Statistics of one metric's difference over pairs of rows that both have it."""
    if not pairs:
        return None
    sign = {True: 1, False: -1, None: 0}[about["higher_is_better"]]
    listed, photos, groups = [], {}, {}
    for row, other in pairs:
        case = {
            "set": row["set"], "group": row["group"], "name": row["name"], "a": row["metrics"][metric],
            "b": other["metrics"][metric], "difference": other["metrics"][metric] - row["metrics"][metric],
        }  # fmt: skip
        listed.append(case)
        photos.setdefault(scene_of(row), []).append(case)
        groups.setdefault(group_title(case), []).append(case)
    differences = [_mean(cases, "difference") for cases in photos.values()]
    return {
        "pictures": len(listed),
        "photos": len(photos),
        "mean_a": math.fsum(_mean(cases, "a") for cases in photos.values()) / len(photos),
        "mean_b": math.fsum(_mean(cases, "b") for cases in photos.values()) / len(photos),
        "mean": math.fsum(differences) / len(photos),
        "interval_95": list(bootstrap_interval(differences)),
        "share_better": sum(sign * case["difference"] > 0 for case in listed) / len(listed) if sign else None,
        "by_group": {group: _mean(cases, "difference") for group, cases in groups.items()},
        "worst": min(listed, key=lambda case: sign * case["difference"]) if sign else None,
        "best": max(listed, key=lambda case: sign * case["difference"]) if sign else None,
    }


def _known(row: dict, metric: str) -> bool:
    value = row["metrics"].get(metric)
    return value is not None and math.isfinite(value)


def _other_input(row: dict, other: dict) -> bool:
    first, second = row.get("input") or {}, other.get("input") or {}
    shared = [metric for metric in first if first[metric] is not None and second.get(metric) is not None]
    return any(not math.isclose(first[key], second[key], abs_tol=_INPUT_TOLERANCE) for key in shared)


def _mean(cases: Sequence[dict], key: str) -> float:
    return math.fsum(case[key] for case in cases) / len(cases)
