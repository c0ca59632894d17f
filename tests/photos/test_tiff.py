"""TIFF in its variants: byte orders, planes, tiles, compressions."""

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from PIL import Image

from photos import PhotoError, read, write


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib", "predictor": 2}, {"tile": (16, 32)},
        {"planarconfig": "separate"}, {"rowsperstrip": 5}, {"photometric": "miniswhite"},
    ],
)  # fmt: skip
def test_variants_are_read_exactly(tmp_path, rng, channels, dtype, options):
    samples = rng.integers(0, np.iinfo(dtype).max, (37, 41, channels), dtype, endpoint=True)
    stored = samples if channels > 1 else samples[..., 0]
    if channels == 1 and "planarconfig" in options or channels > 1 and "photometric" in options:
        pytest.skip("makes no such file")
    settings = {"photometric": "rgb" if channels > 1 else "minisblack", "metadata": None}
    settings |= {"planarconfig": "contig"} if channels > 1 else {}
    settings |= {"extrasamples": ("unassalpha",)} if channels == 4 else {}
    settings |= options
    if options.get("planarconfig") == "separate":
        stored = np.moveaxis(stored, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, **settings)
    photo = read(tmp_path / "a.tif")
    expected = np.iinfo(dtype).max - samples if "photometric" in options else samples
    np.testing.assert_array_equal(photo.samples_of(photo.pixels), expected)
    write(tmp_path / "b.tif", photo.pixels, like=photo)
    written = tifffile.imread(tmp_path / "b.tif")
    if options.get("planarconfig") == "separate":
        written = np.moveaxis(written, 0, 2)
    np.testing.assert_array_equal(written if channels > 1 else written[..., None], expected)
    with tifffile.TiffFile(tmp_path / "a.tif") as old, tifffile.TiffFile(tmp_path / "b.tif") as new:
        assert (new.pages[0].compression == 1) == (old.pages[0].compression == 1)
        assert new.byteorder == old.byteorder and new.pages[0].extrasamples == old.pages[0].extrasamples
        assert new.pages[0].planarconfig == old.pages[0].planarconfig


def lzw(data):
    """Packs bytes as TIFF's LZW does, by the textbook."""
    codes, table, word = [256], {bytes([value]): value for value in range(256)}, b""
    for value in data:
        longer = word + bytes([value])
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        table[longer] = len(table) + 2
        if len(table) + 2 > 4093:
            codes.append(256)
            table = {bytes([number]): number for number in range(256)}
        word = bytes([value])
    codes += [table[word], 257]
    bits, known = "", 258
    for index, code in enumerate(codes):
        bits += format(code, f"0{9 if known < 511 else 10 if known < 1023 else 11 if known < 2047 else 12}b")
        known = 258 if code == 256 else known + (codes[index - 1] != 256)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def packbits(data):
    return b"".join(bytes([len(part) - 1]) + part for part in (data[at : at + 100] for at in range(0, len(data), 100)))


def packed_tiff(samples, compression, predictor=1, order="<", rows=8, **others):
    """A TIFF in strips of the samples' own kind, byte by byte; other short tags by names such as tag_338."""
    height, width, channels = samples.shape
    stored = samples.copy()
    if predictor == 2:
        stored[:, 1:] = samples[:, 1:] - samples[:, :-1]
    pack = {5: lzw, 32773: packbits}[compression]
    kind = stored.dtype.newbyteorder(order)
    strips = [pack(stored[top : top + rows].astype(kind).tobytes()) for top in range(0, height, rows)]
    offsets, data = [], {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 0)
    for strip in strips:
        offsets.append(len(data))
        data += strip
    if others.get("tag_266") == 2:
        data = data[:8] + bytes(int(f"{value:08b}"[::-1], 2) for value in data[8:])
    data += b"\0" * (len(data) % 2)
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [8 * kind.itemsize] * channels), (259, 3, [compression]),
        (262, 3, [2 if channels > 2 else 1]), (273, 4, offsets), (277, 3, [channels]), (278, 4, [rows]),
        (279, 4, [len(strip) for strip in strips]), (317, 3, [predictor]),
    ]  # fmt: skip
    tags = sorted(tags + [(int(name.removeprefix("tag_")), 3, [value]) for name, value in others.items()])
    table, values, base = struct.pack(order + "H", len(tags)), b"", len(data) + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in tags:
        value = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(value) > 4:
            value, values = struct.pack(order + "I", base + len(values)), values + value + b"\0" * (len(value) % 2)
        table += struct.pack(order + "HHI", tag, kind, len(numbers)) + value.ljust(4, b"\0")
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + table + bytes(4) + values


