"""Paired differences between benchmark results."""

import json

import numpy as np
import pytest
from benchmark_results import METRICS, made_up_results, made_up_row, random_rows, stored

from evaluation.cases import key_of
from evaluation.compare import main
from evaluation.paired_differences import compare

PHOTOS, GROUPS = [f"photo{i}" for i in range(7)], ["ramp", "step", "constant"]


@pytest.fixture
def pair():
    """Results A and B, whose rows come in different orders."""
    a, b = random_rows("tv", PHOTOS, GROUPS, 0), random_rows("tv", PHOTOS, GROUPS, 1)
    np.random.default_rng(2).shuffle(b)
    return made_up_results(a), made_up_results(b)


def _array(results, metric):
    """Figures of a metric, shape (photos, groups)."""
    found = {key_of(row): row["metrics"][metric] for row in results["rows"]}
    return np.array([[found["set", group, photo] for group in GROUPS] for photo in PHOTOS])


@pytest.mark.parametrize(("metric", "sign"), [("psnr", 1), ("mae", -1)])
def test_differences_equal_an_independent_computation(pair, metric, sign):
    a, b = pair
    (comparison,) = compare(a, b)
    assert comparison["pictures"] == 21
    found = comparison["metrics"][metric]
    difference = _array(b, metric) - _array(a, metric)
    assert (found["pictures"], found["photos"]) == (21, 7)
    assert found["mean"] == pytest.approx(difference.mean(), abs=1e-12)
    assert found["mean_a"] == pytest.approx(_array(a, metric).mean())
    assert found["mean_b"] == pytest.approx(_array(b, metric).mean())
    assert found["share_better"] == np.mean(sign * difference > 0)
    for column, group in enumerate(GROUPS):
        assert found["by_group"][f"set/{group}"] == pytest.approx(difference[:, column].mean(), abs=1e-12)
    worst, best = ((sign * difference).argmin(), (sign * difference).argmax())
    for case, index in ((found["worst"], worst), (found["best"], best)):
        assert (case["name"], case["group"]) == (PHOTOS[index // 3], GROUPS[index % 3])
        assert case["difference"] == difference.flat[index]


def test_interval_resamples_photos_and_not_captures():
    # The three captures of a photo share its difference: as photos there are seven values, as captures 21.
    effect = dict(zip(PHOTOS, np.random.default_rng(3).normal(0, 1, 7), strict=True))
    a = [made_up_row("tv", "set", group, photo, 25.0) for photo in PHOTOS for group in GROUPS]
    b = [made_up_row("tv", "set", group, photo, 25.0 + effect[photo]) for photo in PHOTOS for group in GROUPS]
    low, high = compare(made_up_results(a), made_up_results(b))[0]["metrics"]["psnr"]["interval_95"]
    values = np.array(list(effect.values()))
    rng = np.random.default_rng(11)
    means = values[rng.integers(7, size=(20_000, 7))].mean(1)
    # Monte-Carlo error of the percentiles is about 0.01 of the standard deviation here.
    np.testing.assert_allclose([low, high], np.percentile(means, [2.5, 97.5]), atol=0.05)
    captures = values.repeat(3)[rng.integers(21, size=(20_000, 21))].mean(1)
    assert np.ptp(np.percentile(captures, [2.5, 97.5])) < 0.7 * (high - low)


def test_every_photo_weighs_the_same_however_many_captures_it_has():
    rows = [("one", "ramp", 1.0), ("one", "step", 3.0), ("two", "ramp", 8.0)]
    a = [made_up_row("tv", "set", group, name, 25.0) for name, group, _ in rows]
    b = [made_up_row("tv", "set", group, name, 25.0 + gain) for name, group, gain in rows]
    found = compare(made_up_results(a), made_up_results(b))[0]["metrics"]["psnr"]
    assert found["mean"] == 5.0 and found["mean_b"] == 30.0


def test_pictures_of_one_file_those_that_do_not_count_and_those_without_a_figure_are_left_out():
    a = [made_up_row("tv", "set", "set", name, 25.0) for name in ("both", "masked", "unknown", "alone")]
    b = [made_up_row("tv", "set", "set", "unknown", None), made_up_row("tv", "set", "set", "both", 26.0)]
    b += [made_up_row("tv", "set", "set", "masked", 99.0, counted=False)]
    b += [made_up_row("tv", "other set", "set", "alone", 99.0)]
    (comparison,) = compare(made_up_results(a), made_up_results(b))
    assert (comparison["pictures"], comparison["only_a"], comparison["only_b"]) == (2, 2, 1)
    assert comparison["metrics"]["psnr"]["pictures"] == 1 and comparison["metrics"]["psnr"]["mean"] == 1.0
    assert comparison["metrics"]["mae"]["pictures"] == 2
    assert "lpips_squeeze" not in comparison["metrics"]


def test_a_metric_without_direction_has_neither_better_nor_worst(pair):
    a, b = pair
    a["metrics"] = METRICS | {"mae": {"title": "MAE", "higher_is_better": None, "reason": None}}
    found = compare(a, b)[0]["metrics"]["mae"]
    assert (found["share_better"], found["worst"], found["best"]) == (None, None, None)
    assert found["mean"] == pytest.approx((_array(b, "mae") - _array(a, "mae")).mean())


def test_two_columns_of_one_file(tmp_path, capsys):
    rows = random_rows("input", PHOTOS, GROUPS, 0) + random_rows("score=1-true-map", PHOTOS, GROUPS, 1)
    file = stored(tmp_path / "a.json", made_up_results(rows))
    assert main([str(file), str(file), "--columns", "input=score=1-true-map", "--json"]) == 0
    printed = capsys.readouterr()
    (comparison,) = json.loads(printed.out)["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("input", "score=1-true-map") and printed.err == ""
    first, second = (np.mean([row["metrics"]["psnr"] for row in part]) for part in (rows[:21], rows[21:]))
    assert comparison["metrics"]["psnr"]["mean"] == pytest.approx(second - first)


def test_table_shows_the_difference_and_the_groups(pair, tmp_path, capsys):
    a, b = pair
    for results in pair:
        for row in results["rows"]:
            row["name"] = row["name"].replace("photo3", "photo|<script>")
    files = [str(stored(tmp_path / name, results)) for name, results in zip(("a.json", "b.json"), pair, strict=True)]
    assert main(files) == 0
    page = capsys.readouterr().out
    found = compare(a, b)[0]["metrics"]["psnr"]
    low, high = found["interval_95"]
    assert f"| {found['mean']:+.2f} [{low:+.2f}, {high:+.2f}] | {100 * found['share_better']:.0f} % | 21 (7) |" in page
    assert "| B − A | set/ramp | set/step | set/constant |" in page
    assert f"| PSNR, dB ↑ | {found['by_group']['set/ramp']:+.2f} |" in page
    assert "Without figures in both: LPIPS (squeeze) ↓." in page
    assert "<script>" not in page and all(line.count(" | ") in (3, 7) for line in page.splitlines() if "|" in line[:1]
                                          and "---" not in line)  # fmt: skip


def test_other_protocols_are_warned_about(pair, tmp_path, capsys):
    a, b = pair
    b |= {"seed": 7, "settings": {"data": {"root": "photos", "count": 12, "stride": 2}}}
    b["protocol"] = {"name": "real", "description": "Captures."}
    b["rows"][4]["input"]["psnr"] += 0.1
    assert main([str(stored(tmp_path / "a.json", a)), str(stored(tmp_path / "b.json", b))]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5 and all(line.startswith("evaluation/compare.py: warning: ") for line in errors)
    expected = (
        "protocol.name: 'simulated' in A, 'real' in B", "seed: 0 in A, 7 in B", "data.count: 24 in A, 12 in B",
        "data.stride: None in A, 2 in B", "figures before restoration differ on 1 of the pictures",
    )  # fmt: skip
    for words, line in zip(expected, errors, strict=True):
        assert words in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        (b"\x80", "not JSON"),
        ("[1]", "got schema None"),
        ('{"schema_version": 0}', "got schema 0"),
        (b"[" * 100_000, "not JSON"),
        ("rows", "as the benchmark writes them"),
        ("settings", "expected settings and metrics"),
        ("direction", "expected settings and metrics"),
        ("twice", "got two of tv set ramp photo0"),
        ("columns", "expected columns of equal name, got tv and input"),
        ("pictures", "none in columns tv and tv"),
    ],
)
def test_what_cannot_be_compared_exits_with_1(content, words, pair, tmp_path, capsys):
    a, b = pair
    file = tmp_path / "b.json"
    if content == "rows":
        stored(file, b | {"rows": [{"name": "photo"}]})
    elif content == "settings":
        stored(file, b | {"settings": {}})
    elif content == "direction":
        stored(file, b | {"metrics": METRICS | {"mae": {"higher_is_better": "yes", "reason": None}}})
    elif content == "twice":
        stored(file, b | {"rows": [row for row in b["rows"] if row["name"] == "photo0" and row["group"] == "ramp"] * 2})
    elif content == "columns":
        stored(file, made_up_results(random_rows("input", PHOTOS, GROUPS, 1)))
    elif content == "pictures":
        stored(file, made_up_results(random_rows("tv", PHOTOS, GROUPS, 1, "other set")))
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main([str(stored(tmp_path / "a.json", a)), str(file)]) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == "" and printed.err.count("\n") == 1 and "b.json" in printed.err


@pytest.mark.parametrize("columns", ["tv", "tv=score", "input=tv"])
def test_unknown_columns_exit_with_2(columns, pair, tmp_path, capsys):
    files = [str(stored(tmp_path / name, results)) for name, results in zip(("a.json", "b.json"), pair, strict=True)]
    assert main([*files, "--columns", columns]) == 2
    error = capsys.readouterr().err
    assert columns in error and error.count("\n") == 1
