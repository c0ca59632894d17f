"""The benchmark command on a tiny synthetic folder."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import benchmark
from evaluation.metrics import psnr
from evaluation.paired import paired_captures
from evaluation.results import summarise
from evaluation.simulated import protocol_captures

PROJECT = Path(benchmark.__file__).resolve().parent.parent


def _blocks(seed, height, width):
    """A picture of coloured blocks: sharp edges."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return cells.repeat(16, 0).repeat(16, 1)[:height, :width]


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharp")
    for seed, name in enumerate(["first.png", "second.png"]):
        Image.fromarray(_blocks(seed, 288, 290)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def run(sharp, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results"
    arguments = [f"data.root={sharp}", "data.count=1", "methods=[input,tv]", "map=true", "save_pictures=true"]
    config = str(PROJECT / "configs" / "benchmark" / "simulated.yaml")
    return [config, *arguments, f"out={out}"], benchmark.main([config, *arguments, f"out={out}"]), out


def test_command_writes_every_figure(run, sharp):
    _, code, out = run
    assert code == 0
    results = json.loads((out / "results.json").read_text())
    assert results["schema_version"] == 1
    assert results["seed"] == 0
    assert {"python", "torch", "diffusers", "numpy"} <= set(results["versions"])
    assert set(results["git"]) == {"commit", "dirty"}
    assert results["weights_sha256"] == {}
    assert results["protocol"]["crop"] == 272 and results["protocol"]["noise_std"] == 0.01
    assert "16x supersampled" in results["protocol"]["description"]
    assert results["peak_memory"]["process_mib"] > 50
    assert results["pictures"] == 3
    assert len(results["rows"]) == 6
    for row in results["rows"]:
        assert set(row) >= {"name", "group", "method", "map", "psnr", "ssim", "lpips", "mae", "seconds", "evaluations"}
        assert set(row["input"]) == {"psnr", "ssim", "lpips", "mae"}
    unchanged, tv = results["summary"]
    assert (unchanged["method"], unchanged["map"], unchanged["gain_db"]) == ("input", None, 0)
    assert (tv["method"], tv["map"], tv["pictures"]) == ("tv", "true", 3)
    assert tv["gain_db"] > 3
    assert list(tv["gain_db_by_group"]) == ["ramp", "step", "constant"]
    first = next(protocol_captures(sharp))
    assert results["rows"][0]["psnr"] == pytest.approx(psnr(first.y, first.x))


def test_command_writes_a_table_and_strips(run):
    _, _, out = run
    page = (out / "results.md").read_text()
    assert "| tv | true |" in page and "3 pictures" in page
    strip = Image.open(out / "pictures" / "tv-true-map" / "ramp" / "first.png")
    assert strip.size == (4 * 272, 272)
    assert not list(out.rglob("*.part"))


def test_existing_results_are_not_replaced(run, capsys):
    arguments, _, out = run
    before = (out / "results.json").read_bytes()
    assert benchmark.main(arguments) == 1
    assert "overwrite=true" in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data.root=.", "metods=[tv]"], "did you mean 'methods'"),
        (["data.root=.", "methods=[tvv]"], "tvv"),
        (["data.root=.", "data.protocol=real", "map=true"], "no true map"),
        (["data.root=.", "data.count=0"], "data.count"),
        ([], "data.root"),
    ],
)
def test_mistakes_exit_with_2(arguments, words, tmp_path, capsys):
    assert benchmark.main([*arguments, f"out={tmp_path}"]) == 2
    assert words in capsys.readouterr().err


def test_missing_photos_and_weights_exit_with_1(tmp_path, sharp, capsys):
    assert benchmark.main(["methods=[input]", f"data.root={tmp_path / 'none'}", f"out={tmp_path}"]) == 1
    assert "none" in capsys.readouterr().err
    assert benchmark.main([f"data.root={sharp}", "methods=[score]", "weights=absent", f"out={tmp_path}"]) == 1
    assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_help_answers_at_once():
    start = time.perf_counter()
    script = PROJECT / "evaluation" / "benchmark.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "results.json" in done.stdout
    assert time.perf_counter() - start < 1


@pytest.fixture
def paired(tmp_path):
    """A set with one whole pair and one whose mask is the left half."""
    truth = _blocks(3, 40, 60)
    blurred = (truth.astype(int) * 3 // 4).astype(np.uint8)
    blurred[:, 30:] = truth[:, 30:]
    for folder, picture in {"blurred": blurred, "sharp": truth}.items():
        (tmp_path / "one" / folder).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "one" / folder / "a.png")
    for folder, picture in {"blurred": blurred, "sharp": truth}.items():
        (tmp_path / "two" / folder).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "two" / folder / "b.png")
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[:, :30] = 255
    (tmp_path / "two" / "blur_mask").mkdir()
    Image.fromarray(mask).save(tmp_path / "two" / "blur_mask" / "b.png")
    return tmp_path, truth / 255, blurred / 255


def test_real_captures_are_scored_whole_or_inside_their_mask(paired, tmp_path):
    root, truth, blurred = paired
    assert benchmark.main(["data.root=.", "data.protocol=real", "map=estimated", "methods=[input]", f"data.root={root}",
                           f"out={tmp_path / 'out'}"]) == 0  # fmt: skip
    whole, inside = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert (whole["set"], inside["set"]) == ("one", "two")
    error = (truth - blurred) ** 2
    assert whole["psnr"] == pytest.approx(-10 * np.log10(error.mean()), abs=1e-4)
    assert inside["psnr"] == pytest.approx(-10 * np.log10(error[:, :30].mean()), abs=1e-4)
    assert inside["mae"] == pytest.approx(np.abs(truth - blurred)[:, :30].mean(), rel=1e-4)


def test_pairs_that_do_not_fit_are_refused(paired):
    root, *_ = paired
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(root / "one" / "sharp" / "a.png")
    with pytest.raises(ValueError, match="same size"):
        list(paired_captures(root / "one"))
    (root / "two" / "sharp" / "b.png").rename(root / "two" / "sharp" / "c.png")
    with pytest.raises(ValueError, match="no reference"):
        list(paired_captures(root / "two"))
    with pytest.raises(ValueError, match="blurred and sharp"):
        list(paired_captures(root / "three"))


def _row(name, group, value, counted=True):
    figures = {"psnr": 20.0, "ssim": 0.5, "lpips": None, "mae": 0.1}
    return {"name": name, "set": "s", "group": group, "method": "tv", "map": "true", "counted": counted, **figures,
            "psnr": value, "seconds": 1.0, "evaluations": 0, "input": figures}  # fmt: skip


def test_summary_counts_photos_not_rows():
    rows = [_row("a", "ramp", 21.0), _row("a", "step", 23.0), _row("b", "ramp", 19.5), _row("b", "step", 24.5)]
    (summary,) = summarise([*rows, _row("c", "ramp", 90.0, counted=False)])
    assert summary["gain_db"] == 2
    # Both photos gain 2 dB on average: photos resampled as wholes, the mean never varies.
    assert summary["gain_db_interval_95"] == [2, 2]
    assert summary["gain_db_by_group"] == {"ramp": 0.25, "step": 3.75}
    assert summary["worst_gain"] == {"name": "b", "group": "ramp", "gain_db": -0.5}
    assert summary["left_out"] == 1
    assert summary["mean"]["lpips"] is None and summary["interval_95"]["lpips"] is None
    assert torch.tensor(summary["interval_95"]["psnr"]).tolist() == [22, 22]
