"""Reading and writing files of all kinds: identity, sizes, errors, and nothing left behind."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import photos
from photos import PhotoError, ValueRange, find_photos, read, write
from photos.files import make_folder, replacing


def save(path, samples):
    """Writes samples of shape (H, W, C) by a library, independently of the package."""
    samples = np.asarray(samples)
    if path.suffix == ".tif":
        channels = samples.shape[2]
        tifffile.imwrite(
            path, samples if channels > 1 else samples[..., 0], photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None, extrasamples=(2,) if channels in (2, 4) else None,
            metadata=None,
        )  # fmt: skip
    else:
        Image.fromarray(samples if samples.shape[2] > 1 else samples[..., 0]).save(path)


def test_a_folder_is_made_unless_a_file_is_in_its_place(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("mine")
    # The file is named, wherever it stands, and a name below it is no reason for another error.
    for folder in ("file", "file/b", "file/b/c"):
        with pytest.raises(PhotoError, match=f"^{tmp_path / 'file'}: expected a folder or nothing there, got a file$"):
            make_folder(tmp_path / folder)
    refused = pytest.raises(PhotoError, match="the file cannot be written: Not a directory")
    with refused, replacing(tmp_path / "file" / "picture.png") as temporary:
        temporary.write_bytes(b"")
    assert (tmp_path / "file").read_text() == "mine"


def load(path):
    """Reads samples of shape (H, W, C) by a library, independently of the package."""
    samples = tifffile.imread(path, squeeze=False) if path.suffix == ".tif" else np.asarray(Image.open(path))
    samples = samples.reshape(samples.shape[-3:]) if samples.ndim > 3 else samples
    return samples[..., None] if samples.ndim == 2 else samples


KINDS = [
    (suffix, dtype, channels)
    for suffix, dtype in ((".png", np.uint8), (".tif", np.uint8), (".tif", np.uint16), (".tif", np.float32))
    for channels in (1, 2, 3, 4)
] + [(".png", np.uint16, 1)]


def random_samples(rng, height, width, channels, dtype):
    if dtype == np.float32:
        return rng.random((height, width, channels), dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@pytest.mark.parametrize(("suffix", "dtype", "channels"), KINDS)
@pytest.mark.parametrize("size", [(17, 23), (1, 31), (31, 1), (1, 1)])
def test_lossless_files_keep_every_code(tmp_path, rng, suffix, dtype, channels, size):
    source, copy = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    samples = random_samples(rng, *size, channels, dtype)
    save(source, samples)
    photo = read(source)
    assert photo.pixels.shape == (*size, 3) and photo.pixels.dtype == np.float32
    assert photo.pixels.min() >= 0 and photo.pixels.max() <= 1
    assert photo.layout == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert photo.bit_depth == 8 * np.dtype(dtype).itemsize
    assert (photo.alpha is None) == (channels in (1, 3))
    write(copy, photo.pixels, like=photo)
    np.testing.assert_array_equal(load(copy), samples)
    assert load(copy).dtype == dtype
    again = read(copy)
    assert (again.layout, again.bit_depth, again.format) == (photo.layout, photo.bit_depth, photo.format)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_code_value_survives(tmp_path, dtype):
    codes = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 256, 1)
    save(tmp_path / "in.tif", codes)
    photo = read(tmp_path / "in.tif")
    np.testing.assert_allclose(photo.pixels[..., 0], codes[..., 0] / np.iinfo(dtype).max, rtol=1e-6)
    write(tmp_path / "out.tif", photo.pixels, like=photo)
    np.testing.assert_array_equal(load(tmp_path / "out.tif"), codes)


def test_values_outside_are_clipped_and_rounded_to_nearest(tmp_path):
    save(tmp_path / "in.png", np.zeros((1, 4, 1), np.uint8))
    pixels = np.repeat(np.array([[-0.5, 1.5, 10.4 / 255, 10.6 / 255]])[..., None], 3, axis=2)
    write(tmp_path / "out.png", pixels, like=read(tmp_path / "in.png"))
    assert load(tmp_path / "out.png")[0, :, 0].tolist() == [0, 255, 10, 11]


def test_palette_and_one_bit_pictures(tmp_path, smooth):
    rgb = Image.fromarray(smooth)
    rgb.quantize(8).save(tmp_path / "palette.png")
    photo = read(tmp_path / "palette.png")
    expected = np.asarray(rgb.quantize(8).convert("RGB"))
    assert photo.layout == "RGB"
    write(tmp_path / "out.png", photo.pixels, like=photo)
    np.testing.assert_array_equal(load(tmp_path / "out.png"), expected)
    rgb.quantize(8).save(tmp_path / "palette.tif")
    np.testing.assert_array_equal(np.rint(read(tmp_path / "palette.tif").pixels * 255), expected)

    rgb.quantize(8).save(tmp_path / "clear.png", transparency=3)
    clear = read(tmp_path / "clear.png")
    assert clear.layout == "RGBA"
    np.testing.assert_array_equal(clear.alpha == 0, np.asarray(rgb.quantize(8)) == 3)

    for name, compression in (("bits.png", None), ("bits.tif", "group4")):
        bits = rgb.convert("1")
        bits.save(tmp_path / name, **({"compression": compression} if compression else {}))
        photo = read(tmp_path / name)
        assert (photo.layout, photo.bit_depth) == ("L", 8)
        np.testing.assert_array_equal(photo.pixels[..., 0] == 1, np.asarray(bits))


def test_content_decides_the_format_and_the_name_may_stay(tmp_path, smooth):
    path = tmp_path / "photo.jpg"
    Image.fromarray(smooth).save(path, "PNG")
    photo = read(path)
    assert photo.format == "PNG"
    write(tmp_path / "same.jpg", photo.pixels, like=photo)
    assert Image.open(tmp_path / "same.jpg").format == "PNG"
    with pytest.raises(PhotoError, match=r"out\.tif.*\.png.*PNG"):
        write(tmp_path / "out.tif", photo.pixels, like=photo)


def bad_files(folder):
    text = b"this is no picture, whatever its name says\n" * 20
    (folder / "text.jpg").write_bytes(text)
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("CMYK").save(folder / "cmyk.tif")
    picture.convert("LAB").save(folder / "lab.tif")
    other = Image.fromarray(np.full((8, 8, 3), 255, np.uint8))
    picture.save(folder / "moving.gif", save_all=True, append_images=[picture])
    picture.save(folder / "moving.webp", save_all=True, append_images=[other])
    picture.save(folder / "moving.avif", save_all=True, append_images=[other])
    picture.save(folder / "moving.png", save_all=True, append_images=[other])
    picture.save(folder / "stack.tif", save_all=True, append_images=[other])
    tifffile.imwrite(folder / "wide.tif", np.zeros((8, 8), np.uint32))
    tifffile.imwrite(folder / "nan.tif", np.full((8, 8), np.nan, np.float32))
    tifffile.imwrite(folder / "inf.tif", np.full((8, 8), np.inf, np.float32))
    tifffile.imwrite(folder / "bright.tif", np.full((8, 8), 1.5, np.float32))
    (folder / "II.tif").write_bytes(b"II*\0\xff\xff\xff\x00")
    (folder / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.jpg", "no such file"), ("text.jpg", "another kind"), ("empty.png", "empty"),
        ("folder.jpg", "folder"), ("moving.webp", "animated"), ("moving.avif", "animated"),
        ("cmyk.jpg", "CMYK"), ("cmyk.tif", "SEPARATED|CMYK"),
        ("lab.tif", "LAB"), ("moving.gif", "GIF"), ("moving.png", "animated"), ("stack.tif", "single picture, got 2"),
        ("wide.tif", "uint32"), ("nan.tif", "NaN"), ("inf.tif", "infinity"), ("bright.tif", r"\[0, 1\].*1\.5"),
        ("II.tif", "damaged|cut short|single"), ("header.png", "header"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_one_sentence_that_names_them(tmp_path, name, reason, recwarn, caplog):
    bad_files(tmp_path)
    with pytest.raises(PhotoError, match=reason) as caught:
        read(tmp_path / name)
    message = str(caught.value)
    assert str(tmp_path / name) in message and "\n" not in message and "expected" in message
    assert not recwarn.list and not caplog.records


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(PhotoError, match=r"secret\.png.*permission"):
        read(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 90}), ("a.jpg", {"quality": 90, "progressive": True}), ("a.png", {}),
        ("a.webp", {"quality": 90}), ("a.webp", {"lossless": True}), ("a.avif", {}),
        ("a.tif", {"compression": "raw"}), ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "tiff_adobe_deflate"}), ("a.tif", {"compression": "jpeg"}), ("deep.tif", {}),
        ("deep.tif", {"compression": "zlib"}),
    ],
)  # fmt: skip
def test_no_part_of_a_truncated_file_is_decoded(tmp_path, rng, name, options):
    path = tmp_path / name
    samples = rng.integers(0, 65536, (40, 60, 3)).astype(np.uint16)
    if name == "deep.tif":
        tifffile.imwrite(path, samples, photometric="rgb", metadata=None, **options)
    else:
        Image.fromarray((samples >> 8).astype(np.uint8)).save(path, **options)
    data = path.read_bytes()
    read(path)
    for left in (1, 3, 7, 20, 100, len(data) // 4, len(data) // 2, len(data) * 3 // 4, len(data) - 30, len(data) - 2):
        path.write_bytes(data[:left])
        with pytest.raises(PhotoError, match=name):
            read(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    for module in ("jpeg", "png", "tiff", "webp", "avif"):
        monkeypatch.setattr(f"photos.{module}.MAX_PIXELS", 99)
    for name in ("a.jpg", "a.png", "a.tif", "a.webp", "a.avif"):
        Image.new("RGB", (10, 10)).save(tmp_path / name)
        with pytest.raises(PhotoError, match=rf"{name}.*at most 99 pixels, got 10 x 10"):
            read(tmp_path / name)


def test_pillow_limits_are_ours_while_reading_and_its_own_afterwards(tmp_path, monkeypatch, recwarn):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    read(tmp_path / "a.png")
    assert Image.MAX_IMAGE_PIXELS == 50 and not recwarn.list


def test_failed_writes_leave_the_old_file_and_no_other(tmp_path, smooth, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(smooth).save(path)
    photo, before = read(path), path.read_bytes()
    for pixels in (np.full((4, 4, 3), np.nan), np.zeros((4, 4)), np.zeros((0, 4, 3))):
        with pytest.raises(PhotoError, match=r"a\.png.*pixels"):
            write(path, pixels, like=photo)

    def half(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", half)
    with pytest.raises(PhotoError, match=r"a\.png.*No space left"):
        write(path, photo.pixels, like=photo)
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before
    with pytest.raises(PhotoError, match="missing"):
        write(tmp_path / "missing" / "a.png", photo.pixels, like=photo)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(PhotoError, match=r"b\.png.*folder"):
        write(tmp_path / "b.png", photo.pixels, like=photo)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, bool])
def test_codes_are_no_pixels(tmp_path, smooth, dtype):
    Image.fromarray(smooth).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    with pytest.raises(PhotoError, match=rf"b\.png.*floating-point values in \[0, 1\], got {np.dtype(dtype)}"):
        write(tmp_path / "b.png", smooth.astype(dtype), like=photo)
    write(tmp_path / "b.png", photo.pixels.astype(np.float16), like=photo)


def test_pixels_may_be_of_another_size_where_nothing_is_kept_beside_them(tmp_path, smooth):
    Image.fromarray(smooth).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    write(tmp_path / "b.png", photo.pixels[:5, :7], like=photo)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), smooth[:5, :7])
    ranged = read(tmp_path / "a.png", ValueRange(0, 200))
    with pytest.raises(PhotoError, match=r"b\.png.*size \(\d+, \d+\) of the values in range, got \(5, 7\)"):
        write(tmp_path / "b.png", ranged.pixels[:5, :7], like=ranged)


def test_alpha_must_fit(tmp_path, rng):
    save(tmp_path / "a.png", random_samples(rng, 5, 6, 4, np.uint8))
    with pytest.raises(PhotoError, match="alpha"):
        write(tmp_path / "b.png", np.zeros((6, 5, 3)), like=read(tmp_path / "a.png"))


def test_find_photos(tmp_path):
    for name in ("b.JPG", "a.png", "deep/er/c.TIFF", "notes.txt", ".hidden.png", ".cache/d.png", ".a.png.12.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_photos(tmp_path)]
    assert names == ["a.png", "b.JPG", "deep/er/c.TIFF"]
    assert find_photos(tmp_path / "a.png") == [tmp_path / "a.png"]
    assert len(find_photos(str(tmp_path))) == 3
    with pytest.raises(PhotoError, match=r"folder\.png.*none"):
        find_photos(tmp_path / "folder.png")
    with pytest.raises(PhotoError, match=r"nowhere.*no such"):
        find_photos(tmp_path / "nowhere")


def test_a_link_that_leads_nowhere_is_found_and_cannot_be_read(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "b.png").symlink_to(tmp_path)
    assert find_photos(tmp_path) == [tmp_path / "a.png"]
    with pytest.raises(PhotoError, match=r"a\.png: expected"):
        read(tmp_path / "a.png")


def test_a_photo_below_a_hidden_folder_is_found_when_asked_for(tmp_path):
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "a.png").write_bytes(b"")
    assert find_photos(tmp_path / ".work") == [tmp_path / ".work" / "a.png"]


def test_public_names_are_imported_on_demand():
    for name in photos.__all__:
        assert getattr(photos, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = photos.nothing
    code = "import sys, photos; photos.PHOTO_SUFFIXES; print({'PIL', 'numpy', 'tifffile', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
