"""One mask, saved in every way that programs save masks, is read as the same values."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from photos import PhotoError, read_mask

GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
BITS = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)


def _save(kind, folder):
    path = folder / f"mask.{'tif' if kind in ('float', 'tiff 16') else 'png'}"
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    if kind == "L":
        Image.fromarray(GREY).save(path)
    elif kind == "RGB":
        Image.fromarray(GREY[..., None].repeat(3, 2)).save(path)
    elif kind == "LA":
        Image.fromarray(np.stack([noise[..., 0], GREY], 2)).save(path)
    elif kind == "LA opaque":
        Image.fromarray(np.stack([GREY, np.full_like(GREY, 255)], 2)).save(path)
    elif kind == "RGBA":
        Image.fromarray(np.dstack([noise, GREY])).save(path)
    elif kind == "P":
        paletted = Image.fromarray(GREY // 51)
        paletted.putpalette(bytes(value for step in range(6) for value in [51 * step] * 3))
        paletted.save(path)
    elif kind == "16":
        Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    elif kind == "tiff 16":
        tifffile.imwrite(path, GREY.astype(np.uint16) * 257)
    elif kind == "float":
        tifffile.imwrite(path, GREY.astype(np.float32) / np.float32(255))
    return path


@pytest.mark.parametrize("kind", ["L", "RGB", "LA", "LA opaque", "RGBA", "P", "16", "tiff 16", "float"])
def test_a_mask_is_the_same_in_every_mode(kind, tmp_path):
    mask = read_mask(_save(kind, tmp_path))
    assert mask.dtype == np.float32 and mask.shape == (2, 3)
    np.testing.assert_allclose(mask, GREY / 255, atol=1e-6)
    assert mask.min() == 0 and mask.max() == 1


@pytest.mark.parametrize("name", ["bits.png", "bits.tif"])
def test_a_mask_of_one_bit(name, tmp_path):
    Image.fromarray(BITS).convert("1").save(tmp_path / name)
    np.testing.assert_array_equal(read_mask(tmp_path / name), BITS / 255)


def test_what_is_no_mask_is_refused_by_name(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "colours.png")
    tifffile.imwrite(tmp_path / "nan.tif", np.full((4, 4), np.nan, np.float32))
    tifffile.imwrite(tmp_path / "codes.tif", GREY.astype(np.float32))
    Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg")
    (tmp_path / "text.png").write_text("white")
    for name, word in [
        ("colours.png", "grey mask"), ("nan.tif", "NaN"), ("codes.tif", "0 to 255"), ("cmyk.jpg", "CMYK"),
        ("text.png", "another kind of file"), ("none.png", "no such file"),
    ]:  # fmt: skip
        with pytest.raises(PhotoError) as caught:
            read_mask(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name)) and word in str(caught.value), caught.value
        # The range of a photo's values, which that option names, is not a mask's.
        assert "--range" not in str(caught.value)
