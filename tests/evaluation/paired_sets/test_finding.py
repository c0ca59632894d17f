"""Finding sets below a folder and choosing captures of them."""

import re

import pytest
from fake_sets import code_of, flat

from evaluation.paired_sets import PAIRED_SETS, captures, find_sets, list_captures


@pytest.fixture
def root(tmp_path):
    """Three sets, one of them without references, and a folder that is none."""
    for number in (1, 2, 3):
        flat(tmp_path / f"RealDOF/source/{number:02}.png", number)
        flat(tmp_path / f"RealDOF/target/{number:02}.png", 100 + number)
        flat(tmp_path / f"mine/blurred/{number}.png", 10 + number)
        flat(tmp_path / f"mine/sharp/{number}.png", 110 + number)
        flat(tmp_path / f"handheld_noref/blurred/{number}.png", number)
    flat(tmp_path / "notes/figure.png", 1)
    return tmp_path


def test_sets_are_found_by_layout(root):
    found = [(known.name, place.name) for known, place in find_sets(root)]
    assert found == [("handheld_noref", "handheld_noref"), ("folder", "mine"), ("realdof", "RealDOF")]


def test_captures_of_all_sets_with_references(root):
    found = [(item.set_name, item.name, code_of(item.y), code_of(item.x)) for item in captures(root, count=2)]
    assert found == [
        ("mine", "1", 11, 111), ("mine", "2", 12, 112), ("realdof", "01", 1, 101), ("realdof", "02", 2, 102),
    ]  # fmt: skip


def test_captures_without_references_are_for_the_asking(root):
    listed = list_captures(root, references_only=False)
    assert len(listed) == 9
    assert [files.reference for known, files in listed if known.name == "handheld_noref"] == [None] * 3


@pytest.mark.parametrize(("names", "expected"), [(["realdof"], "realdof"), (["mine"], "mine"), (["folder"], "mine")])
def test_sets_are_chosen_by_name_or_folder(names, expected, root):
    assert {files.set_name for _, files in list_captures(root, sets=names)} == {expected}


def test_sets_without_the_split_are_left_out(root):
    assert {files.set_name for _, files in list_captures(root, split="train")} == {"mine"}
    with pytest.raises(ValueError, match="expected a split among test, got 'train'"):
        list_captures(root, sets=["realdof"], split="train")
    with pytest.raises(ValueError, match="expected captures with references of the split val, got none"):
        list_captures(root, split="val")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count must be None or at least 1, got 0"),
        ({"sets": ["realdoff"]}, "got 'realdoff'"),
        ({"sets": []}, "name at least one set"),
        ({"sets": ["dpdd"]}, "expected the set dpdd, got none with its layout: {train,val,test}"),
        ({"sets": ["handheld_noref"]}, "expected a set with references for figures, got handheld_noref"),
    ],
)
def test_wrong_choices_are_refused_at_once(options, words, root):
    with pytest.raises(ValueError, match=re.escape(words)):
        captures(root, **options)


def test_no_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got no known layout"):
        find_sets(tmp_path)
    with pytest.raises(ValueError, match="got no such folder"):
        find_sets(tmp_path / "none")
    (tmp_path / "mine/blurred").mkdir(parents=True)
    with pytest.raises(ValueError, match="expected captures of the split test of folder, got none"):
        captures(tmp_path)


def test_two_copies_of_a_set_are_refused(root):
    for part in ("source", "target"):
        flat(root / "copy" / part / "01.png", 1)
    with pytest.raises(ValueError, match="expected one set called realdof, got .*copy and .*RealDOF"):
        captures(root)


def test_listing_decodes_nothing(root):
    for file in (root / "RealDOF").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:40])
    listed = list_captures(root, sets=["realdof"])
    assert len(listed) == 3
    with pytest.raises(ValueError, match="source/01.png"):
        next(captures(root, sets=["realdof"]))


def test_every_set_says_where_it_is_from():
    for name, known in PAIRED_SETS.items():
        assert known.name == name
        assert all((known.title, known.source, known.licence, known.layout, known.splits))
        assert {key.partition("/")[0] for key in (*known.counts, *known.input_psnr)} <= set(known.splits)
        for split in known.splits:
            parts = [n for key, n in known.counts.items() if key.startswith(f"{split}/")]
            assert split not in known.counts or not parts or sum(parts) == known.counts[split]
