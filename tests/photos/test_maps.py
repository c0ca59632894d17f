import colorsys
import os
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from photos import PhotoError, map_picture, read_distances, read_map, write_map


@pytest.mark.parametrize("size", [(5, 7), (1, 9), (9, 1), (1, 1)])
def test_a_map_comes_back_as_it_was(tmp_path, rng, size):
    values = (20 * rng.random(size)).astype(np.float32)
    write_map(tmp_path / "map.tif", values)
    again = read_map(tmp_path / "map.tif")
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, values)
    assert os.listdir(tmp_path) == ["map.tif"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tif").reshape(size), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
def test_numbers_are_radii_as_they_are(tmp_path, dtype):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    tifffile.imwrite(tmp_path / "a.tif", values)
    names = ["a.npy", "a.tif"]
    if dtype in (np.uint8, np.uint16):
        Image.fromarray(values).save(tmp_path / "a.png")
        names.append("a.png")
    for name in names:
        np.testing.assert_array_equal(read_map(tmp_path / name), np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_numbers_of_a_map_in_which_0_is_white_are_radii_too(tmp_path, dtype, compression):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", compression=compression, metadata=None)
    np.testing.assert_array_equal(read_map(tmp_path / "a.tif"), values)


def test_a_map_may_be_packed_as_jpeg(tmp_path):
    for photometric in (0, 1):
        Image.new("L", (16, 8), 7).save(tmp_path / "a.tif", compression="jpeg")
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
            file.pages[0].tags["PhotometricInterpretation"].overwrite(photometric)
        assert (read_map(tmp_path / "a.tif") == 7).all(), photometric


@pytest.mark.parametrize("mode", ["1", "P"])
def test_few_bits_are_not_stretched_to_radii(tmp_path, mode):
    """Pillow makes 255 of a stored 1, and colours of a palette."""
    picture = Image.fromarray(np.eye(8, dtype=np.uint8) * 255).convert(mode)
    picture.save(tmp_path / "a.png", bits=4)
    picture.save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        with pytest.raises(PhotoError, match=rf"{name}: expected .*(8 (or 16 )?bits, got|grey map)"):
            read_map(tmp_path / name)
    nibbles = (np.eye(8, dtype=np.uint8)[:, ::2] << 4 | np.eye(8, dtype=np.uint8)[:, 1::2]).tobytes()
    tifffile.imwrite(tmp_path / "b.tif", np.frombuffer(nibbles, np.uint8).reshape(8, 4), metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(8)
        file.pages[0].tags["BitsPerSample"].overwrite(4)
    with pytest.raises(PhotoError, match=r"b\.tif: expected samples of at least 8 bits, got 4"):
        read_map(tmp_path / "b.tif")


def test_distances_may_be_infinite_or_unknown(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, np.nan, np.inf], [3, 0.5, 1e300]]))
    expected = np.array([[np.nan, np.nan, np.inf], [3, 0.5, np.inf]], np.float32)
    np.testing.assert_array_equal(read_distances(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize(
    ("values", "got"), [([[0, np.nan]], "none but 0 and NaN"), ([[2, -0.5]], "-0.5"), ([[-np.inf, 1]], "-inf")]
)
def test_what_are_no_distances_is_refused_in_words_of_distances(tmp_path, values, got):
    tifffile.imwrite(tmp_path / "a.tif", np.array(values, np.float32))
    with pytest.raises(PhotoError, match=rf"a\.tif: expected positive distances, got {got}") as caught:
        read_distances(tmp_path / "a.tif")
    assert "radi" not in str(caught.value)


def test_bad_maps_are_refused_by_name(tmp_path):
    good = np.ones((4, 4), np.float32)
    for name, value in (("nan", np.nan), ("inf", np.inf), ("negative", -0.5)):
        values = good.copy()
        values[1, 2] = value
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
        np.save(tmp_path / f"{name}.npy", values)
        for suffix in ("tif", "npy"):
            with pytest.raises(PhotoError, match=rf"{name}\.{suffix}.*(NaN|infinity|at least 0 pixels, got -0\.5)"):
                read_map(tmp_path / f"{name}.{suffix}")
        with pytest.raises(PhotoError, match=r"out\.tif"):
            write_map(tmp_path / "out.tif", values)
    np.save(tmp_path / "huge.npy", np.full((2, 2), 1e300))
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    Image.new("RGBA", (4, 4)).save(tmp_path / "colour.tif")
    Image.new("LA", (4, 4)).save(tmp_path / "alpha.png")
    Image.new("1", (4, 4)).save(tmp_path / "bits.png")
    Image.new("L", (4, 4)).save(tmp_path / "a.jpg")
    np.save(tmp_path / "cube.npy", np.ones((2, 3, 4)))
    np.save(tmp_path / "complex.npy", np.ones((2, 3), complex))
    np.save(tmp_path / "flat.npy", np.ones(4))
    (tmp_path / "object.npy").write_bytes(b"\x93NUMPY\x01\x00" + pickle.dumps(good))
    np.save(tmp_path / "pickled.npy", np.array([[None]]), allow_pickle=True)
    (tmp_path / "text.tif").write_text("1 2 3")
    (tmp_path / "empty.tif").write_bytes(b"")
    whole = (tmp_path / "nan.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-3])
    names = (
        "huge.npy", "colour.png", "colour.tif", "alpha.png", "bits.png", "a.jpg", "cube.npy", "complex.npy", "flat.npy",
        "object.npy", "pickled.npy", "text.tif", "empty.tif", "short.npy", "missing.tif",
    )  # fmt: skip
    for name in names:
        with pytest.raises(PhotoError) as caught:
            read_map(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value), name
    assert not (tmp_path / "out.tif").exists()
    with pytest.raises(PhotoError, match=r"map\.png.*\.tif"):
        write_map(tmp_path / "map.png", good)


def test_colours_grow_lighter_from_zero_to_the_maximum():
    picture = map_picture(np.linspace(0, 12, 200)[None], 10.0)
    assert picture.shape == (1, 200, 3) and picture.dtype == np.uint8
    linear = (picture[0] / 255.0) ** 2.2
    lightness = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= -1e-9).all() and lightness[-1] > 20 * lightness[0]
    assert (picture[0, 170:] == picture[0, -1]).all()
    hues = [colorsys.rgb_to_hsv(*(colour / 255))[0] for colour in picture[0]]
    assert hues[20] > hues[80] > hues[140]
    for maximum in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="maximum"):
            map_picture(np.zeros((2, 2)), maximum)
