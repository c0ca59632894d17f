"""The dashboard as one HTML page: the same panels for one run or for several, from their logs alone."""

import base64
import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from photos.files import replacing
from train.charts import Curve, line_chart
from train.dashboard_panels import PANELS, Chart, Pictures
from train.run_log import RunLog

__all__ = ["write_dashboard"]

_COLOURS = 8
_LEVELS = 6
_TITLE = "Training of "  # by which an earlier page is known
_MOST_PICTURES = 5

_SUMMARY = (
    ("loss", "loss", 4), ("denoising_psnr/0.1", "denoising at σ = 0.1, dB", 2),
    ("deblurring/psnr_gain", "deblurring gain, dB", 2), ("patches_per_s", "patches/s", 0),
    ("memory_mib", "memory, MiB", 0), ("gpu_memory_mib", "GPU memory, MiB", 0),
)  # fmt: skip


def write_dashboard(path: str | Path, runs: Sequence[RunLog], *, link_pictures: bool = False) -> None:
    """Writes the page; an old file is replaced when the new one is complete.

    Every chart of a single run holds all its curves; of several runs there is a chart for each curve, in
    which the runs lie over one another. All text is escaped.

    Args:
        path: The file to write.
        runs: At least one, of different names.
        link_pictures: Whether pictures are linked relative to the page, instead of embedded: five of each
            panel, spread over its steps.

    Raises:
        ValueError: If there is no run, two share a name, or the file is another than an earlier page.
    """
    path = Path(path)
    names = [run.name for run in runs]
    if not runs or len(set(names)) != len(names):
        raise ValueError(f"expected at least one run, none of them twice, got {', '.join(names) or 'none'}")
    if path.is_file() and _TITLE.encode() not in path.read_bytes()[:4096]:
        raise ValueError(f"{path}: expected no file or an earlier dashboard, got another file")
    charts, absent = [], []
    for panel in PANELS:
        if isinstance(panel, Chart):
            cards = _chart_cards(panel, runs)
            charts += cards
            if not cards:
                absent.append(panel.title)
    sections = [_picture_section(panel, runs, path, link_pictures) for panel in PANELS if isinstance(panel, Pictures)]
    absence = f"<p>Not in these logs: {', '.join(map(_escaped, absent))}.</p>" if absent else ""
    page = Template(files("train").joinpath("dashboard.html").read_text("utf-8")).substitute(
        title=_escaped(f"{_TITLE}{', '.join(names)}"), styles=_styles(), summary=_summary(runs),
        differences=_differences(runs), charts="\n".join(charts), pictures="\n".join(sections), absent=absence,
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8")


def _chart_cards(chart: Chart, runs: Sequence[RunLog]) -> list[str]:
    """One card for all curves of a single run, or one for each curve of several."""
    if len(runs) == 1:
        logged = [(key, name) for key, name in chart.curves if runs[0].series(key)]
        spread = (_LEVELS - 1) / max(1, len(logged) - 1)
        styles = ["run-0"] if len(logged) == 1 else [f"level-{round(i * spread)}" for i in range(_LEVELS)]
        plots = [(chart.title, [
            Curve(name, style, runs[0].series(key)) for (key, name), style in zip(logged, styles, strict=False)
        ])]  # fmt: skip
    else:
        plots = [
            (chart.title if len(chart.curves) == 1 else f"{chart.title}, {name}",
             [Curve(run.name, _run_style(index), run.series(key)) for index, run in enumerate(runs)])
            for key, name in chart.curves
        ]  # fmt: skip
    cards = []
    for title, curves in plots:
        curves = [curve for curve in curves if curve.points]
        if not curves:
            continue
        legend = "".join(f'<span><i class="swatch {c.style}"></i>{_escaped(c.name)}</span>' for c in curves)
        legend = f'<div class="legend">{legend}</div>' if len(runs) > 1 or len(curves) > 1 else ""
        svg = line_chart(curves, chart.unit, log_scale=chart.log_scale, smooth=chart.smooth)
        cards.append(_card(title, chart.explanation, svg + legend))
    return cards


def _picture_section(panel: Pictures, runs: Sequence[RunLog], page: Path, link: bool) -> str:
    cards = []
    for run in runs:
        found = run.pictures(panel.name)
        if not found:
            continue
        kept = found if link else _spread(found)
        sources = [[step, _linked(file, page) if link else _embedded(file)] for step, file in kept]
        slider = f'<input type="range" max="{len(kept) - 1}" value="{len(kept) - 1}" aria-label="step">'
        figure = (
            f'<figure data-pictures="{_escaped(json.dumps(sources))}">'
            f'<img src="{_escaped(sources[-1][1])}" alt="{_escaped(panel.title)}" loading="lazy">'
            f"<figcaption><output>step {kept[-1][0]}</output>{slider if len(kept) > 1 else ''}</figcaption></figure>"
        )
        cards.append(_card(run.name, panel.explanation, figure))
    if not cards:
        return ""
    return f'<h2>{_escaped(panel.title)}</h2>\n<div class="cards">\n{"".join(cards)}\n</div>'


def _summary(runs: Sequence[RunLog]) -> str:
    columns = [entry for entry in _SUMMARY if any(run.last(entry[0]) is not None for run in runs)]
    head = "".join(f"<th>{_escaped(title)}</th>" for _, title, _ in columns)
    rows = []
    for index, run in enumerate(runs):
        cells = []
        for key, _, digits in columns:
            value = run.last(key)
            cells.append(f"<td>{'–' if value is None else f'{value:,.{digits}f}'}</td>")
        steps = run.settings.get("optim.steps")
        of = f" of {_escaped(f'{steps:,}' if isinstance(steps, int) else steps)}" if steps is not None else ""
        rows.append(
            f'<tr><td><i class="swatch {_run_style(index)}"></i>{_escaped(run.name)}</td>'
            f"<td>{run.last_step:,}{of}</td>{''.join(cells)}</tr>"
        )
    return f"<table><tr><th>run</th><th>steps</th>{head}</tr>{''.join(rows)}</table>"


def _differences(runs: Sequence[RunLog]) -> str:
    """A table of the settings in which the runs differ."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    different = [key for key in keys if len({str(run.settings.get(key, "–")) for run in runs}) > 1]
    if not different:
        return ""
    head = "".join(f"<th>{_escaped(run.name)}</th>" for run in runs)
    rows = []
    for key in different:
        cells = "".join(f"<td>{_escaped(run.settings.get(key, '–'))}</td>" for run in runs)
        rows.append(f"<tr><td>{_escaped(key)}</td>{cells}</tr>")
    table = f"<table><tr><th>setting</th>{head}</tr>{''.join(rows)}</table>"
    return f'<h2>Settings that differ</h2>\n<div class="card scroll">{table}</div>'


def _card(title: str, explanation: str, content: str) -> str:
    return f'<section class="card"><h3>{_escaped(title)}</h3><p>{_escaped(explanation)}</p>{content}</section>'


def _run_style(index: int) -> str:
    return f"run-{index % _COLOURS}{' again' if index >= _COLOURS else ''}"


def _styles() -> str:
    names = [f"run-{index}" for index in range(_COLOURS)] + [f"level-{index}" for index in range(_LEVELS)]
    rules = (("polyline", "stroke"), ("circle", "fill"), (".swatch", "background"))
    return "\n".join(
        " ".join(f"{shape}.{name} {{ {what}: var(--{name}); }}" for shape, what in rules) for name in names
    )


def _spread(found: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """A few of many, evenly, the last among them."""
    if len(found) <= _MOST_PICTURES:
        return found
    return [found[round(n * (len(found) - 1) / (_MOST_PICTURES - 1))] for n in range(_MOST_PICTURES)]


def _embedded(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def _linked(file: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(file.resolve(), page.resolve().parent)).as_posix())


def _escaped(text: object) -> str:
    return html.escape(str(text), quote=True)
