"""The shared layout: names, optional folders, and the kinds of captures that show in the files."""

import io

import numpy as np
import pytest
import torch
from fake_sets import code_of, flat, write_png
from PIL import Image

from evaluation.paired_sets import PAIRED_SETS, captures, find_sets


def _only(root):
    ((known, place),) = find_sets(root)
    assert place == root
    return known


def test_names_without_suffixes_join_and_may_contain_folders(tmp_path):
    root = tmp_path / "mine"
    flat(root / "blurred/a.JPG", 20)
    flat(root / "sharp/a.png", 120)
    flat(root / "blurred/deep/b.png", 30)
    flat(root / "sharp/deep/b.png", 130)
    flat(root / "sharp/spare.png", 1)
    assert _only(root).name == "folder"
    found = [(item.title, code_of(item.y), code_of(item.x)) for item in captures(root)]
    assert found == [("mine/a", 20, 120), ("mine/deep/b", 30, 130)]
    assert [files.name for files in PAIRED_SETS["folder"].pairs(root, "train")] == ["a", "deep/b"]


def test_mask_and_other_focus(tmp_path):
    root = tmp_path / "pairs"
    flat(root / "blurred/a.png", 20)
    flat(root / "sharp/a.png", 120)
    flat(root / "other_focus/a.jpg", 90)
    mask = np.zeros((12, 16), np.uint8)
    mask[:3], mask[3:5] = 255, 127
    write_png(root / "blur_mask/a.png", mask)
    (capture,) = captures(root)
    assert capture.mask.dtype == torch.bool and capture.mask.shape == (1, 1, 12, 16)
    assert torch.equal(capture.mask[0, 0], torch.from_numpy(mask > 127))
    assert code_of(capture.other_focus) == 90
    (root / "other_focus/a.jpg").rename(root / "other_focus/b.jpg")
    with pytest.raises(ValueError, match="blurred/a.png has no picture of the same name in .*other_focus"):
        list(captures(root))


@pytest.mark.parametrize("part", ["sharp", "blur_mask", "other_focus"])
def test_sizes_that_differ_are_refused(part, tmp_path):
    root = tmp_path / "pairs"
    for folder in ("blurred", "sharp", "blur_mask", "other_focus"):
        flat(root / folder / "a.png", 20, size=(12, 15) if folder == part else (12, 16))
    with pytest.raises(ValueError, match=f"{part}/a.png: expected the size 16 x 12 of .*blurred/a.png, got 15 x 12"):
        list(captures(root))


def test_names_must_say_which(tmp_path):
    for name in ("a.png", "a.jpg"):
        flat(tmp_path / "set/blurred" / name, 20)
    flat(tmp_path / "set/sharp/a.png", 20)
    with pytest.raises(ValueError, match="a.png and .*a.jpg stand for the same picture"):
        list(captures(tmp_path / "set"))


def test_a_missing_reference_is_named(tmp_path):
    for name in ("a", "b", "c"):
        flat(tmp_path / f"set/blurred/{name}.png", 20)
    flat(tmp_path / "set/sharp/a.png", 20)
    with pytest.raises(ValueError, match=r"blurred/b.png has no reference in .*sharp \(1 more such problems\)"):
        list(captures(tmp_path / "set"))


def test_without_sharp_there_is_no_reference(tmp_path):
    root = tmp_path / "set_noref"
    flat(root / "blurred/a.png", 20)
    write_png(root / "mask/a.png", np.full((12, 16), 255, np.uint8))
    assert _only(root).name == "folder"
    with pytest.raises(ValueError, match="expected captures with references of the split test, got none"):
        captures(root)
    (capture,) = captures(root, references_only=False)
    assert capture.x is None and capture.mask.all()


