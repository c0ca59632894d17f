"""WebP, AVIF, HEIC and raw photos: pixels, metadata, and what is refused. The last two need optional packages."""

import io
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from photos import PhotoError, read, write
from photos.raw import ADOBE_RGB

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
needs_heif = pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs the package pillow-heif")
needs_rawpy = pytest.mark.skipif(find_spec("rawpy") is None, reason="needs the package rawpy")


def save(path, samples, **options):
    """Writes a file by a library alone."""
    if path.suffix == ".heic":
        import pillow_heif

        channels = 1 if samples.ndim == 2 else samples.shape[2]
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels] + (";16" if samples.dtype == np.uint16 else "")
        pillow_heif.from_bytes(mode, samples.shape[1::-1], samples.tobytes()).save(path, **options)
    else:
        Image.fromarray(samples).save(path, **options)


# WebP with loss halves the resolution of colours and leaves an eighth of the codes unused, at any quality.
LOSSY = [(".jpg", 0.5), (".avif", 0.5), (".webp", 0.6), pytest.param(".heic", 0.5, marks=needs_heif)]


@pytest.mark.parametrize(("suffix", "bound"), LOSSY)
def test_what_is_not_restored_looks_the_same_in_files_with_loss(tmp_path, suffix, bound):
    from skimage.color import deltaE_ciede2000, rgb2lab
    from skimage.data import chelsea

    save(tmp_path / f"a{suffix}", chelsea()[60:220, 80:280].copy(), quality=80)
    photo = read(tmp_path / f"a{suffix}")
    write(tmp_path / f"b{suffix}", photo.pixels, like=photo)
    difference = deltaE_ciede2000(rgb2lab(photo.pixels), rgb2lab(read(tmp_path / f"b{suffix}").pixels))
    # About 1 is the least that trained eyes see side by side.
    assert difference.mean() < bound
    again = read(tmp_path / f"b{suffix}")
    assert (again.format, again.layout, again.bit_depth) == (photo.format, photo.layout, photo.bit_depth)


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_without_loss_keeps_every_code(tmp_path, rng, channels):
    samples = rng.integers(0, 256, (17, 23, channels), dtype=np.uint8)
    save(tmp_path / "a.webp", samples, lossless=True, exact=True)
    photo = read(tmp_path / "a.webp")
    write(tmp_path / "b.webp", photo.pixels, like=photo)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.webp")), samples)


@pytest.mark.parametrize("suffix", [".webp", ".avif", pytest.param(".heic", marks=needs_heif)])
def test_alpha_is_kept(tmp_path, smooth, suffix):
    alpha = np.repeat(np.repeat(smooth[::16, ::16, :1], 16, 0), 16, 1)
    save(tmp_path / f"a{suffix}", np.concatenate([smooth, alpha], axis=2), quality=95)
    photo = read(tmp_path / f"a{suffix}")
    assert photo.layout == "RGBA"
    np.testing.assert_allclose(photo.alpha, alpha[..., 0] / 255, atol=3 / 255)
    write(tmp_path / f"b{suffix}", photo.pixels, like=photo)
    np.testing.assert_allclose(read(tmp_path / f"b{suffix}").alpha, photo.alpha, atol=3 / 255)


@pytest.mark.parametrize("suffix", [".webp", ".avif", pytest.param(".heic", marks=needs_heif)])
def test_metadata_is_kept_and_the_picture_turned_once(tmp_path, smooth, exif, icc, thumbnail, suffix):
    source, copy = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save(source, smooth, exif=b"Exif\0\0" + exif(6), icc_profile=icc, xmp=XMP, quality=95)
    photo = read(source)
    np.testing.assert_allclose(photo.pixels, np.rot90(smooth, -1) / 255, atol=8 / 255)
    write(copy, photo.pixels, like=photo)
    again = read(copy)
    # A second reading would turn it again if the file still asked for it.
    np.testing.assert_allclose(again.pixels, photo.pixels, atol=8 / 255)
    assert (again.icc, again.details.xmp.strip(b"\0")) == (icc, XMP)
    tags = Image.Exif()
    tags.load(again.exif)
    assert (tags[271], tags[272], tags.get(274, 1)) == ("Maker", "Model 1", 1)
    assert tags.get_ifd(34665)[37500] == b"maker\xff\xd8note"
    assert thumbnail not in copy.read_bytes()


def test_an_avif_that_pillow_would_cut_to_8_bits_is_refused(tmp_path, smooth):
    save(tmp_path / "a.avif", smooth)
    data = bytearray((tmp_path / "a.avif").read_bytes())
    data[data.index(b"av1C") + 6] |= 0x40
    (tmp_path / "a.avif").write_bytes(data)
    with pytest.raises(PhotoError, match=r"a\.avif.*8 bits, got one of 10.*16"):
        read(tmp_path / "a.avif")


