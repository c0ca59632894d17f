"""What stays as it was taken, and the maps beside the photo, from the command line."""

import shutil

import numpy as np
import pytest
import tifffile
from command_line import fails, files, outputs, pixels
from PIL import Image

from photos import read_map, write_map


@pytest.fixture
def radii(tmp_path):
    """A map of the photo, from 1 to 5 px; its file."""
    write_map(tmp_path / "radii.tif", np.linspace(1, 5, 56, dtype=np.float32)[None].repeat(40, 0))
    return tmp_path / "radii.tif"


def _pixels(path):
    return np.array(Image.open(path)).astype(int)


def test_confidence_is_written_with_an_estimate_alone(deblur, photo, out, radii):
    assert deblur(photo, "--method", "tv")[0] == 0
    confidence = tifffile.imread(out / "cat.png_confidence.tif")
    assert confidence.dtype == np.float32 and confidence.shape == (40, 56)
    assert confidence.min() >= 0 and 0.2 < confidence.max() <= 1
    shutil.rmtree(out)
    assert deblur(photo, "--method", "tv", "--defocus-map", radii)[1] == [
        str(out / name) for name in outputs("cat.png", map_given=True)
    ]
    assert files(out) == sorted(outputs("cat.png", map_given=True))


def test_without_a_report_there_is_no_overlay(deblur, photo, out):
    assert deblur(photo, "--method", "tv", "--no-report")[0] == 0
    assert files(out) == ["cat.png", "cat.png_confidence.tif", "cat.png_defocus.tif"]


@pytest.mark.parametrize("wishes", [(), ("--max-radius", "3", "--strength", "0.6")])
def test_the_written_map_fed_back_gives_the_same_photo(deblur, photo, out, wishes):
    assert deblur(photo, "--method", "tv", *wishes)[0] == 0
    first, radii = pixels(out / "cat.png"), read_map(out / "cat.png_defocus.tif")
    assert radii.max() > 1
    assert deblur(photo, "--method", "tv", "--overwrite", "--defocus-map", out / "cat.png_defocus.tif", *wishes)[0] == 0
    assert pixels(out / "cat.png") == first
    np.testing.assert_array_equal(read_map(out / "cat.png_defocus.tif"), radii)


@pytest.mark.parametrize("name", ["cat.png", "deep.tif", "deep.png", "float.tif"])
def test_kept_pixels_have_the_values_of_the_file(deblur, codes, photo, out, tmp_path, radii, name):
    noise = np.random.default_rng(3).integers(0, 257, codes.shape)
    deep = (codes.astype(int) * 256 + noise).clip(0, 65535).astype(np.uint16)
    if name == "deep.png":
        deep = deep[..., 0]
        Image.fromarray(deep).save(tmp_path / name)
    elif name != "cat.png":
        values = deep if name == "deep.tif" else (deep / 65535).astype(np.float32)
        tifffile.imwrite(tmp_path / name, values, photometric="rgb")
    mask = np.zeros((40, 56), np.uint8)
    mask[10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = ("--method", "tv", "--defocus-map", radii, "--max-radius", "3", "--mask", tmp_path / "mask.png")
    assert deblur(tmp_path / name, *arguments)[0] == 0
    before, after = (
        tifffile.imread(folder / name) if name.endswith("tif") else np.array(Image.open(folder / name))
        for folder in (tmp_path, out)
    )
    kept = (mask == 0) | (read_map(radii) >= 3)
    assert before.dtype == after.dtype
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (after[~kept] != before[~kept]).mean() > 0.3


def test_strength_mixes_photo_and_restoration(deblur, photo, out, radii):
    def result(*options):
        assert deblur(photo, "--method", "tv", "--defocus-map", radii, "--overwrite", *options)[0] == 0
        return _pixels(out / "cat.png")

    whole, half = result(), result("--strength", "0.5")
    assert np.abs(half - (whole + _pixels(photo)) / 2).max() <= 1
    np.testing.assert_array_equal(result("--strength", "0"), _pixels(photo))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strength", "1.2"), ("--strength", "0 to 1")),
        (("--strength", "nan"), ("--strength",)),
        (("--max-radius", "0"), ("--max-radius", "above 0")),
        (("--max-radius", "inf"), ("--max-radius",)),
    ],
)
def test_bad_wishes(deblur, photo, out, arguments, words):
    fails(deblur(photo, *arguments), 2, *words)
    assert not out.exists()


def test_bad_masks(deblur, photo, codes, tmp_path, out):
    path = tmp_path / "mask.png"
    Image.new("L", (40, 56)).save(path)
    fails(deblur(photo, "--mask", path), 2, path, "expected a mask of 56 x 40", "got 40 x 56")
    Image.fromarray(codes).save(path)
    fails(deblur(photo, "--mask", path), 2, path, "grey mask", "colours")
    tifffile.imwrite(tmp_path / "mask.tif", np.full((40, 56), np.nan, np.float32))
    fails(deblur(photo, "--mask", tmp_path / "mask.tif"), 2, tmp_path / "mask.tif", "NaN")
    fails(deblur(photo, "--mask", tmp_path / "none.png"), 2, "none.png", "no such file")
    shutil.copy(photo, tmp_path / "dog.png")
    fails(deblur(photo, tmp_path / "dog.png", "--mask", path), 2, "--mask", "one photo, got 2")
    assert not out.exists()
