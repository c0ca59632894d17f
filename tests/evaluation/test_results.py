"""Means, intervals, relative gains, tables, and what is read back."""

import json

import numpy as np
import pytest

from evaluation.results import gain, read_results, relative_gain, summarise, table, write_results

METRICS = ("psnr", "ssim")


def row(
    name, value, *, scene=None, group="ramp", column="tv-true-map", counted=True, set_name="s", other=None, equal=False
):
    before = {"psnr": 20.0, "ssim": 0.5}
    return {
        "set": set_name, "group": group, "name": name, "scene": scene or name, "column": column,
        "method": column.split("-")[0], "map": "true",
        "counted": counted, "metrics": {"psnr": value, "ssim": 0.6}, "input": before,
        "equal": equal, "input_equal": False,
        "other_focus": other and {"psnr": other, "ssim": 0.7}, "input_other_focus": other and before,
        "seconds": 1.0, "peak_memory_mib": 9.0, "evaluations": 4, "pictures": None,
    }  # fmt: skip


def results(rows):
    return {
        "schema_version": 2, "protocol": {"description": "What was measured."}, "seed": 0, "threads": 2,
        "device": "cpu", "versions": {"torch": "2"}, "git": {"commit": "f" * 40, "dirty": False}, "skipped": [],
        "metrics": {name: {"reason": None} for name in METRICS}, "summary": summarise(rows, METRICS), "rows": rows,
    }  # fmt: skip


def test_summary_counts_photos_not_rows():
    rows = [row("a", 21.0), row("a", 23.0, group="step"), row("b", 19.5), row("b", 24.5, group="step")]
    (summary,) = summarise([*rows, row("c", 90.0, counted=False)], METRICS)
    assert summary["gain"]["psnr"] == 2
    # Both photos gain 2 dB on average: photos resampled as wholes, the mean never varies.
    assert summary["gain_interval_95"]["psnr"] == [2, 2]
    assert summary["interval_95"]["psnr"] == [22, 22]
    assert summary["gain_by_group"] == {"ramp": 0.25, "step": 3.75}
    assert summary["by_group"]["step"]["psnr"] == 23.75
    assert summary["worst"] == {"set": "s", "group": "ramp", "name": "b", "column": "tv-true-map", "gain_db": -0.5}
    assert summary["best"]["gain_db"] == 4.5
    assert summary["harmed"] == 0.25
    assert (summary["pictures"], summary["left_out"]) == (4, 1)


def test_captures_of_one_scene_are_not_independent():
    scenes = {"one": (21.0, 23.0), "two": (19.5, 24.5)}
    rows = [row(f"{name}/{value}", value, scene=name) for name, values in scenes.items() for value in values]
    rows += [row(f"{name}/{value}", 20.0, scene=name, column="denoise") for name, values in scenes.items()
             for value in values]  # fmt: skip
    summary = summarise(rows, METRICS)[0]
    assert summary["gain_interval_95"]["psnr"] == [2, 2] and summary["pictures"] == 4
    assert relative_gain(rows, "tv-true-map", "denoise", "psnr") == (pytest.approx(10), pytest.approx([10, 10]))
    # Rows of before there were scenes are of one photo where they have its name.
    old = [{key: value for key, value in row.items() if key != "scene"} for row in rows]
    assert summarise(old, METRICS)[0]["gain_interval_95"]["psnr"][0] < 1


def test_sets_are_never_averaged_together():
    summaries = summarise([row("a", 21.0), row("a", 25.0, set_name="t")], METRICS)
    assert [(summary["set"], summary["gain"]["psnr"]) for summary in summaries] == [("s", 1), ("t", 5)]


def test_a_figure_that_is_missing_stays_out_of_the_mean():
    rows = [row("a", 21.0), row("b", None)]
    (summary,) = summarise(rows, METRICS)
    assert summary["mean"]["psnr"] == 21
    assert gain(rows[1]) is None
    assert gain(row("c", None, equal=True)) == 80  # Equal pictures count as 100 dB.
    harmed = row("d", 60.0) | {"input": {"psnr": None, "ssim": 1.0}, "input_equal": True}
    assert gain(harmed) == -40


