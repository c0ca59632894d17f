"""Contact sheets hold the pictures that their results name, each in its place."""

import numpy as np
import pytest
from benchmark_results import made_up_results, made_up_row
from PIL import Image

from evaluation.contact_sheets import write_contact_sheets
from photos.maps import map_picture

PARTS = ("input", "restored", "reblurred", "map", "reference")


def _row(out, column, name, psnr, size=(40, 30), radius=4.0, **more):
    """A row whose pictures, random and all different, are saved."""
    rng = np.random.default_rng([ord(letter) for letter in column + name])
    pictures = {"largest_radius": radius}
    for part in PARTS:
        shape = (size[1], size[0]) if part == "map" else (size[1], size[0], 3)
        pictures[part] = f"pictures/{part}/{column}/{name} #ü.png"
        (out / pictures[part]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(out / pictures[part])
    return made_up_row(column, "set", "ramp", name, psnr, pictures=pictures, **more)


def _codes(file):
    return np.asarray(Image.open(file).convert("RGB"))


def _place(sheet, picture):
    """Top and left of a picture in a sheet, found by its pixels; None where it is not there."""
    height, width = picture.shape[:2]
    candidates = np.argwhere((sheet[: 1 - height or None, : 1 - width or None] == picture[0, 0]).all(-1))
    places = [(y, x) for y, x in candidates if (sheet[y : y + height, x : x + width] == picture).all()]
    assert len(places) <= 1
    return places[0] if places else None


def test_every_picture_is_in_its_cell(tmp_path):
    rows = [_row(tmp_path, "tv", name, 25.0) for name in ("a", "b")]
    first, *_ = write_contact_sheets(tmp_path, made_up_results(rows), cell=64)
    sheet = _codes(first)
    places = []
    for row in rows:
        pictures = {part: _codes(tmp_path / row["pictures"][part]) for part in PARTS}
        pictures["map"] = map_picture(pictures["map"][..., 0] / 255 * 4.0, 4.0)
        places.append([_place(sheet, pictures[part]) for part in PARTS])
    tops, lefts = np.moveaxis(np.array(places), -1, 0)
    # One line for each capture, and in it the cells from left to right, at equal distances.
    assert (tops == tops[:, :1]).all() and tops[1, 0] >= tops[0, 0] + 30
    assert (lefts == lefts[0]).all()
    assert len(set(np.diff(lefts[0]))) == 1 and np.diff(lefts[0])[0] >= 64
    assert sheet.shape[1] >= lefts[0, -1] + 64


def test_a_colour_means_the_same_radius_in_every_row(tmp_path):
    rows = [_row(tmp_path, "tv", "a", 25.0, radius=2.0), _row(tmp_path, "score", "a", 25.0, radius=8.0)]
    files = write_contact_sheets(tmp_path, made_up_results(rows), cell=64)
    codes = _codes(tmp_path / rows[0]["pictures"]["map"])[..., 0]
    assert _place(_codes(files[0]), map_picture(codes / 255 * 2.0, 8.0)) is not None
    codes = _codes(tmp_path / rows[1]["pictures"]["map"])[..., 0]
    assert _place(_codes(files[3]), map_picture(codes / 255 * 8.0, 8.0)) is not None


def test_large_pictures_are_shrunk_to_the_cell(tmp_path):
    row = _row(tmp_path, "tv", "a", 25.0, size=(160, 80))
    file, *_ = write_contact_sheets(tmp_path, made_up_results([row]), cell=40)
    small = Image.open(tmp_path / row["pictures"]["restored"]).resize((40, 20), Image.Resampling.LANCZOS)
    assert _place(_codes(file), np.asarray(small)) is not None


def test_pages_hold_all_captures_in_order_and_ends_are_ranked(tmp_path):
    gains = {"a": 3.0, "b": -2.0, "c": 1.0, "d": 9.0, "e": 0.0}
    rows = [_row(tmp_path, "tv", name, 20.0 + gain, counted=name != "d") for name, gain in gains.items()]
    rows[4]["metrics"]["psnr"] = None
    files = write_contact_sheets(tmp_path, made_up_results(rows), per_page=2, cell=40)
    assert [file.relative_to(tmp_path / "contact_sheets").as_posix() for file in files] == [
        "tv-001.png", "tv-002.png", "tv-003.png", "tv-worst.png", "tv-best.png"
    ]  # fmt: skip
    restored = {row["name"]: _codes(tmp_path / row["pictures"]["restored"]) for row in rows}
    found = []
    for file in files:
        places = {name: _place(_codes(file), picture) for name, picture in restored.items()}
        found.append("".join(sorted((name for name in places if places[name]), key=lambda name: places[name])))
    assert found == ["ab", "cd", "e", "bc", "ac"]


def test_missing_pictures_leave_their_cells_empty(tmp_path):
    whole = _row(tmp_path, "tv", "a", 25.0)
    nothing = made_up_row("tv", "set", "set", "ünnamed\n" + 300 * "漢", None)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    some = {"input": "missing.png", "restored": "broken.png", "reblurred": None, "map": None, "reference": None}
    rows = [nothing, made_up_row("tv", "set", "set", "b", 21.0, pictures=some | {"largest_radius": None}), whole]
    file, *_ = write_contact_sheets(tmp_path, made_up_results(rows), cell=64)
    assert _place(_codes(file), _codes(tmp_path / whole["pictures"]["restored"])) is not None
    for odd in ({"largest_radius": 0.0}, {"largest_radius": None}):
        write_contact_sheets(tmp_path, made_up_results([whole | {"pictures": whole["pictures"] | odd}]), cell=64)


def test_columns_have_files_of_their_own(tmp_path):
    columns = ["folder:/a b", "folder:-a/b", "../..", "Folder--a-b"]
    rows = [made_up_row(column, "set", "set", "a", 25.0) for column in columns]
    files = write_contact_sheets(tmp_path / "out", made_up_results(rows), cell=32)
    assert len({file.name.lower() for file in files}) == len(files) == 12
    assert sorted(files) == sorted((tmp_path / "out" / "contact_sheets").iterdir())
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_nothing_measured_gives_no_sheet(tmp_path):
    assert write_contact_sheets(tmp_path, made_up_results([])) == []


@pytest.mark.parametrize("sizes", [{"per_page": 0}, {"cell": 4}])
def test_impossible_pages_are_refused(sizes, tmp_path):
    with pytest.raises(ValueError, match="expected at least 1 capture per page and cells of 16 pixels"):
        write_contact_sheets(tmp_path, made_up_results([]), **sizes)
