"""The page of a benchmark: its tables, and its captures to look at with any two columns side by side.

The page needs the pictures of the results' folder beside it and nothing else; it works from a disk. Its text,
style and script are those of `benchmark_page.html`.
"""

import html
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from evaluation.cases import case_title, decimals, group_title, key_of
from evaluation.results import gain
from photos.files import make_folder, replacing
from photos.maps import COLOURS

__all__ = ["write_html_report"]


def write_html_report(out: Path, results: dict) -> Path:
    """Writes `report.html`; an old one is replaced when the new one is complete. All text is escaped.

    Args:
        out: Folder of the results, which the paths of their pictures are relative to.
        results: Results of a benchmark as `results.json` holds them.

    Returns:
        The file.

    Raises:
        ValueError: If the file cannot be written.
    """
    protocol = {key: value for key, value in results["protocol"].items() if key != "description"}
    origin = ("settings", "seed", "versions", "git", "device", "threads", "weights_sha256")
    facts = {"protocol": protocol, **{key: results.get(key) for key in origin}}
    page = Template(files("evaluation").joinpath("benchmark_page.html").read_text("utf-8")).substitute(
        title=_escaped(f"Benchmark: {protocol.get('name', 'results')}"),
        description=_escaped(results["protocol"].get("description", "")),
        summary=_summary(results),
        notes=_notes(results),
        facts="\n".join(f"<tr><th>{_escaped(key)}</th><td>{_escaped(value)}</td></tr>" for key, value in _flat(facts)),
        gradient=", ".join(f"rgb{colour}" for colour in COLOURS),
        results=_embedded(_viewed(results)),
    )
    file = Path(out) / "report.html"
    make_folder(Path(out))
    with replacing(file) as temporary:
        # A file's name need not be text; what is none is shown as question marks.
        temporary.write_bytes(page.encode("utf-8", "replace"))
    return file


def _viewed(results: dict) -> dict:
    """What the viewer works on: rows with addresses of their pictures."""
    rows = [
        {
            **{key: row[key] for key in ("set", "group", "name", "column", "counted", "metrics", "input")},
            "place": group_title(row),
            "gain": gain(row),
            "pictures": {key: _address(path) for key, path in (row["pictures"] or {}).items() if isinstance(path, str)},
            "largest_radius": (row["pictures"] or {}).get("largest_radius"),
        }
        for row in results["rows"]
    ]
    known = [one for one in results["summary"] if one["gain"]["psnr"] is not None]
    return {
        "rows": rows,
        "metrics": [
            {"name": name, "title": _title(results, name), "digits": decimals(name),
             "higher_is_better": results["metrics"][name]["higher_is_better"]}
            for name in _measured(results)
        ],
        "start": max(known, key=lambda one: one["gain"]["psnr"])["column"] if known else None,
        "largest": max([row["largest_radius"] or 0.0 for row in rows], default=0.0),
        "colours": COLOURS,
    }  # fmt: skip


def _summary(results: dict) -> str:
    """The means of every set and column, and, folded, those of every group."""
    metrics = _measured(results)
    numbers = {(*key_of(row), row["column"]): number for number, row in enumerate(results["rows"])}
    with_other = any(one["other_focus"] for one in results["summary"])
    lines, group_lines, sets = [], [], set()
    order = list(dict.fromkeys(one["set"] for one in results["summary"]))
    for one in sorted(results["summary"], key=lambda one: order.index(one["set"])):
        if one["set"] not in sets:
            sets.add(one["set"])
            before = [_figure(one["input_mean"].get(name), decimals(name)) for name in metrics]
            lines.append(_line([_named("input, unrestored"), _text(one["set"]), _figure(one["pictures"]), *before,
                                *[_figure(None)] * (6 + with_other)], "input"))  # fmt: skip
        cells = [_named(one["column"]), _text(one["set"]), _figure(one["pictures"])]
        cells += [_mean(one, name) for name in metrics]
        cells += [_figure((one["other_focus"] or {}).get("gain"), 2, "+")] * with_other
        cells += [_figure(100 * one["harmed"], 0)]
        cells += [_case(one[end], numbers) for end in ("worst", "best")]
        cells += [_figure(one["evaluations"], 0), _figure(one["seconds"], 2), _figure(one["peak_memory_mib"], 0)]
        lines.append(_line(cells))
        for group, means in one["by_group"].items():
            cells = [_named(one["column"]), _text(one["set"]), _text(group)]
            cells += [_figure(one["gain_by_group"].get(group), 2, "+")]
            group_lines.append(_line(cells + [_figure(means.get(name), decimals(name)) for name in metrics]))
    titles = [_title(results, name) for name in metrics]
    more = ["gain to other focus, dB"] * with_other
    heads = ["column", "set", "pictures", *titles, *more, "harmed, %", "worst", "best", "evaluations", "s", "MiB"]
    table = _table(heads, lines)
    if any(len(one["by_group"]) > 1 for one in results["summary"]):
        groups = _table(["column", "set", "group", "gain, dB", *titles], group_lines)
        table += f"\n<details><summary>By group</summary>{groups}</details>"
    return table


