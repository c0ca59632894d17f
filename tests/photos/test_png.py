"""Sixteen-bit PNG, against a decoder and an encoder written pixel by pixel from the specification."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from photos import PhotoError, read, write

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def paeth(a, b, c):
    p = a + b - c
    return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]


def prediction(kind, a, b, c):
    return [0, a, b, (a + b) // 2, paeth(a, b, c)][kind]


def filtered(rows, size, kinds):
    """Bytes of a picture whose rows are filtered with the kinds in turn."""
    out, above = b"", bytes(len(rows[0]))
    for index, row in enumerate(rows):
        kind = kinds[index % len(kinds)]
        out += bytes([kind])
        for at, value in enumerate(row):
            a, c = (row[at - size], above[at - size]) if at >= size else (0, 0)
            out += bytes([(value - prediction(kind, a, above[at], c)) % 256])
        above = row
    return out


def png(samples, kinds=(0, 1, 2, 3, 4), interlaced=False, extra=b"", colour=None):
    samples = samples.astype(">u2")
    height, width, channels = samples.shape
    stream = b""
    for x, y, dx, dy in PASSES if interlaced else [(0, 0, 1, 1)]:
        part = samples[y::dy, x::dx]
        if part.size:
            stream += filtered([row.tobytes() for row in part], 2 * channels, kinds)
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPE[channels], 0, 0, interlaced)
    packed = zlib.compress(stream)
    middle = chunk(b"IDAT", packed[: len(packed) // 2]) + chunk(b"IDAT", packed[len(packed) // 2 :])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + middle + chunk(b"IEND", b"")


def decoded(data):
    """Samples of a 16-bit PNG without interlacing, pixel by pixel, and its chunks."""
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        assert data[at : at + 12 + length] == chunk(*chunks[-1])
        at += 12 + length
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    assert depth == 16 and not interlaced
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    stream = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    size, length = 2 * channels, 2 * channels * width
    above, picture = bytes(length), b""
    for row in range(height):
        line = stream[row * (length + 1) : (row + 1) * (length + 1)]
        values = bytearray()
        for index, value in enumerate(line[1:]):
            a, c = (values[index - size], above[index - size]) if index >= size else (0, 0)
            values.append((value + prediction(line[0], a, above[index], c)) % 256)
        picture, above = picture + values, values
    return np.frombuffer(picture, ">u2").reshape(height, width, channels), dict(chunks)


def gradual(rng, height, width, channels):
    """Samples for which the filters differ: a slope with noise."""
    slope = 900 * np.arange(height)[:, None, None] + 700 * np.arange(width)[:, None] + 5000 * np.arange(channels)
    return ((slope + rng.integers(0, 400, slope.shape)) % 65536).astype(np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("size", [(13, 11), (1, 9), (9, 1), (1, 1)])
def test_sixteen_bits_survive_exactly(tmp_path, rng, channels, interlaced, size):
    path = tmp_path / "a.png"
    samples = gradual(rng, *size, channels)
    path.write_bytes(png(samples, interlaced=interlaced))
    photo = read(path)
    assert photo.bit_depth == 16
    colours = samples[..., :3] if channels >= 3 else np.repeat(samples[..., :1], 3, axis=2)
    np.testing.assert_array_equal(np.rint(photo.pixels * 65535), colours)
    write(path, photo.pixels, like=photo)
    np.testing.assert_array_equal(decoded(path.read_bytes())[0], samples)


@pytest.mark.parametrize("kind", range(5))
def test_each_filter_is_undone(tmp_path, rng, kind):
    samples = rng.integers(0, 65536, (12, 17, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(samples, kinds=(kind,)))
    np.testing.assert_array_equal(np.rint(read(tmp_path / "a.png").pixels * 65535), samples)


def test_grey_agrees_with_pillow(tmp_path, rng):
    samples = gradual(rng, 30, 40, 1)
    Image.fromarray(samples[..., 0]).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(photo.pixels[..., 0] * 65535), samples[..., 0])
    write(tmp_path / "b.png", photo.pixels, like=photo)
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), samples[..., 0])


def test_eight_bit_files_are_as_small_as_pillows(tmp_path, rng):
    samples = (gradual(rng, 60, 80, 3) >> 8).astype(np.uint8)
    Image.fromarray(samples).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    write(tmp_path / "b.png", photo.pixels, like=photo)
    assert (tmp_path / "b.png").stat().st_size < 1.1 * (tmp_path / "a.png").stat().st_size


def test_a_transparent_colour_becomes_alpha(tmp_path, rng):
    samples = gradual(rng, 6, 7, 3)
    key = chunk(b"tRNS", struct.pack(">3H", *samples[2, 3].tolist()))
    (tmp_path / "a.png").write_bytes(png(samples, extra=key))
    photo = read(tmp_path / "a.png")
    assert photo.layout == "RGBA" and photo.alpha[2, 3] == 0 and photo.alpha.sum() == 6 * 7 - 1
    grey = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    grey.save(tmp_path / "b.png", transparency=5)
    photo = read(tmp_path / "b.png")
    assert photo.layout == "LA" and photo.alpha[1, 1] == 0 and photo.alpha.sum() == 11


def test_chunks_are_carried_over(tmp_path, rng):
    kept = {
        b"gAMA": struct.pack(">I", 45455), b"sRGB": b"\0", b"pHYs": struct.pack(">IIB", 11811, 11811, 1),
        b"tEXt": b"Title\0A title", b"iTXt": b"Author\0\0\0\0\0\xc3\xa9",
    }  # fmt: skip
    dropped = chunk(b"tIME", bytes(7)) + chunk(b"bKGD", bytes(6))
    extra = b"".join(chunk(name, body) for name, body in kept.items()) + dropped
    (tmp_path / "a.png").write_bytes(png(gradual(rng, 4, 5, 3), extra=extra))
    photo = read(tmp_path / "a.png")
    write(tmp_path / "b.png", photo.pixels, like=photo)
    chunks = decoded((tmp_path / "b.png").read_bytes())[1]
    assert {name: chunks.get(name) for name in kept} == kept
    assert not {b"tIME", b"bKGD"} & set(chunks)


def test_exif_spelled_as_text_is_understood(tmp_path, rng, exif):
    block = b"Exif\0\0" + exif(6)
    text = f"\nexif\n{len(block):8}\n".encode() + block.hex().encode()
    extra = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    (tmp_path / "a.png").write_bytes(png(gradual(rng, 4, 5, 3), extra=extra))
    photo = read(tmp_path / "a.png")
    assert photo.pixels.shape == (5, 4, 3)
    write(tmp_path / "b.png", photo.pixels, like=photo)
    chunks = decoded((tmp_path / "b.png").read_bytes())[1]
    assert b"eXIf" in chunks and b"zTXt" not in chunks
    assert read(tmp_path / "b.png").pixels.shape == (5, 4, 3)


TURNED = (
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="6"/>'
    b"</rdf:RDF>"
)


@pytest.mark.parametrize("form", ["plain", "packed", "raw", "raw packed"])
@pytest.mark.parametrize("inscribed", [False, True])
def test_a_packet_is_understood_however_it_is_stored(tmp_path, rng, form, inscribed):
    marked = b"http://ns.adobe.com/xap/1.0/\0" + TURNED
    text = f"\napp1\n{len(marked):8}\n".encode() + marked.hex().encode()
    extra = {
        "plain": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TURNED),
        "packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(TURNED)),
        "raw": chunk(b"tEXt", b"Raw profile type APP1\0" + text),
        "raw packed": chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(text)),
    }[form]
    samples = gradual(rng, 4, 5, 3)
    (tmp_path / "a.png").write_bytes(png(samples, extra=extra))
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(photo.pixels * 65535), np.rot90(samples, -1))
    assert photo.details.xmp == TURNED
    write(tmp_path / "b.png", photo.pixels, like=photo.inscribed("Program 1.0", "{}") if inscribed else photo)
    again = read(tmp_path / "b.png")
    assert b'tiff:Orientation="1"' in again.details.xmp and inscribed == (b"Program 1.0" in again.details.xmp)
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert b"zTXt" not in (tmp_path / "b.png").read_bytes()


def test_raw_profiles_that_are_something_else_are_carried_over(tmp_path, rng):
    other = chunk(b"tEXt", b"Raw profile type APP1\0\napp1\n       4\n61626364")
    damaged = chunk(b"zTXt", b"Raw profile type exif\0\0nothing packed")
    packet = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x/>"))
    second = b"http://ns.adobe.com/xap/1.0/\0<y/>".hex().encode()
    second = chunk(b"tEXt", b"Raw profile type APP1\0\napp1\n      33\n" + second)
    (tmp_path / "a.png").write_bytes(png(gradual(rng, 4, 5, 3), extra=other + damaged + packet + second))
    photo = read(tmp_path / "a.png")
    write(tmp_path / "b.png", photo.pixels, like=photo)
    for kept in (other, damaged, packet, second):
        assert kept in (tmp_path / "b.png").read_bytes()


def test_exif_may_have_the_marker_of_a_jpeg(tmp_path, rng, exif):
    (tmp_path / "a.png").write_bytes(png(gradual(rng, 4, 5, 3), extra=chunk(b"eXIf", b"Exif\0\0" + exif(6))))
    photo = read(tmp_path / "a.png")
    assert photo.exif == exif(6) and photo.pixels.shape == (5, 4, 3)
    write(tmp_path / "b.png", photo.pixels, like=photo)
    assert decoded((tmp_path / "b.png").read_bytes())[1][b"eXIf"].startswith(b"MM\0*")


def test_large_texts_and_profiles_do_not_stop_the_reading(tmp_path, smooth):
    profile = b"big" * 700_000
    body = b"ICC\0\0" + zlib.compress(profile)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(b"iCCP", body) + data[33:])
    assert read(tmp_path / "a.png").icc == profile


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_eight_bits_and_fewer_must_be_whole(tmp_path, smooth, mode, interlaced):
    path = tmp_path / "a.png"
    picture = Image.fromarray(smooth[:19, :21]).convert(mode)
    picture.save(path)
    data = path.read_bytes()
    depth, channels = data[24], {"RGB": 3, "RGBA": 4}.get(mode, 1)
    sizes = [(len(range(y, 19, dy)), len(range(x, 21, dx))) for x, y, dx, dy in PASSES]
    sizes = [size for size in sizes if all(size)] if interlaced else [(19, 21)]
    rows = sum(height * (1 + -(-width * channels * depth // 8)) for height, width in sizes)
    head = data[16:28] + bytes([interlaced])
    palette = data[data.index(b"PLTE") - 4 : data.index(b"IDAT") - 4] if mode == "P" else b""
    for missing in (0, 1, rows // 2):
        stream = chunk(b"IDAT", zlib.compress(bytes(rows - missing)))
        path.write_bytes(data[:8] + chunk(b"IHDR", head) + palette + stream + chunk(b"IEND", b""))
        if missing:
            with pytest.raises(PhotoError, match=r"a\.png: expected a whole PNG file, got too little picture data"):
                read(path)
        else:
            assert read(path).pixels.shape == (19, 21, 3)


@pytest.mark.parametrize("at", range(16, 33))
def test_a_damaged_header_is_noticed(tmp_path, smooth, at):
    Image.fromarray(smooth).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[at] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(PhotoError, match=r"a\.png: expected a whole PNG file, got one with a damaged chunk IHDR"):
        read(tmp_path / "a.png")


def test_damage_is_noticed(tmp_path, rng):
    data = png(gradual(rng, 8, 9, 3))
    path = tmp_path / "a.png"
    broken = bytearray(data)
    broken[data.index(b"IDAT") + 9] ^= 0x55
    path.write_bytes(broken)
    with pytest.raises(PhotoError, match=r"a\.png.*damaged chunk IDAT"):
        read(path)
    for left in range(0, len(data) - 1, 7):
        path.write_bytes(data[:left])
        with pytest.raises(PhotoError, match=r"a\.png"):
            read(path)
    head = data[:33]
    for stream, reason in ((zlib.compress(bytes(20)), "too little"), (b"nothing packed", "damaged"), (b"", "too")):
        path.write_bytes(head + chunk(b"IDAT", stream) + chunk(b"IEND", b""))
        with pytest.raises(PhotoError, match=rf"a\.png.*{reason}"):
            read(path)
    path.write_bytes(head + chunk(b"IDAT", zlib.compress(b"\x09" * 8 * 55)) + chunk(b"IEND", b""))
    with pytest.raises(PhotoError, match="filters from 0 to 4, got 9"):
        read(path)
