"""DPDD: numbers of captures and references that differ, dual-pixel views, labels, depth, both layouts."""

import re

import numpy as np
import pytest
from fake_sets import code_of, flat

from evaluation.paired_sets import PAIRED_SETS, list_captures

DPDD = PAIRED_SETS["dpdd"]
# Scene by scene, capture and reference: no name is in both, and the number nearest to capture 0922 is that of scene 3.
NUMBERS = [(917, 916), (919, 918), (920, 921), (922, 924), (926, 925)]


def _canon(root, numbers=NUMBERS, split="test", dtype=np.uint8):
    for scene, (source, target) in enumerate(numbers, start=1):
        flat(root / f"{split}_c/source/1P0A{source:04}.png", scene, dtype=dtype)
        flat(root / f"{split}_c/target/1P0A{target:04}.png", 100 + scene, dtype=dtype)
        for side in "lr":
            flat(root / f"{split}_{side}/source/1P0A{source:04}_{side.upper()}.png", scene, dtype=dtype)
    return root


def _restormer(base, end=""):
    for scene, (source, target) in enumerate(NUMBERS, start=1):
        for view, tail in (("inputC", ""), ("inputL", "_L"), ("inputR", "_R"), ("target", "")):
            number = target if view == "target" else source
            flat(base / f"{view}{end}/1P0A{number:04}{tail}.png", scene + 100 * (view == "target"))
    return base


def _labels(folder, indoor, outdoor):
    np.save(folder / "indoor_labels.npy", indoor)
    np.save(folder / "outdoor_labels.npy", outdoor)


@pytest.mark.parametrize("layout", ["canon", "restormer", "restormer test folder"])
def test_pairs_by_position_whatever_the_numbers(layout, tmp_path):
    root = _canon(tmp_path) if layout == "canon" else _restormer(tmp_path / "test" / "DPDD")
    pairs = DPDD.pairs(tmp_path if layout == "restormer" else root)
    assert [files.name for files in pairs] == [f"1P0A{source:04}" for source, _ in NUMBERS]
    for scene, files in enumerate(pairs, start=1):
        capture = DPDD.capture(files)
        assert (code_of(capture.y), code_of(capture.x)) == (scene, 100 + scene)
        assert files.left.stem == f"{files.name}_L" and files.right.stem == f"{files.name}_R"
        assert (capture.set_name, capture.group, capture.bits) == ("dpdd", "dpdd", 8)


def test_positions_are_natural_not_alphabetical(tmp_path):
    for number in (2, 10, 100):
        flat(tmp_path / f"val/DPDD/inputC_crops/{number}.png", number)
        flat(tmp_path / f"val/DPDD/target_crops/{number:03}.png", number)
    assert DPDD.splits_at(tmp_path) == ("val_crops",)
    codes = [DPDD.capture(files) for files in DPDD.pairs(tmp_path, "val_crops")]
    assert [code_of(capture.x) for capture in codes] == [code_of(capture.y) for capture in codes] == [2, 10, 100]


def test_centre_views_alone_suffice(tmp_path):
    _canon(tmp_path)
    for side in "lr":
        (tmp_path / f"test_{side}").rename(tmp_path / f"elsewhere_{side}")
    assert all(files.left is None and files.right is None for files in DPDD.pairs(tmp_path))


def test_sixteen_bits_stay(tmp_path):
    _canon(tmp_path, [(917, 916)], dtype=np.uint16)
    flat(tmp_path / "test_c/source/1P0A0917.png", 40001, dtype=np.uint16)
    capture = DPDD.capture(DPDD.pairs(tmp_path)[0])
    assert capture.bits == 16 and code_of(capture.y, 65535) == 40001


@pytest.mark.parametrize("place", ["canon", "restormer"])
def test_labels_count_from_one(place, tmp_path):
    folder = _canon(tmp_path) if place == "canon" else _restormer(tmp_path / "test" / "DPDD")
    _labels(folder, [1, 4], [2, 3, 5])
    groups = [files.group for files in DPDD.pairs(tmp_path)]
    assert groups == ["indoor", "outdoor", "outdoor", "indoor", "outdoor"]
    assert [files.group for _, files in list_captures(tmp_path, count=2)] == ["indoor", "outdoor"]


@pytest.mark.parametrize(
    ("indoor", "outdoor", "words"),
    [
        ([0, 3], [1, 2, 4], "indoor_labels.npy: expected positions from 1 to 5"),
        ([1, 6], [2, 3, 4], "from 1 to 5"),
        ([1.0, 4.0], [2, 3, 5], "from 1 to 5"),
        ([1, 4], [2, 3, 4, 5], "outdoor_labels.npy: expected each position once as indoor or outdoor, got 4"),
        ([1, 4], [2, 3], "got none for position 5"),
        (np.array([1, 4], dtype=object), [2, 3, 5], "indoor_labels.npy: expected an array of whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(indoor, outdoor, words, tmp_path):
    _labels(_canon(tmp_path), indoor, outdoor)
    with pytest.raises(ValueError, match=re.escape(words)):
        DPDD.pairs(tmp_path)


def test_one_label_file_is_not_enough(tmp_path):
    np.save(_canon(tmp_path) / "indoor_labels.npy", [1, 4])
    with pytest.raises(ValueError, match="outdoor_labels.npy"):
        DPDD.pairs(tmp_path)


def test_a_missing_reference_is_named(tmp_path):
    (_canon(tmp_path) / "test_c/target/1P0A0921.png").unlink()
    with pytest.raises(ValueError, match="got 5 captures and 4 references.*1P0A0920.png and 1P0A0924.png"):
        DPDD.pairs(tmp_path)


def test_files_missing_on_both_sides_do_not_shift_pairs_silently(tmp_path):
    (_canon(tmp_path) / "test_c/source/1P0A0917.png").unlink()
    (tmp_path / "test_c/target/1P0A0925.png").unlink()
    with pytest.raises(ValueError, match="first that do not fit are 1P0A0919.png and 1P0A0916.png"):
        DPDD.pairs(tmp_path)


def test_a_missing_view_is_named(tmp_path):
    (_canon(tmp_path) / "test_r/source/1P0A0920_R.png").unlink()
    with pytest.raises(ValueError, match="1P0A0920.png has no right view in .*test_r"):
        DPDD.pairs(tmp_path)


def test_splits(tmp_path):
    _canon(_canon(tmp_path), split="train")
    assert DPDD.splits_at(tmp_path) == ("train", "test")
    assert len(DPDD.pairs(tmp_path, "train")) == 5
    with pytest.raises(ValueError, match="expected the split val of dpdd, got its split train, test alone"):
        DPDD.pairs(tmp_path, "val")
    with pytest.raises(ValueError, match="expected a split among"):
        DPDD.pairs(tmp_path, "tset")