def _notes(results: dict) -> str:
    """How the table is to be read, and what it does not have."""
    lines = [
        "Below each mean, its 95 % interval by bootstrap over photos or scenes, and the difference to the input with "
        "the same. Worst and best cases are those by gain in PSNR over the input, and open below. Headings sort."
    ]
    left_out = {(one["set"], one["left_out"]) for one in results["summary"] if one["left_out"]}
    lines += [f"Left out of the means of {name}: {number}." for name, number in sorted(left_out)]
    reasons = {_title(results, name): about["reason"] for name, about in results["metrics"].items() if about["reason"]}
    lines += [f"{title} was not measured: {reason}." for title, reason in reasons.items()]
    skipped = [f"<li>{_escaped(item['method'])}: {_escaped(item['reason'])}</li>" for item in results["skipped"]]
    text = "\n".join(f"<p>{_escaped(line)}</p>" for line in lines)
    return text + (f"\n<h2>Not run</h2>\n<ul>{''.join(skipped)}</ul>" if skipped else "")


def _mean(one: dict, name: str) -> str:
    """A mean and, below it, its interval and the difference to the input with the same."""
    digits, mean, change = decimals(name), one["mean"].get(name), one["gain"].get(name)
    if mean is None:
        return _figure(None)
    text = f"{mean:.{digits}f}<small>{_interval(one['interval_95'].get(name), digits)}</small>"
    if change is not None:
        text += f"<small>{change:+.{digits}f} {_interval(one['gain_interval_95'].get(name), digits, '+')}</small>"
    return f'<td data-value="{mean}">{text}</td>'


def _interval(interval: Sequence[float] | None, digits: int, sign: str = "") -> str:
    return "" if interval is None else f"[{', '.join(f'{end:{sign}.{digits}f}' for end in interval)}]"


def _case(case: dict | None, numbers: dict) -> str:
    """A worst or best case, which the viewer shows when it is chosen."""
    if case is None:
        return _figure(None)
    row = numbers.get((*key_of(case), case["column"]), "")
    shown = f"{case['gain_db']:+.2f} dB<small>{_escaped(case_title(case))}</small>"
    return f'<td data-value="{case["gain_db"]}"><button type="button" data-row="{row}">{shown}</button></td>'


def _figure(value: float | None, digits: int = 0, sign: str = "") -> str:
    return '<td data-value="">–</td>' if value is None else f'<td data-value="{value}">{value:{sign}.{digits}f}</td>'


def _text(text: str) -> str:
    return f"<td>{_escaped(text)}</td>"


def _named(text: str) -> str:
    return f'<th scope="row">{_escaped(text)}</th>'


def _line(cells: Sequence[str], kind: str = "") -> str:
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _table(heads: Sequence[str], lines: Sequence[str]) -> str:
    """A table whose headings sort it."""
    head = "".join(f'<th scope="col"><button type="button">{_escaped(title)}</button></th>' for title in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _measured(results: dict) -> list[str]:
    return [name for name, about in results["metrics"].items() if not about["reason"]]


def _title(results: dict, metric: str) -> str:
    return results["metrics"][metric]["title"]


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value with its dotted key."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _address(path: str) -> str:
    """A relative path as a link holds it; a colon in it names no protocol."""
    return quote(path.encode("utf-8", "surrogateescape"), safe="/")


def _embedded(values: dict) -> str:
    """JSON that no text in it can end: inside a script element only `<` could."""
    return json.dumps(values, allow_nan=False).replace("<", "\\u003c")


def _escaped(text: object) -> str:
    return html.escape(str(text), quote=True)
