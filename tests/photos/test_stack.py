"""Files of several pictures, and the range of values that counts: what comes back is what was stored."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from photos import PhotoError, ValueRange, open_pages, read, write
from photos.directories import read_directory
from photos.stack import join
from photos.tiff_writing import TiffAppender


def copy(source, target, value_range=None):
    """Reads and writes all pages; returns the pages."""
    pages = list(open_pages(source, value_range))
    files = [target.with_name(f"{number}.tif") for number in range(len(pages))]
    for file, page in zip(files, pages, strict=True):
        write(file, page.pixels, like=page)
    join(files, target)
    return pages


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"bigtiff": True}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_stack_comes_back_page_by_page(tmp_path, rng, options, dtype):
    stack = rng.random((4, 19, 23)).astype(dtype) if dtype == np.float32 else rng.integers(0, 255, (4, 19, 23), dtype)
    stack[2] //= 2
    options |= {"photometric": "minisblack", "metadata": None, "description": "z-stack", "resolution": (5, 7)}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    pages = copy(tmp_path / "a.tif", tmp_path / "b.tif")
    assert len(pages) == 4
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_array_equal(pages[2].pixels[..., 0], stack[2] / np.float32(full))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), stack)
    with tifffile.TiffFile(tmp_path / "a.tif") as old, tifffile.TiffFile(tmp_path / "b.tif") as new:
        assert new.byteorder == old.byteorder
        assert new.pages[0].description == "z-stack"
        assert new.pages[3].tags[282].value == old.pages[3].tags[282].value


def test_imagej_is_not_told_to_look_for_pages_without_directories(tmp_path, rng):
    stack = rng.integers(0, 256, (3, 19, 23), dtype=np.uint8)
    head, tail = "ImageJ=1.53k\n", "slices=3\nunit=micron\nspacing=0.5"
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in stack:
            file.write(page, metadata=None, description=f"{head}images=3\n{tail}", contiguous=False)
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), stack)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert [page.description for page in file.pages] == [head + tail] * 3
    for description in (f"{head}images=1\n{tail}", "images=3\nof a holiday"):
        tifffile.imwrite(tmp_path / "c.tif", stack[0], metadata=None, description=description)
        photo = read(tmp_path / "c.tif")
        write(tmp_path / "d.tif", photo.pixels, like=photo)
        with tifffile.TiffFile(tmp_path / "d.tif") as file:
            assert file.pages[0].description == description


def test_pages_may_differ_and_smaller_versions_do_not_count(tmp_path, smooth):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(smooth, photometric="rgb", metadata=None)
        file.write(smooth[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        file.write(smooth[:20, :, 0], photometric="minisblack", metadata=None)
    first, second = copy(tmp_path / "a.tif", tmp_path / "b.tif")
    assert (first.layout, second.layout, second.pixels.shape) == ("RGB", "L", (20, 64, 3))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), smooth)
        np.testing.assert_array_equal(file.pages[1].asarray(), smooth[:20, :, 0])


def test_packed_pages_are_told_apart(tmp_path, smooth):
    frames = [Image.fromarray(smooth), Image.fromarray(255 - smooth)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    for page, expected in zip(open_pages(tmp_path / "a.tif"), (smooth, 255 - smooth), strict=True):
        np.testing.assert_array_equal(page.samples_of(page.pixels), expected)


def test_a_large_file_becomes_a_bigtiff_with_the_same_content(tmp_path, rng, exif):
    samples = rng.integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    Image.new("RGB", (4, 4)).save(tmp_path / "tags.tif", exif=exif(1))
    tagged = read(tmp_path / "tags.tif")
    buffer = io.BytesIO()
    with TiffAppender(buffer, tagged.details.order, wide=True) as file:
        for _ in range(2):
            file.add(samples, tagged)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        assert file.is_bigtiff and len(file.pages) == 2
        for page in file.pages:
            np.testing.assert_array_equal(page.asarray(), samples)
        (pointer,) = [
            entry.number for entry in read_directory(buffer.getvalue(), file.pages[1].offset, file.byteorder, True)[0]
            if entry.tag == 34665
        ]  # fmt: skip
        inner = {entry.tag: entry for entry in read_directory(buffer.getvalue(), pointer, file.byteorder, True)[0]}
        assert inner[37500].value == b"maker\xff\xd8note"


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.uint8])
def test_a_range_loses_nothing(tmp_path, rng, dtype):
    # 12 bits in a container of 16, or any floating-point unit; some values lie outside of the range.
    samples = {
        np.uint16: rng.integers(0, 4500, (17, 19)), np.uint8: rng.integers(0, 256, (17, 19)),
        np.float32: rng.normal(300, 900, (17, 19)),
    }[dtype].astype(dtype)  # fmt: skip
    tifffile.imwrite(tmp_path / "a.tif", samples, metadata=None)
    value_range = ValueRange(50, 4095)
    photo = read(tmp_path / "a.tif", value_range)
    np.testing.assert_allclose(photo.pixels[..., 0], np.clip((samples - 50.0) / 4045, 0, 1), atol=1e-6)
    write(tmp_path / "b.tif", photo.pixels, like=photo)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), samples)
    # What a restoration changes arrives in the unit of the file, without compression of the rest.
    changed = photo.pixels + np.float32(0.1)
    write(tmp_path / "c.tif", changed, like=photo)
    written, inside = tifffile.imread(tmp_path / "c.tif"), (samples > 50) & (samples < 3600)
    if dtype != np.uint8:
        np.testing.assert_allclose((written - samples.astype(float))[inside], 404.5, atol=0.6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_values_outside_of_a_range_stay_whatever_is_restored(tmp_path, channels, dtype):
    samples = np.full((4, 5, channels), 1000, dtype)
    samples[0, 0, 0], samples[1, 1, 0], samples[2, 2, 0], samples[3, 3, 0] = 60000, 10, 4000, 50
    stored = samples if channels > 1 else samples[..., 0]
    options = {"photometric": "rgb", "extrasamples": (2,) if channels == 4 else None} if channels > 1 else {}
    tifffile.imwrite(tmp_path / "a.tif", stored, metadata=None, **options)
    photo = read(tmp_path / "a.tif", ValueRange(50, 4000))
    write(tmp_path / "b.tif", np.full_like(photo.pixels, 0.5), like=photo)
    expected = np.full_like(samples, 2025)
    expected[0, 0, 0], expected[1, 1, 0] = 60000, 10
    expected[..., 3:] = samples[..., 3:]
    np.testing.assert_allclose(tifffile.imread(tmp_path / "b.tif").reshape(samples.shape), expected, atol=0.01)


def test_a_range_of_values_in_which_0_is_white_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 5), 60, np.uint16), photometric="miniswhite", metadata=None)
    assert read(tmp_path / "a.tif").pixels.min() == np.float32(65475 / 65535)
    for value_range in (ValueRange(0, 4095), ValueRange()):
        with pytest.raises(PhotoError, match=r"a\.tif: expected values that grow with brightness for a range, got.* 0"):
            read(tmp_path / "a.tif", value_range)


def test_an_open_range_is_that_of_the_whole_stack(tmp_path):
    stack = np.stack([np.full((4, 5), value, np.uint16) for value in (100, 300, 200)])
    stack[:, 0, 0] += 7
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=None)
    pages = list(open_pages(tmp_path / "a.tif", ValueRange.parse("auto")))
    assert [float(page.pixels[1, 1, 0]) for page in pages] == pytest.approx([0, 200 / 207, 100 / 207])
    np.testing.assert_array_equal(pages[1].samples_of(pages[1].pixels)[..., 0], stack[1])


def test_a_constant_picture_and_alpha_survive_an_open_range(tmp_path):
    samples = np.full((3, 4, 4), 9, np.uint16)
    samples[..., 3] = 65535
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=(2,), metadata=None)
    photo = read(tmp_path / "a.tif", ValueRange(0, 18))
    assert photo.pixels.max() == 0.5 and photo.alpha.min() == 1
    np.testing.assert_array_equal(photo.samples_of(photo.pixels), samples)
    # An open range is that of the colours.
    samples[0, 0, :3] = 209
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=(2,), metadata=None)
    assert read(tmp_path / "a.tif", ValueRange()).value_range == ValueRange(9, 209)
    tifffile.imwrite(tmp_path / "b.tif", samples[1:, :, 0], metadata=None)
    assert read(tmp_path / "b.tif", ValueRange()).pixels.max() == 0


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "2,1", "1,1", "a,b", "nan,1", "0,inf", "Auto"])
def test_ranges_that_are_none(text):
    with pytest.raises(ValueError, match="LOW,HIGH"):
        ValueRange.parse(text)


def test_bad_numbers_in_a_float_file_name_the_range(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 1200.0, np.float32), metadata=None)
    with pytest.raises(PhotoError, match=r"a\.tif.*\[0, 1\].*1200.*--range"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("value_range", [None, ValueRange(), ValueRange(0, 1)])
@pytest.mark.parametrize("pages", [1, 3])
def test_numbers_that_are_not_finite_are_named_whatever_the_range(tmp_path, bad, value_range, pages):
    samples = np.full((pages, 4, 4), 0.5, np.float32)
    samples[-1, 2, 1] = bad
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack", metadata=None)
    with pytest.raises(PhotoError) as caught:
        list(open_pages(tmp_path / "a.tif", value_range))
    assert str(caught.value) == f"{tmp_path / 'a.tif'}: expected finite values, got NaN or infinity"
