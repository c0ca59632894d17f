"""The dashboard: its numbers are those of the log, its charts draw them in place, whatever runs are called."""

import html
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from train import dashboard
from train.charts import Curve, line_chart, nice_ticks, running_mean, short, thinned
from train.dashboard_panels import PANELS, Chart, Pictures
from train.run_log import read_run

EVIL = '<script>alert("1")</script>&\'x'


def _run(folder, offset=0.0, steps=300, lr=1e-3):
    """A finished run with every figure and picture that a dashboard shows."""
    (folder / "panels").mkdir(parents=True)
    keys = [key for panel in PANELS if isinstance(panel, Chart) for key, _ in panel.curves]
    lines = []
    for step in range(10, steps + 1, 10):
        lines.append({"step": step} | {key: offset + n + 1 + 10 / step for n, key in enumerate(keys)})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')
    (folder / "config.yaml").write_text(f"optim:\n  steps: {steps}\n  lr: {lr}\ndata:\n  root: same\n")
    for panel in PANELS:
        if isinstance(panel, Pictures):
            for step in (100, 200, 300, 400):
                Image.fromarray(np.full((6, 6, 3), step // 4, np.uint8)).save(
                    folder / "panels" / f"{panel.name}_{step:08d}.png"
                )
    return lines, keys


class _Page(HTMLParser):
    """Titles of cards, data of charts, tags and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.cards, self.charts, self.tags, self.addresses, self.pictures, self._heading = [], [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self._heading = tag == "h3"
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        if "data-curves" in attrs:
            self.charts.append(json.loads(attrs["data-curves"]))
        if "data-pictures" in attrs:
            self.pictures.append(json.loads(attrs["data-pictures"]))

    def handle_data(self, data):
        if self._heading:
            self.cards.append(data)
            self._heading = False


def _page(tmp_path, *folders, options=()):
    out = tmp_path / "page" / "dashboard.html"
    out.parent.mkdir(exist_ok=True)
    assert dashboard.main([*map(str, folders), "-o", str(out), *options]) == 0
    return _Page(out.read_text(encoding="utf-8")), out.read_text(encoding="utf-8")


def test_one_run_has_every_panel_with_the_numbers_of_its_log(tmp_path):
    lines, keys = _run(tmp_path / "run")
    page, text = _page(tmp_path, tmp_path / "run")
    titles = [panel.title for panel in PANELS if isinstance(panel, Chart)]
    assert page.cards[: len(titles)] == titles
    drawn = [curve for chart in page.charts for curve in chart["curves"]]
    assert len(drawn) == len(keys)
    for key, curve in zip(keys, drawn, strict=True):
        assert curve["points"] == [[line["step"], pytest.approx(line[key])] for line in lines]
    assert f"<td>{lines[-1]['loss']:.4f}</td>" in text and "300 of 300" in text
    assert f"<td>{lines[-1]['deblurring/psnr_gain']:.2f}</td>" in text
    # Pictures beyond the last step are of a run that was wound back.
    assert [[step for step, _ in figure] for figure in page.pictures] == [[100, 200, 300]] * 3
    assert "Settings that differ" not in text and "Not in these logs" not in text


def test_several_runs_lie_over_one_another(tmp_path):
    lines, keys = _run(tmp_path / "a" / "run", lr=1e-3)
    others, _ = _run(tmp_path / "b" / "run", offset=0.5, lr=2e-3)
    page, text = _page(tmp_path, tmp_path / "a" / "run", tmp_path / "b" / "run")
    assert len(page.charts) == len(keys)
    for key, chart in zip(keys, page.charts, strict=True):
        assert [curve["name"] for curve in chart["curves"]] == ["a/run", "b/run"]
        ends = [curve["points"][-1][1] for curve in chart["curves"]]
        assert ends == pytest.approx([lines[-1][key], others[-1][key]])
    table = text[text.index("Settings that differ") :]
    table = table[: table.index("</table>")]
    assert "optim.lr" in table and "0.002" in table and "data.root" not in table


@pytest.mark.parametrize("options", [(), ("--link",)])
def test_page_needs_nothing_from_elsewhere_and_escapes_names(tmp_path, options):
    folder = tmp_path / EVIL.replace("/", "")
    lines, _ = _run(folder)
    page, text = _page(tmp_path, folder, options=options)
    assert page.tags.count("script") == 1 and "alert(" in html.unescape(text)
    assert "http" not in text.replace("http-equiv", "")
    assert page.addresses
    for address in page.addresses:
        if options:
            from urllib.parse import unquote

            assert (tmp_path / "page" / unquote(address)).is_file()
        else:
            assert address.startswith("data:image/png;base64,")
    assert "href" not in page.tags and "link" not in page.tags


def test_figures_that_were_never_logged_are_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 5, "loss": 0.5}\n{"step": 9, "loss": NaN}\n')
    page, text = _page(tmp_path, tmp_path / "run")
    assert page.cards == ["Loss"] and page.charts[0]["curves"][0]["points"] == [[5, 0.5]]
    assert "Not in these logs: Loss by noise level, " in text and "<circle" in text


def test_curves_are_drawn_where_their_values_are():
    points = [(0, 1.0), (50, 10.0), (100, 100.0)]
    svg = line_chart([Curve("c", "run-0", points)], "unit", log_scale=True)
    drawn = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]*)"', svg)[1].split()]
    data = json.loads(html.unescape(re.search(r'data-curves="([^"]*)"', svg)[1]))
    assert [x for x, _ in drawn] == pytest.approx([data["left"], (data["left"] + data["right"]) / 2, data["right"]])
    # Equal ratios are equal distances, upwards.
    assert drawn[0][1] - drawn[1][1] == pytest.approx(drawn[1][1] - drawn[2][1], abs=0.11)
    # The tick of 10 lies at the height of the value 10.
    labels = dict((float(text), float(y)) for y, text in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', svg))
    assert labels[10.0] - 5 == pytest.approx(drawn[1][1], abs=0.11)
    # A value that is not positive has no place on a logarithmic axis.
    assert "<polyline" in line_chart([Curve("c", "run-0", [(0, -1.0), (1, 2.0)])], "unit", log_scale=True)


def test_thinning_and_smoothing_keep_means():
    points = [(step, math.sin(step)) for step in range(4000)]
    few = thinned(points)
    assert len(few) == 400 and few[-1][0] == 3999 and thinned(points[:400]) == points[:400]
    assert np.mean([v for _, v in few]) == pytest.approx(np.mean([v for _, v in points]), abs=1e-12)
    line = [(step, 3.0 * step + 1) for step in range(100)]
    assert running_mean(line) == [(step, pytest.approx(value)) for step, value in line]
    noise = np.random.default_rng(0).standard_normal(400)
    smooth = [value for _, value in running_mean(list(enumerate(noise)))]
    assert np.std(smooth[20:-20]) == pytest.approx(1 / math.sqrt(21), rel=0.25)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (26.7, 48.6), (-0.003, 0.0004), (10, 17500), (1e-9, 3e-9)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = nice_ticks(low, high, 6)
    assert 2 <= len(ticks) <= 6 and low <= ticks[0] and ticks[-1] <= high
    spacing = ticks[1] - ticks[0]
    assert spacing / 10 ** math.floor(math.log10(spacing * 1.0001)) == pytest.approx(round(
        spacing / 10 ** math.floor(math.log10(spacing * 1.0001))), abs=1e-3)  # fmt: skip


def test_short_numbers():
    assert [short(v) for v in (17500, 0.00025, 2e6, 0, -3.5)] == ["17.5k", "0.00025", "2M", "0", "-3.5"]


@pytest.mark.parametrize(("arguments", "code", "expected"), [
    (["{}/nowhere"], 1, "expected the folder of a training run with log.jsonl"),
    (["{}/empty"], 1, "expected JSON lines with a step each, got none"),
    (["{}/run", "{}/run"], 1, "none of them twice, got run, run"),
    (["{}/run", "-o", "{}/run/log.jsonl"], 1, "log.jsonl: expected no file or an earlier dashboard, got another file"),
    (["{}/run", "-o", "{}/no/such/folder/page.html"], 1, "cannot be written"),
])  # fmt: skip
def test_errors_are_one_line(tmp_path, capsys, arguments, code, expected):
    _run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.jsonl").write_text("no json\n[]\n")
    assert dashboard.main([argument.format(tmp_path) for argument in arguments]) == code
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and message[0].startswith("train/dashboard.py: ") and expected in message[0]


def test_unfinished_line_and_foreign_pictures_are_passed_over(tmp_path):
    lines, _ = _run(tmp_path / "run")
    (tmp_path / "run" / "panels" / "samples_old.png").write_bytes(b"")
    run = read_run(tmp_path / "run")
    assert run.last_step == 300 and len(run.lines) == len(lines)
    assert [step for step, _ in run.pictures("samples")] == [100, 200, 300]
    assert run.settings["optim.lr"] == 0.001