def test_the_other_focus_has_means_of_its_own():
    (summary,) = summarise([row("a", 21.0, other=26.0), row("b", 21.0)], METRICS)
    assert summary["other_focus"]["mean"]["psnr"] == 26
    assert summary["other_focus"]["gain"] == 6
    equal = row("c", 21.0, other=24.0) | {"input_other_focus": {"psnr": None, "ssim": 1.0}}
    (summary,) = summarise([row("a", 21.0, other=26.0), equal], METRICS)
    assert summary["other_focus"]["gain"] == 6 and summary["other_focus"]["mean"]["psnr"] == 25


def test_relative_gain_is_the_mean_of_the_pictures_shares():
    rows = [row("a", 30.0), row("b", 22.0), row("a", 20.0, column="denoise"), row("b", 20.0, column="denoise")]
    mean, (low, high) = relative_gain([*rows, row("c", 50.0)], "tv-true-map", "denoise", "psnr")
    assert mean == pytest.approx((50 + 10) / 2)
    assert low == pytest.approx(10) and high == pytest.approx(50)
    assert relative_gain(rows, "tv-true-map", "absent", "psnr") is None
    # Of nothing there is no share.
    dark = [*rows, row("d", 30.0), row("d", 0.0, column="denoise")]
    assert relative_gain(dark, "tv-true-map", "denoise", "psnr")[0] == mean


def test_intervals_are_those_of_an_independent_bootstrap():
    rng = np.random.default_rng(5)
    values = 20 + rng.standard_normal(40)
    (summary,) = summarise([row(str(i), float(v)) for i, v in enumerate(values)], METRICS)
    draws = [rng.choice(values, len(values)).mean() for _ in range(20_000)]
    assert summary["interval_95"]["psnr"] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.02)


def test_tables_show_each_set(tmp_path):
    rows = [row("a", 21.0), row("b", 19.0, set_name="t")]
    text = table(results(rows))
    assert "## s" in text and "## t" in text
    assert "+1.00 [+1.00, +1.00]" in text and "-1.00 [-1.00, -1.00]" in text
    assert "100 %" in text
    write_results(tmp_path, results(rows))
    assert read_results(tmp_path / "results.json") == json.loads(json.dumps(results(rows)))


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("{", "not JSON"), ("[]", "schema None"), ('{"schema_version": 1}', "got schema 1")],
)
def test_other_files_are_refused(text, words, tmp_path):
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_results(file)


@pytest.mark.parametrize("part", results([]))
def test_a_part_of_another_form_is_named(part, tmp_path):
    file, whole = tmp_path / "results.json", results([row("a", 21.0)])
    for other in ({**whole, part: 5.5}, {**whole, part: [5]}, {key: whole[key] for key in whole if key != part}):
        file.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=rf"results\.json: expected .*\b({part.partition('_')[0]})\b"):
            read_results(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole["summary"][0]["mean"].update(psnr="22"),
        lambda whole: whole["summary"][0]["mean"].pop("ssim"),
        lambda whole: whole["summary"][0].pop("gain"),
        lambda whole: whole["summary"][0]["gain_interval_95"].update(psnr=[1]),
        lambda whole: whole["summary"][0].update(worst=3),
        lambda whole: whole["rows"][0].update(input=5),
        lambda whole: whole["rows"][0]["metrics"].update(psnr="22"),
        lambda whole: whole["rows"][0]["metrics"].update(psnr=10**400),
        lambda whole: whole["rows"][0]["metrics"].update(psnr=float("nan")),
        lambda whole: whole["rows"][0]["metrics"].pop("ssim"),
        lambda whole: whole["rows"][0].update(scene=[]),
        lambda whole: whole.update(git={}),
        lambda whole: whole["metrics"].update(psnr=None),
        lambda whole: whole.update(versions={}),
        lambda whole: whole.update(skipped=[{}]),
    ],
)  # fmt: skip
def test_damaged_results_are_refused(damage, tmp_path):
    whole = json.loads(json.dumps(results([row("a", 21.0)])))
    damage(whole)
    (tmp_path / "results.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"results\.json: expected "):
        read_results(tmp_path / "results.json")
