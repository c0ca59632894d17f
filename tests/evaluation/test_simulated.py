"""The simulated protocol against its own words, computed pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.simulated import CROP, RADIUS_MAPS, defocus, radius_map, simulations


def _gathered(photo, row, column, radius):
    """One blurred pixel, subpixel by subpixel; row and column are those of the photo."""
    reach = math.ceil(radius) + 1
    total, weight = np.zeros(photo.shape[2]), 0
    fine = (np.arange(16) + 0.5) / 16 - 0.5
    for y in range(row - reach, row + reach + 1):
        for x in range(column - reach, column + reach + 1):
            inside = sum((y + a - row) ** 2 + (x + b - column) ** 2 <= radius**2 for a in fine for b in fine)
            if inside:
                total, weight = total + inside * photo[y, x], weight + inside
    return total / weight if weight else photo[row, column]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index, name in enumerate(["b.png", "a.png"]):
        picture = np.random.default_rng(index).integers(0, 256, (289, 301, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / name)
    Image.fromarray(np.full((288, 290, 3), 100, dtype=np.uint8)).save(folder / "c.png")
    return folder


@pytest.fixture(scope="module")
def captures(folder):
    return {(item.name, item.map_name): item.capture() for item in simulations(folder)}


def test_photos_are_sorted_by_name_and_every_map_is_used(captures):
    assert list(captures) == [(name, kind) for name in "abc" for kind in ("ramp", "step", "constant")]


@pytest.mark.parametrize(
    ("kind", "pixels"),
    [
        ("ramp", {(5, 0): 6 * 0.5 / 272, (100, 271): 6 * 271.5 / 272, (7, 135): 6 * 135.5 / 272}),
        ("step", {(136, 136): 1.0, (0, 0): 5.0, (135, 209): 1 + 4 * ((math.hypot(73.5, 0.5) - 73.44) / 8 + 0.5)}),
        ("constant", {(0, 0): 3.0, (200, 17): 3.0}),
    ],
)
def test_radius_maps_hold_the_stated_values(captures, kind, pixels):
    for (row, column), radius in pixels.items():
        assert radius_map(kind)[row, column] == pytest.approx(radius, rel=1e-14)
        assert captures["a", kind].radius_map[0, 0, row, column].item() == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("kind", list(RADIUS_MAPS))
def test_pixels_equal_a_sum_over_subpixels(kind):
    photo = np.random.default_rng(3).random((297, 290, 3))
    radii = radius_map(kind)
    blurred = defocus(photo, radii)
    for row, column in [(0, 0), (0, 271), (271, 271), (135, 209), (130, 62), (40, 7), (9, 150)]:
        # Offsets of the crop: floor(25 / 2) and floor(18 / 2).
        expected = _gathered(photo, row + 12, column + 9, radii[row, column])
        np.testing.assert_allclose(blurred[row, column], expected, rtol=1e-12)


def test_reference_is_the_centre_crop_as_stored(folder, captures):
    photo = np.asarray(Image.open(folder / "a.png"))
    x = captures["a", "step"].x
    assert x.shape == (1, 3, CROP, CROP) and x.dtype == torch.float32
    # floor((289 - 272) / 2) = 8 rows, floor((301 - 272) / 2) = 14 columns.
    np.testing.assert_array_equal((x[0] * 255).round().numpy(), photo[8:280, 14:286].transpose(2, 0, 1))


@pytest.mark.parametrize("kind", list(RADIUS_MAPS))
def test_noise_comes_from_the_stated_generator(captures, kind):
    # A constant photo stays constant under every disk: what remains is the noise, rounded.
    capture = captures["c", kind]
    noise = np.random.default_rng([0, 2, list(RADIUS_MAPS).index(kind)]).standard_normal((CROP, CROP, 3))
    expected = np.rint(100 + 2.55 * noise).transpose(2, 0, 1)
    np.testing.assert_array_equal((capture.y[0] * 255).numpy().round(), expected)
    torch.testing.assert_close(capture.y * 255, (capture.y * 255).round(), rtol=0, atol=1e-4)


def test_a_photo_too_small_for_the_largest_disk_is_refused(tmp_path):
    Image.fromarray(np.zeros((283, 400, 3), dtype=np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"small\.png.* too small"):
        simulations(tmp_path)[0].capture()


def test_count_and_stride_choose_photos_without_changing_them(folder, captures):
    assert [item.name for item in simulations(folder, count=1, stride=2)] == ["a"] * 3
    every_other = simulations(folder, stride=2)
    assert [item.name for item in every_other] == ["a"] * 3 + ["c"] * 3
    assert torch.equal(every_other[-1].capture().y, captures["c", "constant"].y)


def test_folders_without_photos_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got none"):
        simulations(tmp_path)
    with pytest.raises(ValueError, match="folder"):
        simulations(tmp_path / "missing")
