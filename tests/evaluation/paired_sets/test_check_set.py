"""The command that says what of a set is missing."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_sets import flat, write_png

from evaluation import check_set, paired_sets

SCRIPT = Path(check_set.__file__)


@pytest.fixture
def realdof(tmp_path):
    for number in range(1, 51):
        flat(tmp_path / f"source/{number:02}.png", 50)
        flat(tmp_path / f"target/{number:02}.png", 60)
    return tmp_path


def test_a_whole_set_passes(realdof, capsys):
    assert check_set.main(["realdof", str(realdof)]) == 0
    out = capsys.readouterr().out
    assert "test: 50 captures, 50 with a reference" in out
    assert "bits: 8 (50)" in out and "sizes: 16 x 12 (50)" in out


def test_everything_that_is_missing_is_named(realdof, capsys):
    for number in (3, 4):
        (realdof / f"target/{number:02}.png").unlink()
    flat(realdof / "target/05.png", 60, size=(12, 15))
    (realdof / "source/06.png").write_bytes(b"nothing")
    assert check_set.main(["realdof", str(realdof)]) == 1
    out = capsys.readouterr().out
    for words in (
        "03.png has no reference", "04.png has no reference", "test: expected 50 captures, got 48", "06.png",
        "target/05.png: expected the reference in the size 16 x 12 of", "something is missing or wrong",
    ):  # fmt: skip
        assert words in out, words


def test_sizes_are_read_without_decoding(realdof, capsys):
    for file in realdof.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:40])
    assert check_set.main(["realdof", str(realdof)]) == 0
    assert check_set.main(["realdof", str(realdof), "--input-psnr"]) == 1
    assert "source/01.png" in capsys.readouterr().err


def test_a_folder_that_is_not_split_is_counted_once(tmp_path, capsys):
    for part in ("blurred", "sharp"):
        flat(tmp_path / part / "a.png", 50)
    assert check_set.main(["folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("1 captures") == 1 and "train: the same captures as test" in out


def test_the_input_row_is_compared_with_the_published_one(realdof, monkeypatch, capsys):
    # 10 codes apart: 20 log10(255 / 10) = 28.13 dB.
    assert check_set.main(["realdof", str(realdof), "--input-psnr"]) == 1
    out = capsys.readouterr().out
    assert "input PSNR: 28.13 dB" in out and "expected an input PSNR of 22.33 dB, got 28.13" in out
    known = replace(paired_sets.PAIRED_SETS["realdof"], input_psnr={"test": 28.14})
    monkeypatch.setitem(paired_sets.PAIRED_SETS, "realdof", known)
    assert check_set.main(["realdof", str(realdof), "--input-psnr"]) == 0


def test_the_border_does_not_count(tmp_path, capsys):
    root = tmp_path / "pixel4_dp"
    sharp = np.full((100, 100), 60000, np.uint16)
    blurred = np.zeros_like(sharp)
    # Half size leaves 50 x 50 pixels, 10 x 10 of them inside the border.
    blurred[40:60, 40:60] = np.uint16(60000 * 0.5**2.2)
    write_png(root / "blurred/a.png", blurred)
    write_png(root / "sharp/a.png", sharp)
    assert check_set.main(["pixel4_dp", str(root), "--input-psnr"]) == 0
    assert "input PSNR: 6.02 dB" in capsys.readouterr().out


def test_absent_splits_and_groups_are_noted(tmp_path, capsys):
    for number in range(1, 77):
        flat(tmp_path / f"test_c/source/{number:04}.png", 1)
        flat(tmp_path / f"test_c/target/{number:04}.png", 1)
    assert check_set.main(["dpdd", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "train: not there" in out and "no figures of indoor alone" in out
    assert check_set.main(["dpdd", str(tmp_path), "--split", "train"]) == 1
    np.save(tmp_path / "indoor_labels.npy", np.arange(1, 41))
    np.save(tmp_path / "outdoor_labels.npy", np.arange(41, 77))
    assert check_set.main(["dpdd", str(tmp_path)]) == 1
    assert "test/indoor: expected 37 captures, got 40" in capsys.readouterr().out


def test_another_layout_is_named(tmp_path, capsys):
    assert check_set.main(["lfdof", str(tmp_path)]) == 1
    assert "expected lfdof, got another layout" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dpd", "."], "NAME must be one of dpdd, realdof"),
        (["dpdd", "nowhere"], "nowhere: expected the folder of dpdd"),
        (["dpdd", ".", "--split", "tset"], "--split must be one of train, val, test"),
    ],
)
def test_mistakes_exit_with_2(arguments, words, capsys):
    assert check_set.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_missing_arguments_exit_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        check_set.main(["dpdd"])
    assert stopped.value.code == 2


def test_list_names_every_set(capsys):
    assert check_set.main(["--list"]) == 0
    out = capsys.readouterr().out
    for known in paired_sets.PAIRED_SETS.values():
        assert f"{known.name}: " in out and known.source in out and known.licence in out


def test_a_reader_may_go_before_the_list_ends():
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([sys.executable, str(SCRIPT), "--list"], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert run.returncode == 0 and run.stderr == b""
