"""What was done to a photo, written into it: found again in every format, beside what the photographer wrote."""

from importlib.util import find_spec
from xml.dom import minidom

import numpy as np
import pytest
import tifffile
from PIL import Image

from photos import inscription_of, read, write
from photos.inscription import inscribed_xmp, software_entry
from photos.metadata import upright_exif

PARAMETERS = '{"arguments": ["--psf", "disk", "a<b>&\\"c\\" ]]> ü 日本"]}'
RDF = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
XMP = (
    b'<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/">' + RDF + b"><rdf:Description rdf:about='' "
    b"xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:Rating='4'/></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)
SUFFIXES = [".jpg", ".png", ".tif", "deep.tif", ".webp", ".avif"]
SUFFIXES += [pytest.param(".heic", marks=pytest.mark.skipif(not find_spec("pillow_heif"), reason="needs pillow-heif"))]


def save(path, smooth, exif, xmp):
    """A file with a rating, a maker and a program that made it."""
    if path.name.endswith("deep.tif"):
        tags = [(700, "B", len(xmp), xmp, True)] if xmp else []
        tags += [(271, "s", 0, "Maker", True)]
        tifffile.imwrite(
            path, smooth.astype(np.uint16) * 257, photometric="rgb", metadata=None, software="Camera 1", extratags=tags
        )
        return
    options = {"exif": b"Exif\0\0" + upright_exif(exif(1), 64, 48, "Camera 1")} | ({"xmp": xmp} if xmp else {})
    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.from_bytes("RGB", (64, 48), smooth.tobytes()).save(path, **options)
    elif path.suffix == ".tif":
        tags = {271: "Maker", 305: "Camera 1"} | ({700: xmp} if xmp else {})
        Image.fromarray(smooth).save(path, tiffinfo=tags)
    elif path.suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        if xmp:
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"), zip=True)
        Image.fromarray(smooth).save(path, exif=options["exif"], pnginfo=texts)
    else:
        Image.fromarray(smooth).save(path, **options)


def tag(path, number):
    """A tag as libraries read it."""
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as file:
            return file.pages[0].tags.valueof(number)
    tags = Image.Exif()
    tags.load(read(path).exif or b"")
    return tags.get(number)


@pytest.mark.parametrize("xmp", [None, XMP])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parameters_are_found_again_beside_all_else(tmp_path, smooth, exif, suffix, xmp):
    source, copy, third = (tmp_path / f"{name}{suffix}" for name in "abc")
    save(source, smooth, exif, xmp)
    photo = read(source)
    write(copy, photo.pixels, like=photo.inscribed("Program 1.0", PARAMETERS))
    written = read(copy)
    assert inscription_of(written.details.xmp) == PARAMETERS
    assert (b"xmp:Rating='4'" in written.details.xmp) == (xmp is not None)
    assert tag(copy, 271) == "Maker" and tag(copy, 305) == "Program 1.0, after Camera 1"
    # A second run leaves one record, its own, and the program is named once.
    write(third, written.pixels, like=written.inscribed("Program 1.1", "second"))
    assert inscription_of(read(third).details.xmp) == "second"
    assert read(third).details.xmp.count(b"scorefocus:Parameters>") == 2
    assert tag(third, 305) == "Program 1.1, after Camera 1"
    # Pillow sees the same packet in the formats that it can take it from.
    if suffix in (".jpg", ".webp", ".avif"):
        assert Image.open(copy).info["xmp"].strip(b"\0") == written.details.xmp.strip(b"\0")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_stripped_photos_keep_colours_alone(tmp_path, smooth, exif, icc, suffix):
    source, copy = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save(source, smooth, exif, XMP)
    photo = read(source)
    write(copy, photo.pixels, like=photo.stripped())
    content = copy.read_bytes()
    for trace in (b"Maker", b"Camera 1", b"maker\xff\xd8note", b"xmp:Rating", b"scorefocus"):
        assert trace not in content
    np.testing.assert_allclose(read(copy).pixels, photo.pixels, atol=0.03)


def test_stripped_photos_keep_their_profile(tmp_path, smooth, icc):
    for name in ("a.jpg", "a.png", "a.tif", "a.webp", "a.avif"):
        Image.fromarray(smooth).save(tmp_path / name, icc_profile=icc, dpi=(300, 300))
        photo = read(tmp_path / name)
        write(tmp_path / f"b{name}", photo.pixels, like=photo.stripped())
        assert read(tmp_path / f"b{name}").icc == icc


OURS = "urn:scorefocus:1.0:"
# What editors make of a packet of ours, which stands at %s.
EDITED = {
    "elements": b"<rdf:Description rdf:about='' xmlns:s='urn:scorefocus:1.0:' xmlns:dc='d' dc:format='f'><dc:creator>"
    b"<rdf:Seq><rdf:li>\xc3\x84nn</rdf:li></rdf:Seq></dc:creator>%s<dc:x/></rdf:Description>",
    "attributes": b"<rdf:Description rdf:about='' dc:a='>/' xmlns:s='urn:scorefocus:1.0:'%s xmlns:dc='d' dc:b=\"'\"/>",
    "nested": b"<rdf:Description rdf:about='' xmlns:s='urn:scorefocus:1.0:' xmlns:m='m'><m:from><rdf:Description>"
    b"<s:Parameters>of another file</s:Parameters></rdf:Description></m:from>%s"
    b"<m:by rdf:parseType='Resource'><s:Software>x</s:Software></m:by></rdf:Description>",
    "comment": b"<rdf:Description rdf:about='' xmlns:s='urn:scorefocus:1.0:'><!-- <s:Parameters> -->%s"
    b"</rdf:Description>",
    "no utf-8": b"<rdf:Description rdf:about='' xmlns:s='urn:scorefocus:1.0:' xmlns:dc='d'><dc:x>\xfc</dc:x>%s"
    b"</rdf:Description>",
}  # fmt: skip


@pytest.mark.parametrize("form", EDITED)
def test_what_an_editor_merged_with_ours_stays_byte_by_byte(form):
    ours = b'<s:Software>Program 1.0</s:Software><s:Parameters>{"a": "&lt;"}</s:Parameters>'
    if form == "attributes":
        ours = b" s:Software='Program 1.0'\n s:Parameters='{&quot;a&quot;: \"&lt;\"}'"
    head, tail = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + RDF + b">\n", b"</rdf:RDF></x:xmpmeta>\0\0"
    edited = head + EDITED[form] % ours + tail
    assert inscription_of(edited) == '{"a": "<"}'
    again = inscribed_xmp(edited, "Program 2.0", PARAMETERS)
    assert again.startswith(head + EDITED[form] % b"") and again.endswith(tail)
    assert inscription_of(again) == PARAMETERS and b"Program 1.0" not in again
    assert again.count(b"<scorefocus:Parameters>") == 1 and inscribed_xmp(again, "Program 2.0", PARAMETERS) == again
    minidom.parseString(again.rstrip(b"\0").replace(b"\xfc", b""))


@pytest.mark.parametrize(
    "ours",
    [
        b'<rdf:Description rdf:about="" xmlns:scorefocus="%b"><scorefocus:Parameters>1</scorefocus:Parameters>\n'
        b"</rdf:Description>\n",
        b"<rdf:Description rdf:about='' xmlns:dc='d' xmlns:a='%b' a:Parameters='1' />",
    ],
)
def test_descriptions_of_ours_alone_go_as_a_whole(ours):
    head, tail = RDF + b">", b"<rdf:Description rdf:about=''/></rdf:RDF>"
    edited = head + ours % OURS.encode() + tail
    assert inscription_of(edited) == "1"
    again = inscribed_xmp(edited, "Program", "2")
    assert again == inscribed_xmp(head + tail, "Program", "2") and inscription_of(again) == "2"


def test_a_packet_of_another_form_is_left_alone(tmp_path, smooth):
    packets = [b"no xml", b"<rdf:RDF>", XMP.decode("ascii").encode("utf-16-le"), XMP.replace(b"/>", b">")]
    packets += [b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + RDF + b"></rdf:RDF>", RDF + b"/>", b"<rdf:RDF></rdf:RDF>"]
    for packet in packets:
        assert inscribed_xmp(packet, "Program", "parameters") is None


def test_a_packet_too_long_for_its_place_stays(tmp_path, smooth):
    long = XMP.replace(b"Rating='4'", b"Rating='" + b"4" * 65200 + b"'")
    Image.fromarray(smooth).save(tmp_path / "a.jpg", xmp=long)
    photo = read(tmp_path / "a.jpg")
    write(tmp_path / "b.jpg", photo.pixels, like=photo.inscribed("Program 1.0", PARAMETERS))
    assert read(tmp_path / "b.jpg").details.xmp == long


def test_segments_that_continue_a_packet_are_carried(tmp_path, smooth):
    extension = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"more"
    segment = b"\xff\xe1" + (len(extension) + 2).to_bytes(2, "big") + extension
    Image.fromarray(smooth).save(tmp_path / "a.jpg", xmp=XMP, extra=segment)
    photo = read(tmp_path / "a.jpg")
    write(tmp_path / "b.jpg", photo.pixels, like=photo)
    assert extension in (tmp_path / "b.jpg").read_bytes()


def test_exif_that_fills_its_segment_gains_no_entry(tmp_path, smooth, exif):
    block = exif(1, with_thumbnail=False).ljust(65520, b"\1")
    Image.fromarray(smooth).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
    photo = read(tmp_path / "a.jpg")
    write(tmp_path / "b.jpg", photo.pixels, like=photo.inscribed("Program 1.0", ""))
    assert len(read(tmp_path / "b.jpg").exif) == len(block) and tag(tmp_path / "b.jpg", 271) == "Maker"


@pytest.mark.parametrize("left", [*range(0, 200, 3), 700])
def test_every_truncation_of_exif_gains_the_entry_or_nothing(exif, left):
    block = exif(6)[:left]
    amended = upright_exif(block, 48, 64, "Program 1.0")
    assert amended == block or b"Program 1.0\0" in amended


def test_the_program_before_is_named():
    assert software_entry("P 2", None) == software_entry("P 2", "P 1") == software_entry("P 2", " \0") == "P 2"
    assert software_entry("P 2", "Q") == software_entry("P 2", "P 1, after Q") == "P 2, after Q"
