"""Orientation, EXIF, ICC and the other things that are carried over."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, JpegImagePlugin

from photos import read, write
from photos.metadata import exif_orientation, image_resources, upright_exif, upright_xmp

# Where the first row and the first column of the stored samples are seen, from the definition of the EXIF tag.
SEEN = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"), 5: ("left", "top"),
    6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def seen(stored, orientation):
    """Places stored sample (row, column) where the definition says, one by one."""
    first_row, first_column = SEEN[orientation]
    height, width = stored.shape[:2]
    turned = first_row in ("left", "right")
    picture = np.empty((width, height, *stored.shape[2:]) if turned else stored.shape, stored.dtype)
    for row in range(height):
        for column in range(width):
            away = {"top": row, "left": row, "bottom": height - 1 - row, "right": height - 1 - row}[first_row]
            along = {"top": column, "left": column, "bottom": width - 1 - column, "right": width - 1 - column}
            place = (along[first_column], away) if turned else (away, along[first_column])
            picture[place] = stored[row, column]
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "deep.tif", "lzw.tif"])
def test_pictures_are_turned_upright_once(tmp_path, smooth, exif, name, orientation):
    path, copy = tmp_path / name, tmp_path / f"out{name[-4:]}"
    stored = smooth[::3, ::2]
    if name == "deep.tif":
        tifffile.imwrite(
            path, stored.astype(np.uint16) * 257, photometric="rgb", metadata=None,
            extratags=[(274, "H", 1, orientation, True)],
        )  # fmt: skip
    elif name == "lzw.tif":
        Image.fromarray(stored).save(path, compression="tiff_lzw", tiffinfo={274: orientation})
    else:
        options = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {}
        Image.fromarray(stored).save(path, exif=b"Exif\0\0" + exif(orientation), **options)
    photo = read(path)
    tolerance = 4 / 255 if name == "a.jpg" else 1e-6
    np.testing.assert_allclose(photo.pixels, seen(stored, orientation) / 255, atol=tolerance)
    write(copy, photo.pixels, like=photo)
    np.testing.assert_allclose(read(copy).pixels, photo.pixels, atol=tolerance)
    with Image.open(copy) as image:
        assert image.getexif().get(274, 1) == 1
        assert image.size == photo.pixels.shape[1::-1]


def test_alpha_is_turned_too(tmp_path, rng, exif):
    stored = rng.integers(0, 256, (5, 9, 4)).astype(np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=b"Exif\0\0" + exif(6))
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(photo.alpha * 255), seen(stored, 6)[..., 3])


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_keeps_its_bytes_but_for_what_changed(tmp_path, smooth, exif, thumbnail, name):
    path, copy = tmp_path / name, tmp_path / f"out{name[1:]}"
    Image.fromarray(smooth).save(path, exif=b"Exif\0\0" + exif(6))
    assert thumbnail in path.read_bytes()
    photo = read(path)
    assert photo.exif == exif(6)
    write(copy, photo.pixels, like=photo)
    assert thumbnail not in copy.read_bytes()
    with Image.open(copy) as image:
        tags = image.getexif()
        assert (tags[271], tags[272], tags[274]) == ("Maker", "Model 1", 1)
        detail, gps = tags.get_ifd(34665), tags.get_ifd(34853)
        assert detail[33434] == 1 / 250 and detail[37500] == b"maker\xff\xd8note"
        assert (detail[40962], detail[40963]) == (48, 64)
        assert gps[1] == "N" and gps[2] == (48, 8, 30)
        assert not tags.get_ifd(1)
    # Nothing moved: the block equals one built without a thumbnail, apart from the empty thumbnail directory.
    assert read(copy).exif[:500] == exif(1, with_thumbnail=False, size=(48, 64))[:500].ljust(500, b"\0")


def test_a_thumbnail_in_the_middle_is_erased_in_place(exif, thumbnail):
    block = exif(8) + b"behind"
    amended = upright_exif(block, 48, 64)
    assert len(amended) == len(block) and amended.endswith(b"behind") and thumbnail[:64] not in amended


def with_length(block, thumbnail, length):
    """An EXIF block that tells another length of its thumbnail."""
    beginning = struct.pack(">HHI", 514, 4, 1)
    assert beginning + struct.pack(">I", len(thumbnail)) in block
    return block.replace(beginning + struct.pack(">I", len(thumbnail)), beginning + struct.pack(">I", length))


def test_a_thumbnail_of_overstated_length_takes_nothing_with_it(exif, thumbnail):
    block = exif(6) + b"behind"
    amended = upright_exif(with_length(block, thumbnail, 5000), 48, 64)
    assert amended == with_length(upright_exif(block, 48, 64), thumbnail, 5000)
    assert amended.endswith(bytes(len(thumbnail)) + b"behind")
    # What looks like the end of a stream may stand in a table.
    comment = b"\xff\xfe\0\6\xff\xd9\xff\xd9"
    block = exif(6).replace(thumbnail, thumbnail[:2] + comment + thumbnail[2:])
    assert len(upright_exif(with_length(block, thumbnail, 5000), 48, 64)) == 600
    # A stream without an end may be something else.
    block = exif(6)[:-2] + b"behind"
    assert upright_exif(with_length(block, thumbnail, 5000), 48, 64).endswith(thumbnail[:-2] + b"behind")


@pytest.mark.parametrize("block", [b"", b"II", b"MM\0*\0\0\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"nonsense" * 9])
def test_damaged_exif_is_left_alone(block):
    assert exif_orientation(block) is None
    assert upright_exif(block, 3, 4) == block


def test_every_truncation_of_exif_is_survived(exif):
    block = exif(6)
    for left in range(0, 700):
        upright_exif(block[:left], 48, 64)
        exif_orientation(block[:left])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "deep.tif", "lzw.tif"])
def test_profile_and_resolution_are_kept(tmp_path, smooth, icc, name):
    path, copy = tmp_path / name, tmp_path / f"out{name[-4:]}"
    if name == "deep.tif":
        tifffile.imwrite(
            path, smooth.astype(np.uint16), photometric="rgb", iccprofile=icc, resolution=(300, 300),
            resolutionunit=2, metadata=None,
        )  # fmt: skip
    else:
        options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
        Image.fromarray(smooth).save(path, icc_profile=icc, dpi=(300, 300), **options)
    photo = read(path)
    assert photo.icc == icc
    write(copy, photo.pixels, like=photo)
    with Image.open(copy) as image:
        assert image.info["icc_profile"] == icc
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("prefix", [b"II*\0", b"MM\0*"])
def test_tiff_tags_are_kept(tmp_path, smooth, exif, deep, prefix):
    path, copy = tmp_path / "a.tif", tmp_path / "out.tif"
    samples = smooth.astype(np.uint16) * 257 if deep else smooth
    order = "<" if prefix == b"II*\0" else ">"
    # Private tags hold the places of the EXIF and GPS tags, which tifffile does not write.
    tags = [
        (270, 2, 8, "a title\0", True), (306, 2, 20, "2024:05:06 07:08:09\0", True), (271, 2, 6, "Maker\0", True),
        (33432, 2, 5, "Me 1\0", True), (274, 3, 1, 6, True), (65001, 4, 1, 0, True), (65002, 4, 1, 0, True),
        (37724, 7, 6, b"layers", True),
    ]  # fmt: skip
    tifffile.imwrite(path, samples, photometric="rgb", metadata=None, byteorder=order, extratags=tags)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        places = {tag.code: tag for tag in file.pages[0].tags}
    for private, public in ((65001, 34665), (65002, 34853)):
        struct.pack_into(order + "H", data, places[private].offset, public)
        data += b"\0" * (len(data) % 2)
        at = len(data)
        struct.pack_into(order + "I", data, places[private].valueoffset, at)
        if public == 34665:
            data += struct.pack(order + "H", 3) + struct.pack(order + "HHII", 33434, 5, 1, at + 42)
            data += struct.pack(order + "HHII", 37500, 7, 10, at + 50) + struct.pack(order + "HHII", 40962, 4, 1, 64)
            data += struct.pack(order + "I", 0) + struct.pack(order + "II", 1, 125) + b"makernote\0"
        else:
            data += struct.pack(order + "H", 1) + struct.pack(order + "HHI", 1, 2, 2) + b"N\0\0\0" + bytes(4)
    path.write_bytes(data)

    photo = read(path)
    write(copy, photo.pixels, like=photo)
    assert copy.read_bytes()[:4] == prefix and b"layers" not in copy.read_bytes()
    with Image.open(copy) as image:
        exif_tags = image.getexif()
        assert exif_tags[270] == "a title" and exif_tags[306] == "2024:05:06 07:08:09"
        assert exif_tags[271] == "Maker" and exif_tags[33432] == "Me 1" and exif_tags.get(274, 1) == 1
        detail = exif_tags.get_ifd(34665)
        assert detail[33434] == 1 / 125 and detail[37500] == b"makernote\0" and detail[40962] == 48
        assert exif_tags.get_ifd(34853)[1] == "N"
    # And once more, from what we wrote.
    again = read(copy)
    write(path, again.pixels, like=again)
    assert path.read_bytes() == copy.read_bytes()


def test_xmp_orientation_is_applied_and_reset(tmp_path, smooth):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'
    Image.fromarray(smooth).save(tmp_path / "a.jpg", xmp=xmp)
    photo = read(tmp_path / "a.jpg")
    assert photo.pixels.shape == (64, 48, 3)
    write(tmp_path / "out.jpg", photo.pixels, like=photo)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["xmp"] == xmp.replace(b'"6"', b'"1"')
    assert read(tmp_path / "out.jpg").pixels.shape == (64, 48, 3)
    assert upright_xmp(b"<tiff:Orientation>8</tiff:Orientation>") == b"<tiff:Orientation>1</tiff:Orientation>"


def test_jpeg_is_never_stored_more_coarsely(tmp_path, rng):
    noise = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    for quality in (30, 95, 98):
        for subsampling in (0, 1, 2):
            path, copy = tmp_path / "a.jpg", tmp_path / "out.jpg"
            Image.fromarray(noise).save(path, quality=quality, subsampling=subsampling, progressive=True)
            photo = read(path)
            write(copy, photo.pixels, like=photo)
            reference = io.BytesIO()
            Image.fromarray(noise).save(reference, "JPEG", quality=95)
            with Image.open(path) as old, Image.open(copy) as new, Image.open(reference) as standard:
                for table in (0, 1):
                    divisors = np.array(new.quantization[table])
                    assert (divisors <= np.array(old.quantization[table])).all()
                    assert (divisors <= np.array(standard.quantization[table])).all()
                assert JpegImagePlugin.get_sampling(new) == subsampling
                assert new.info.get("progressive")


def test_grey_jpeg_stays_grey(tmp_path, smooth):
    Image.fromarray(smooth[..., 0]).save(tmp_path / "a.jpg", quality=98, comment=b"by me")
    photo = read(tmp_path / "a.jpg")
    assert photo.layout == "L" and (photo.pixels[..., 0] == photo.pixels[..., 2]).all()
    write(tmp_path / "out.jpg", photo.pixels, like=photo)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.mode == "L" and image.info["comment"] == b"by me"
    assert np.abs(read(tmp_path / "out.jpg").pixels - photo.pixels).max() <= 2 / 255


def test_of_several_jpeg_pictures_the_first_is_read(tmp_path, smooth, exif):
    first, second = Image.fromarray(smooth), Image.fromarray(smooth[::2, ::2])
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], exif=b"Exif\0\0" + exif(1))
    photo = read(tmp_path / "a.jpg")
    assert photo.format == "JPEG" and photo.pixels.shape == (48, 64, 3)
    write(tmp_path / "out.jpg", photo.pixels, like=photo)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.format == "JPEG" and image.getexif()[271] == "Maker"
        assert JpegImagePlugin.get_sampling(image) == 2


def resource(number, name, body, signature=b"8BIM"):
    name = bytes([len(name)]) + name
    name += b"\0" * (len(name) % 2)
    return signature + struct.pack(">H", number) + name + struct.pack(">I", len(body)) + body + b"\0" * (len(body) % 2)


LIST = b'<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"/></rdf:Seq></Container:Directory>'
PICTURES = (
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="d" '
    b'xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"%s>'
    b"<dc:creator>Ann</dc:creator>%s</rdf:Description></rdf:RDF>"
)


def test_the_list_of_further_pictures_goes_and_no_other_property(tmp_path, smooth):
    note = b' xmpNote:HasExtendedXMP="0123"'
    extension = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"depth"
    segment = b"\xff\xe1" + struct.pack(">H", len(extension) + 2) + extension
    for listed, expected in ((LIST, PICTURES % (b"", b"")), (b"", PICTURES % (note, b""))):
        Image.fromarray(smooth).save(tmp_path / "a.jpg", xmp=PICTURES % (note, listed), extra=segment)
        photo = read(tmp_path / "a.jpg")
        write(tmp_path / "b.jpg", photo.pixels, like=photo)
        assert read(tmp_path / "b.jpg").details.xmp == expected
        assert (extension in (tmp_path / "b.jpg").read_bytes()) == (listed == b"")


@pytest.mark.parametrize("with_thumbnail", [True, False])
def test_exif_in_several_segments_stays_whole(tmp_path, smooth, exif, with_thumbnail):
    block = exif(6, with_thumbnail).ljust(65520, b"\1") + b"of a maker" * 9000
    Image.fromarray(smooth).save(tmp_path / "a.jpg")
    data, segments = (tmp_path / "a.jpg").read_bytes(), b""
    for at in range(0, len(block), 60000):
        part = b"Exif\0\0" + block[at : at + 60000]
        segments += b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part
    (tmp_path / "a.jpg").write_bytes(data[:2] + segments + data[2:])
    photo = read(tmp_path / "a.jpg")
    assert photo.exif == block
    write(tmp_path / "b.jpg", photo.pixels, like=photo)
    assert read(tmp_path / "b.jpg").exif == upright_exif(block, 48, 64)
    write(tmp_path / "c.jpg", photo.pixels, like=photo.inscribed("Program 1.0", "{}"))
    assert read(tmp_path / "c.jpg").exif == upright_exif(block, 48, 64, "Program 1.0")
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.getexif()[271] == "Maker" and image.getexif()[305] == "Program 1.0"


def test_captions_are_kept_without_their_thumbnail(tmp_path, smooth):
    caption, path_name = resource(1028, b"", b"\x1c\x02\x78\0\x03abc"), resource(2000, b"odd", b"12345")
    block = caption + resource(1036, b"", b"thumbnail!!") + path_name
    assert image_resources(block) == caption + path_name
    other = resource(7000, b"", b"xx", b"MeSa")
    for rest in (b"", b"\0", b"8BIM\4\4", b"not a resource" + caption):
        assert image_resources(other + block + rest) == other + caption + path_name + rest
    segment = b"Photoshop 3.0\0" + block
    Image.fromarray(smooth).save(
        tmp_path / "a.jpg", extra=b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    )  # fmt: skip
    photo = read(tmp_path / "a.jpg")
    write(tmp_path / "out.jpg", photo.pixels, like=photo)
    data = (tmp_path / "out.jpg").read_bytes()
    assert b"Photoshop 3.0\0" + caption + path_name in data and b"thumbnail!!" not in data
