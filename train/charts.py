"""Line charts as SVG: curves over optimizer steps, with the values at hand for whoever points at them."""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Curve", "line_chart", "nice_ticks", "running_mean", "short", "thinned"]

WIDTH, HEIGHT = 560, 264
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 10, 42
_MOST_POINTS = 400

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: What the legend says; escaped here.
        style: CSS class that gives its colour.
        points: Steps, rising, and finite values.
    """

    name: str
    style: str
    points: Points


def line_chart(curves: Sequence[Curve], unit: str, *, log_scale: bool = False, smooth: bool = False) -> str:
    """Draws curves over steps.

    Args:
        curves: At least one, none of them empty.
        unit: What the vertical axis measures.
        log_scale: Whether the vertical axis is logarithmic; ignored where a value is not positive.
        smooth: Whether noisy curves are drawn faint under their running mean.

    Returns:
        An `svg` element; its attribute `data-curves` holds steps and values as JSON.
    """
    shown = [Curve(curve.name, curve.style, thinned(curve.points)) for curve in curves]
    steps = [step for curve in shown for step, _ in curve.points]
    values = [value for curve in shown for _, value in curve.points]
    log_scale = log_scale and min(values) > 0
    first, last = min(steps), max(max(steps), min(steps) + 1)
    bottom, top, ticks = _vertical_range(values, log_scale)
    warp = math.log10 if log_scale else float

    def x(step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (step - first) / (last - first)

    def y(value: float) -> float:
        share = (warp(value) - warp(bottom)) / (warp(top) - warp(bottom))
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y(tick) + 5:.1f}" text-anchor="end">{short(tick)}</text>')
    for tick in nice_ticks(first, last, 6):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    parts.append(f'<text x="{_LEFT}" y="{HEIGHT - 4}">{html.escape(unit)}</text>')
    for curve in shown:
        faint = smooth and len(curve.points) >= 20
        parts.append(_line(curve.points, x, y, f"{curve.style}{' faint' if faint else ''}"))
        if faint:
            parts.append(_line(running_mean(curve.points), x, y, curve.style))
    data = {
        "left": _LEFT, "right": WIDTH - _RIGHT, "first": first, "last": last,
        "curves": [{"name": c.name, "style": c.style, "points": [list(p) for p in c.points]} for c in shown],
    }  # fmt: skip
    label = html.escape(f"{unit}: {', '.join(curve.name for curve in curves)}", quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
        f'data-curves="{html.escape(json.dumps(data), quote=True)}">{"".join(parts)}</svg>'
    )


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most 400 points: the last steps and the mean values of groups of consecutive points."""
    group = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[start : start + group] for start in range(0, len(points), group)]
    return [(part[-1][0], math.fsum(value for _, value in part) / len(part)) for part in groups]


def running_mean(points: Points) -> list[tuple[float, float]]:
    """Means over a window of about 5 % of the points around each, shorter at the ends."""
    reach = max(1, round(0.025 * len(points)))
    values = [value for _, value in points]
    means = []
    for index, (step, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        window = values[index - near : index + near + 1]
        means.append((step, math.fsum(window) / len(window)))
    return means


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high]: the finest that are no more than `most`."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    factor = next(f for f in (1, 2, 5, 10, 20) if math.floor(high / (f * step)) - math.ceil(low / (f * step)) < most)
    spacing = factor * step
    return [round(n * spacing, 12) for n in range(math.ceil(low / spacing), math.floor(high / spacing) + 1)]


def short(value: float) -> str:
    """A number as on an axis: 17500 as 17.5k."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def _vertical_range(values: Sequence[float], log_scale: bool) -> tuple[float, float, list[float]]:
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log_scale else (low - 1, high + 1)
    if not log_scale:
        space = 0.05 * (high - low)
        return low - space, high + space, nice_ticks(low - space, high + space, 6)
    low, high = low / 1.1, high * 1.1
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**e for e in decades for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) <= 7:
            break
    # Within a third of a decade there is hardly a round number: those of the linear axis then.
    return low, high, ticks if len(ticks) >= 3 else nice_ticks(low, high, 6)


def _line(points: Points, x, y, style: str) -> str:  # noqa: ANN001 - functions of the chart's axes
    if len(points) == 1:
        return f'<circle class="{style}" r="3" cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}"/>'
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    return f'<polyline class="{style}" points="{path}"/>'
