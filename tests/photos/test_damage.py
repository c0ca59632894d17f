"""Photos, maps and metadata damaged at random are read or refused in one sentence, and what is read can be written.

A small share runs with all tests; `make fuzz` runs thousands.
"""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from mutations import CASES, mutated, without_hanging
from PIL import Image, ImageCms

from photos import PhotoError, ValueRange, open_pages, read, read_map, write
from photos.metadata import upright_exif
from photos.photo import Photo
from photos.png import PngDetails
from photos.profile import curves_of

XMP = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif():
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Maker"
    tags.get_ifd(34665)[37500] = b"notes" * 9
    return tags.tobytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole files of every kind: suffix and content."""
    folder, rng = tmp_path_factory.mktemp("whole"), np.random.default_rng(0)
    samples = rng.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    image, files = Image.fromarray(samples), []

    def save(suffix, **options):
        image.save(folder / f"a{suffix}", **options)
        files.append((suffix, (folder / f"a{suffix}").read_bytes()))

    tags = {"exif": exif(), "icc_profile": PROFILE}
    save(".jpg", xmp=XMP, comment=b"hello", **tags)
    save(".jpg", progressive=True)
    save(".png", dpi=(300, 300), **tags)
    save(".webp", xmp=XMP, **tags)
    save(".webp", lossless=True)
    save(".avif", **tags)
    save(".tif", compression="tiff_lzw")
    deep = samples.astype(np.uint16) * 257
    for options in ({}, {"compression": "zlib", "predictor": 2}, {"bigtiff": True}, {"tile": (16, 16)}):
        tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb", iccprofile=PROFILE, **options)
        files.append((".tif", (folder / "deep.tif").read_bytes()))
    photo = read(folder / "deep.tif")
    write(folder / "deep.png", photo.pixels, like=replace(photo, format="PNG", details=PngDetails([])))
    files.append((".png", (folder / "deep.png").read_bytes()))
    tifffile.imwrite(folder / "stack.tif", deep[..., :2].T, photometric="minisblack", metadata=None)
    files.append((".tif", (folder / "stack.tif").read_bytes()))
    return files


def refused(error, path):
    message = str(error)
    assert str(path) in message and "\n" not in message and len(message) < 600, message


@pytest.mark.parametrize("seed", range(8))
def test_damaged_photos(tmp_path, whole, seed):
    draw, read_at_all = random.Random(seed), 0
    for case in range((CASES or 160) // 8):
        suffix, content = whole[case % len(whole)] if case % 20 else (".png", draw.randbytes(draw.randrange(1, 300)))
        path = tmp_path / f"a{suffix}"
        path.write_bytes(mutated(content, draw))
        with without_hanging():
            try:
                pages = open_pages(path, ValueRange() if draw.random() < 0.2 else None)
                for photo in list(pages)[:2]:
                    read_at_all += 1
                    written = tmp_path / f"b{suffix}"
                    write(written, photo.pixels, like=photo.inscribed("Program 1.0", "{}"))
                    again = open_pages(written)
                    assert next(iter(again)).pixels.shape == photo.pixels.shape
                    written.unlink()
            except PhotoError as error:
                refused(error, tmp_path)
        path.unlink()
        assert not list(tmp_path.iterdir())
    # Where nothing at all can be read the mutations are too coarse to test anything.
    assert read_at_all > 0


def test_damaged_maps(tmp_path):
    draw, path = random.Random(1), tmp_path / "map.npy"
    np.save(path, np.ones((9, 7), np.float32))
    contents = [path.read_bytes()]
    tifffile.imwrite(path, np.ones((9, 7), np.float32), metadata=None)
    contents.append(path.read_bytes())
    for case in range(max(CASES // 10, 30)):
        path.write_bytes(mutated(contents[case % 2], draw))
        with without_hanging():
            try:
                assert np.isfinite(read_map(path)).all()
            except PhotoError as error:
                refused(error, path)


def test_damaged_metadata():
    draw, block = random.Random(2), exif().removeprefix(b"Exif\0\0")
    for _ in range(max(CASES // 5, 100)):
        with without_hanging():
            damaged = mutated(block, draw)
            assert isinstance(upright_exif(damaged, 20, 30, "Program 1.0"), bytes)
            curves = curves_of(mutated(PROFILE, draw))
            if curves is not None:
                with np.errstate(all="ignore"):
                    curves[0](np.linspace(0, 1, 5))


def test_any_shape_type_and_layout_comes_back(tmp_path):
    draw = random.Random(3)
    for _ in range(max(CASES // 10, 40)):
        dtype = draw.choice((np.uint8, np.uint16, np.float32))
        channels, height, width = draw.randint(1, 4), draw.randint(1, 40), draw.randint(1, 40)
        rng = np.random.default_rng(draw.getrandbits(32))
        samples = rng.random((height, width, channels), np.float32)
        if dtype != np.float32:
            samples = (samples * np.iinfo(dtype).max).astype(dtype)
        options = {"byteorder": draw.choice("<>"), "bigtiff": draw.random() < 0.3}
        options |= draw.choice(({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 3}))
        if channels > 1:
            options |= {"planarconfig": "contig", "extrasamples": (2,) if channels in (2, 4) else None}
        tifffile.imwrite(
            tmp_path / "a.tif", samples if channels > 1 else samples[..., 0], metadata=None,
            photometric="rgb" if channels > 2 else "minisblack", **options,
        )  # fmt: skip
        value_range = draw.choice((None, None, ValueRange(), ValueRange(0.2, 0.7)))
        photo = read(tmp_path / "a.tif", value_range)
        assert isinstance(photo, Photo) and photo.pixels.shape == (height, width, 3)
        write(tmp_path / "b.tif", photo.pixels, like=photo)
        written = tifffile.imread(tmp_path / "b.tif").reshape(samples.shape)
        np.testing.assert_array_equal(written, samples)


def test_a_few_bytes_cannot_claim_all_memory(tmp_path):
    """Decompression bombs: the header decides, before memory is taken."""
    import struct
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))

    packed = zlib.compress(bytes(10_000_000), 9)
    for depth in (8, 16):
        head = struct.pack(">IIBBBBB", 60_000, 60_000, depth, 2, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(content)
        with pytest.raises(PhotoError, match="at most 250000000 pixels"):
            read(tmp_path / "bomb.png")
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 28), 9))
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    content = buffer.getvalue()
    (tmp_path / "profile.png").write_bytes(content[:33] + profile + content[33:])
    assert len(read(tmp_path / "profile.png").icc) <= 1 << 26
