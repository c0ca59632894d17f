"""The cases of a benchmark as its pages name and order them."""

from collections.abc import Iterable

from evaluation.scoring import METRICS

__all__ = ["case_title", "columns_of", "decimals", "group_title", "key_of", "ranked"]


def key_of(row: dict) -> tuple[str, str, str]:
    """Set, group and name: the capture that a row is about, whatever its column."""
    return row["set"], row["group"], row["name"]


def group_title(row: dict) -> str:
    """Set and group, the group only where it adds to the set."""
    return row["set"] if row["group"] == row["set"] else f"{row['set']}/{row['group']}"


def case_title(row: dict) -> str:
    """Set, group and name of a row's capture."""
    return f"{group_title(row)}/{row['name']}"


def columns_of(results: dict) -> list[str]:
    """Names of the columns of results, in their order."""
    return list(dict.fromkeys(row["column"] for row in results["rows"]))


def decimals(metric: str) -> int:
    """Digits after the point with which a metric is shown."""
    return METRICS[metric].digits if metric in METRICS else 4


def ranked(rows: Iterable[dict]) -> list[tuple[float, dict]]:
    """Gains in dB and the rows that count and have one, from the worst to the best."""
    # Only here: a script that shows its usage need not wait for what results are made with.
    from evaluation.results import gain

    gains = [(gain(row), row) for row in rows if row["counted"]]
    return sorted((pair for pair in gains if pair[0] is not None), key=lambda pair: pair[0])
