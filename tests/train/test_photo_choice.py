"""Which photos of a folder are trained on."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from photos import PhotoError, find_photos
from train.data_config import DataConfig
from train.photo_choice import choose_photos


@pytest.fixture
def folder(photos, tmp_path):
    """A copy of the folder of photos that may be changed."""
    shutil.copytree(photos, tmp_path / "folder")
    return tmp_path / "folder"


def _choose(folder, patch=16, **options):
    reports = []
    training, held_out = choose_photos(DataConfig(root=str(folder), patch=patch, holdout=2, **options), reports.append)
    return training, held_out, reports


def test_all_photos_are_used(folder):
    training, held_out, reports = _choose(folder)
    assert sorted(training + held_out) == find_photos(folder) and len(held_out) == 2
    assert reports == []


def test_no_more_than_half_of_the_photos_are_held_out_and_that_is_said(folder):
    reports = []
    _, held_out = choose_photos(DataConfig(root=str(folder), patch=16, holdout=5), reports.append)
    assert len(held_out) == 4
    assert reports == ["held out, 4 of 8: at most half of the photos, data.holdout=5"]


def test_what_cannot_be_used_is_counted_and_the_first_named(folder):
    for name, size in (("a.png", (15, 40)), ("b.png", (40, 15)), ("c.png", (16, 16))):
        Image.new("RGB", size).save(folder / name)
    (folder / "text.jpg").write_text("not a photo")
    training, held_out, reports = _choose(folder)
    assert len(training + held_out) == 9 and folder / "c.png" in training + held_out
    assert reports[0].startswith(f"left out, 1 of 12: cannot be read, the first is {folder / 'text.jpg'}: ")
    assert reports[1:] == [f"left out, 2 of 12: smaller than data.patch=16, the first is {folder / 'a.png'} (15 x 40)"]


def test_only_small_photos_are_an_error(folder):
    with pytest.raises(ValueError, match="photos of at least 56 x 56 pixels, got none: 8 are smaller and 0 cannot"):
        _choose(folder, patch=56)


def test_a_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(PhotoError, match="expected photos .* in this folder, got none"):
        _choose(tmp_path)


def test_damaged_photos_are_not_held_out_but_named_and_counted(folder):
    _, held_out, _ = _choose(folder)
    data = held_out[0].read_bytes()
    held_out[0].write_bytes(data[: len(data) // 2])
    _, whole, reports = _choose(folder)
    assert whole == held_out[1:] and len(reports) == 1
    assert reports[0].startswith(f"left out, 1 so far of 2 held-out photos: {held_out[0]}: ")


def test_without_a_whole_photo_to_hold_out_another_stands_in(folder):
    training, held_out, _ = _choose(folder)
    for file in [*held_out, training[0]]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert _choose(folder)[:2] == (training[:1] + training[2:], training[1:2])
    for file in training:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match="expected photos to train on and to hold out, got 8 damaged ones"):
        _choose(folder)


@pytest.mark.parametrize("cached", [False, True])
def test_copies_of_test_photos_are_left_out(folder, tmp_path, cached):
    test_photos = tmp_path / "test"
    test_photos.mkdir()
    files = find_photos(folder)
    shutil.copy(files[0], test_photos / "same_bytes.png")
    with Image.open(files[1]) as image:
        image.resize((24, 24), Image.Resampling.BOX).save(test_photos / "half.png")
    with Image.open(files[2]) as image:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=60)
        (test_photos / "encoded.jpg").write_bytes(buffer.getvalue())
    Image.fromarray(np.random.default_rng(99).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(test_photos / "x.png")
    options = {"cache": str(tmp_path / "cache")} if cached else {}
    training, held_out, reports = _choose(folder, exclude=[str(test_photos)], **options)
    assert sorted(training + held_out) == files[3:]
    assert reports[-1] == (
        f"left out, 3 of 8: copies of the 4 test photos of data.exclude, the first is {files[0]}, "
        f"as {test_photos / 'same_bytes.png'}"
    )
    assert _choose(folder, exclude=[str(test_photos / "x.png")])[2] == [
        "left out, 0 of 8: copies of the 1 test photos of data.exclude"
    ]