@pytest.mark.parametrize(("numbers", "word"), [((9, 16), "PQ"), ((9, 18), "HLG"), ((12, 13), "primaries number 12")])
def test_colours_that_a_written_file_would_not_say_are_refused(tmp_path, smooth, numbers, word):
    save(tmp_path / "a.avif", smooth)
    data = bytearray((tmp_path / "a.avif").read_bytes())
    at = data.index(b"nclx") + 4
    data[at : at + 4] = bytes((0, numbers[0], 0, numbers[1]))
    (tmp_path / "a.avif").write_bytes(data)
    with pytest.raises(PhotoError, match=rf"a\.avif.*{word}"):
        read(tmp_path / "a.avif")


@needs_heif
@pytest.mark.parametrize(("depth", "channels"), [(10, 3), (12, 3), (10, 1)])
def test_deep_heic_stays_deep_and_its_ends_stay_ends(tmp_path, depth, channels):
    import pillow_heif

    ramp = np.linspace(0, 2**depth - 1, 256).round().astype(np.uint16) << (16 - depth)
    samples = np.repeat(np.broadcast_to(ramp, (32, 256))[..., None], channels, 2)
    save(tmp_path / "a.heic", np.ascontiguousarray(samples.squeeze()), quality=-1, bit_depth=depth)
    photo = read(tmp_path / "a.heic")
    assert photo.bit_depth == 16
    np.testing.assert_allclose(photo.pixels[..., 0], (samples >> (16 - depth))[..., 0] / (2**depth - 1), atol=0.01)
    assert photo.pixels.max() > 0.999
    write(tmp_path / "b.heic", photo.pixels, like=photo)
    written = pillow_heif.open_heif(tmp_path / "b.heic", convert_hdr_to_8bit=False)
    assert written.info["bit_depth"] == depth
    np.testing.assert_allclose(read(tmp_path / "b.heic").pixels, photo.pixels, atol=0.01)


@pytest.mark.parametrize(("name", "package"), [("a.heic", "pillow_heif"), ("a.nef", "rawpy")])
def test_a_missing_package_is_named_with_the_way_to_install_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    content = {"a.heic": b"\0\0\0\x18ftypheic" + bytes(40), "a.nef": b"II*\0\x08" + bytes(40)}[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=rf"{name}.*{package.replace('_', '-')}.*pip install -e '\.\[raw\]'"):
        read(tmp_path / name)


def dng(orientation=1):
    """A raw photo of a made-up camera: brightness grows from left to right, behind a Bayer filter."""
    values = (0.1 + 0.8 * np.mgrid[0:64, 0:96][1] / 96) * 65535

    def rationals(numbers):
        return [value for number in numbers for value in (round(number * 10000), 10000)]

    matrix = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]  # XYZ to linear sRGB
    tags = [
        (271, "s", 0, "Maker", True), (272, "s", 0, "Model 1", True), (274, "H", 1, orientation, True),
        (33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True), (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Maker Model 1", True), (50717, "I", 1, 65535, True), (50778, "H", 1, 21, True),
        (50721, "2i", 9, rationals(matrix), True), (50728, "2I", 3, rationals([1, 1, 1]), True),
    ]  # fmt: skip
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values.astype(np.uint16), photometric=32803, extratags=tags, metadata=None)
    return buffer.getvalue()


@needs_rawpy
@pytest.mark.parametrize("name", ["a.dng", "a.tif"])
def test_a_raw_photo_becomes_a_deep_tiff_in_adobe_rgb(tmp_path, name):
    (tmp_path / name).write_bytes(dng(orientation=6))
    photo = read(tmp_path / name)
    assert (photo.format, photo.bit_depth, photo.pixels.shape) == ("TIFF", 16, (96, 64, 3))
    assert photo.icc == ADOBE_RGB
    write(tmp_path / "out.tif", photo.pixels, like=photo)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        page = file.pages[0]
        assert (page.dtype, page.tags[271].value, page.tags[272].value) == (np.uint16, "Maker", "Model 1")
        assert 274 not in page.tags and 50706 not in page.tags
    again = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    # Grey that is even in each row after the turn, and as bright as the sensor saw it: the camera's white is white.
    light = photo.pixels.astype(float) ** (563 / 256)
    np.testing.assert_allclose(light[8:-8].mean((1, 2)), (0.1 + 0.8 * np.arange(8, 88) / 96), rtol=0.02)
    assert np.ptp(light[8:-8], axis=2).max() < 0.02


def test_the_profile_of_raw_photos_is_adobe_rgb():
    profile = ImageCms.getOpenProfile(io.BytesIO(ADOBE_RGB))
    to_lab = ImageCms.buildTransform(profile, ImageCms.createProfile("LAB"), "RGB", "LAB")
    picture = Image.fromarray(np.array([[[255, 255, 255], [0, 255, 0], [128, 128, 128]]], np.uint8))
    white, green, grey = np.asarray(ImageCms.applyTransform(picture, to_lab))[0].astype(np.int8).astype(int)
    assert (white[0] % 256, *white[1:]) == (255, 0, 0)
    # CIE L*a*b* of the primary under D50, from the definition of the colour space.
    assert abs(green[0] % 256 - 0.8326 * 255) < 3 and abs(green[1] + 128) < 4 and abs(green[2] - 87) < 4
    assert abs(grey[0] % 256 - 0.536 * 255) < 3 and abs(grey[1]) < 2