@pytest.mark.parametrize("compression", [5, 32773])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_packed_sixteen_bits_are_exact(tmp_path, rng, compression, predictor, order, channels):
    samples = rng.integers(0, 65536, (21, 17, channels)).astype(np.uint16)
    samples[5:15] = samples[:1] // 7
    (tmp_path / "a.tif").write_bytes(packed_tiff(samples, compression, predictor, order))
    photo = read(tmp_path / "a.tif")
    assert photo.bit_depth == 16
    np.testing.assert_array_equal(photo.samples_of(photo.pixels), samples)
    write(tmp_path / "b.tif", photo.pixels, like=photo)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif").reshape(samples.shape), samples)


@pytest.mark.parametrize("compression", [5, 32773])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("channels", [2, 4])
def test_packed_eight_bits_keep_a_further_channel_whatever_it_means(
    tmp_path, rng, compression, predictor, extra, channels
):
    samples = rng.integers(0, 256, (21, 17, channels)).astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(packed_tiff(samples, compression, predictor, tag_338=extra))
    photo = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.samples_of(photo.pixels), samples)
    write(tmp_path / "b.tif", photo.pixels, like=photo)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].extrasamples == (extra,)
        np.testing.assert_array_equal(file.asarray(), samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_packed_bits_may_be_stored_in_the_other_order(tmp_path, rng, dtype):
    samples = rng.integers(0, np.iinfo(dtype).max, (11, 17, 3)).astype(dtype)
    (tmp_path / "a.tif").write_bytes(packed_tiff(samples, 5, tag_266=2))
    photo = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.samples_of(photo.pixels), samples)


def test_packed_signed_numbers_are_not_taken_for_unsigned_ones(tmp_path):
    samples = np.arange(-24, 24, dtype=np.int8).reshape(6, 8, 1)
    (tmp_path / "a.tif").write_bytes(packed_tiff(samples, 5, tag_339=2))
    with pytest.raises(PhotoError, match=r"a\.tif: expected samples of 8 or 16 bits or float32, got int8"):
        read(tmp_path / "a.tif")


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads it")
def test_what_pillow_would_change_is_refused(tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (16, 16, 4)).astype(np.uint8)).save(tmp_path / "a.tif", compression="jpeg")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ExtraSamples"].overwrite(1)
    with pytest.raises(PhotoError, match=r"a\.tif: expected a compression that can be read, got JPEG.*imagecodecs"):
        read(tmp_path / "a.tif")


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads it")
def test_other_compressions_name_the_missing_package(tmp_path, rng):
    data = packed_tiff(rng.integers(0, 99, (8, 8, 3)).astype(np.uint16), 5, 1, "<")
    data = data.replace(struct.pack("<HHIHH", 259, 3, 1, 5, 0), struct.pack("<HHIHH", 259, 3, 1, 34712, 0))
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(PhotoError, match=r"a\.tif.*imagecodecs"):
        read(tmp_path / "a.tif")


def test_smaller_versions_are_passed_over(tmp_path, smooth):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(smooth, photometric="rgb", metadata=None)
        file.write(smooth[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    photo = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.samples_of(photo.pixels), smooth)


@pytest.mark.parametrize("compression", ["jpeg", "packbits", "tiff_lzw"])
def test_packed_eight_bits_agree_with_pillow(tmp_path, smooth, compression):
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression=compression)
    photo = read(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(photo.samples_of(photo.pixels), np.asarray(image))


def test_premultiplied_alpha_stays_so(tmp_path, rng):
    samples = rng.integers(0, 65536, (6, 7, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=("assocalpha",), metadata=None)
    photo = read(tmp_path / "a.tif")
    write(tmp_path / "b.tif", photo.pixels, like=photo)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].extrasamples == (1,)
        np.testing.assert_array_equal(file.asarray(), samples)


def test_missing_picture_data_is_told_from_damage(tmp_path, rng):
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 65536, (20, 30, 3)).astype(np.uint16), photometric="rgb")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-5])
    with pytest.raises(PhotoError, match=r"a\.tif.*cut short"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options", [{"tile": (16, 16)}, {"rowsperstrip": 4}, {"rowsperstrip": 4, "compression": "zlib"}]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_with_missing_parts_is_refused(tmp_path, rng, options, dtype):
    samples = rng.integers(0, 256, (16, 16, 3)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", metadata=None, **options)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(1600)
    with pytest.raises(PhotoError, match=r"a\.tif.*cut short"):
        read(tmp_path / "a.tif")