def test_png_pairs_are_aligned_as_they_are_stored(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    root = tmp_path / "set"
    write_png(root / "sharp/a.png", picture)
    (root / "blurred").mkdir()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(picture).save(root / "blurred/a.png", exif=exif)
        (capture,) = captures(root)
        assert torch.equal(capture.y, capture.x), orientation


def test_jpeg_is_turned_upright(tmp_path):
    root = tmp_path / "set"
    exif = Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.full((12, 16, 3), 20, np.uint8)).save(buffer, "JPEG", exif=exif)
    (root / "blurred").mkdir(parents=True)
    (root / "blurred/a.jpg").write_bytes(buffer.getvalue())
    flat(root / "sharp/a.png", 20, size=(16, 12))
    (capture,) = captures(root)
    assert capture.y.shape == (1, 3, 16, 12)


def _linear_grey(root, blurred, sharp):
    write_png(root / "blurred/001.png", blurred)
    write_png(root / "sharp/001.png", sharp)


@pytest.mark.parametrize(("name", "beside"), [("pixel4_dp", None), ("x", "defocus_map"), ("other", "calibration")])
def test_linear_grey_is_halved_and_encoded(name, beside, tmp_path):
    root = tmp_path / name
    draw = np.random.default_rng(0)
    blurred, sharp = (draw.integers(0, 30000, (90, 101), np.uint16) for _ in range(2))
    _linear_grey(root, blurred, sharp)
    if beside == "defocus_map":
        write_png(root / "defocus_map/001.png", np.zeros((90, 101), np.uint8))
    elif beside:
        (root / beside).mkdir()
    assert _only(root).name == "pixel4_dp"
    (capture,) = captures(root)

    def half(codes):
        codes = codes[:, :100].astype(float)
        return (codes[::2, ::2] + codes[1::2, ::2] + codes[::2, 1::2] + codes[1::2, 1::2]) / 4

    white = np.percentile(half(sharp), 99.8)
    for picture, codes in ((capture.y, blurred), (capture.x, sharp)):
        expected = np.clip(half(codes) / white, 0, 1) ** (1 / 2.2)
        assert picture.shape == (1, 3, 45, 50) and picture.dtype == torch.float32
        np.testing.assert_allclose(picture[0].numpy(), np.broadcast_to(expected, (3, 45, 50)), atol=1e-6)
    assert (capture.set_name, capture.border, capture.bits) == (name, 20, 16)


def test_linear_grey_needs_both_signs(tmp_path):
    _linear_grey(tmp_path / "plain", *np.full((2, 8, 8), 1000, np.uint16))
    assert _only(tmp_path / "plain").name == "folder"
    flat(tmp_path / "colour/blurred/a.png", 20)
    flat(tmp_path / "colour/sharp/a.png", 20)
    flat(tmp_path / "colour/defocus_map/a.png", 20)
    assert _only(tmp_path / "colour").name == "folder"


def test_linear_grey_refuses_other_pictures(tmp_path):
    root = tmp_path / "pixel4_dp"
    _linear_grey(root, np.full((8, 8), 9, np.uint16), np.full((8, 8), 9, np.uint8))
    with pytest.raises(ValueError, match="sharp/001.png: expected a 16-bit grey picture, got 8 bits of L"):
        list(captures(root))
    _linear_grey(root, *np.zeros((2, 8, 8), np.uint16))
    with pytest.raises(ValueError, match="got a black one"):
        list(captures(root))


@pytest.mark.parametrize("name", ["phone_stack", "series"])
def test_stacks_share_a_reference_and_are_for_looking(name, tmp_path):
    root = tmp_path / name
    for frame in (1, 13):
        flat(root / f"blurred/balls_{frame}.jpg", frame)
    flat(root / "sharp/balls.png", 100)
    known = _only(root)
    assert known.name == "phone_stack" and known.for_looking
    pairs = known.pairs(root)
    assert [(files.name, files.scene, files.reference.name) for files in pairs] == [
        ("balls_1", "balls", "balls.png"), ("balls_13", "balls", "balls.png"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="with references"):
        captures(root)
    assert [code_of(item.x) for item in captures(root, references_only=False)] == [100, 100]
