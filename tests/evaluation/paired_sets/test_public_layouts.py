"""RealDOF, RTF, LFDOF, CUHK, SDD, RealBlur and DED on fake trees, with the traps of each."""

import re
import shutil

import pytest
from fake_sets import code_of, flat

from evaluation.paired_sets import PAIRED_SETS, find_sets

J = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
R = "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref"


def _codes(known, root, split="test"):
    """Group, name, and codes of capture and reference."""
    pairs = [(files, known.capture(files)) for files in known.pairs(root, split)]
    return [(files.group, files.name, code_of(item.y), code_of(item.x)) for files, item in pairs]


def test_realdof_pairs_by_name(tmp_path):
    for number in (1, 2, 10):
        flat(tmp_path / f"source/{number:02}.png", number)
        flat(tmp_path / f"target/{number:02}.png", 100 + number)
    assert find_sets(tmp_path) == [(PAIRED_SETS["realdof"], tmp_path)]
    expected = [("realdof", f"{n:02}", n, 100 + n) for n in (1, 2, 10)]
    assert _codes(PAIRED_SETS["realdof"], tmp_path) == expected
    (tmp_path / "target/02.png").unlink()
    with pytest.raises(ValueError, match="source/02.png has no reference in .*target$"):
        PAIRED_SETS["realdof"].pairs(tmp_path)


def test_rtf_pairs_by_number(tmp_path):
    for number in (1, 9, 10):
        flat(tmp_path / f"image/0/image_{number:02}.png", number)
        flat(tmp_path / f"GT/sharp_{number:02}.png", 100 + number)
    assert find_sets(tmp_path) == [(PAIRED_SETS["rtf"], tmp_path)]
    assert _codes(PAIRED_SETS["rtf"], tmp_path) == [("rtf", f"image_{n:02}", n, 100 + n) for n in (1, 9, 10)]
    (tmp_path / "image/0/image_09.png").unlink()
    with pytest.raises(ValueError, match="sharp_09.png is the reference of no capture"):
        PAIRED_SETS["rtf"].pairs(tmp_path)


def test_lfdof_gives_all_captures_of_a_scene_its_reference(tmp_path):
    for scene, code in (("IMG_1275", 10), ("IMG_99", 20)):
        flat(tmp_path / f"test_data/ground_truth/{scene}.png", 100 + code)
        for aperture, focus in ((1, 0), (1, 4), (3, 2)):
            flat(tmp_path / f"test_data/input/{scene}/{scene}_ap{aperture}_0{focus}.png", code + aperture)
    lfdof = PAIRED_SETS["lfdof"]
    assert find_sets(tmp_path) == [(lfdof, tmp_path)]
    assert _codes(lfdof, tmp_path) == [
        (f"ap{aperture}", f"{scene}_ap{aperture}_0{focus}", code + aperture, 100 + code)
        for scene, code in (("IMG_99", 20), ("IMG_1275", 10)) for aperture, focus in ((1, 0), (1, 4), (3, 2))
    ]  # fmt: skip
    assert {files.scene for files in lfdof.pairs(tmp_path)} == {"IMG_1275", "IMG_99"}
    (tmp_path / "test_data/ground_truth/IMG_99.png").unlink()
    with pytest.raises(ValueError, match="IMG_99_ap1_00.png has no reference"):
        lfdof.pairs(tmp_path)


def test_cuhk_takes_both_spellings_of_the_suffix_and_leaves_motion_out(tmp_path):
    cuhk = PAIRED_SETS["cuhk"]
    for name in ("out_of_focus0006.jpg", "out_of_focus0007.JPG", "motion0001.jpg"):
        flat(tmp_path / "image" / name, 50)
        flat(tmp_path / "gt" / f"{name[:-4]}.png", 255)
    assert find_sets(tmp_path) == [(cuhk, tmp_path)]
    pairs = cuhk.pairs(tmp_path)
    assert [files.name for files in pairs] == ["out_of_focus0006", "out_of_focus0007"]
    assert [files.mask.name for files in pairs] == ["out_of_focus0006.png", "out_of_focus0007.png"]
    capture = cuhk.capture(pairs[1])
    assert code_of(capture.y) == 50 and capture.x is None and capture.mask is None
    (tmp_path / "gt/out_of_focus0007.png").unlink()
    with pytest.raises(ValueError, match="out_of_focus0007.JPG has no mask in .*gt"):
        cuhk.pairs(tmp_path)


def test_cuhk_does_without_masks(tmp_path):
    flat(tmp_path / "out_of_focus0006.jpg", 50)
    assert [files.mask for files in PAIRED_SETS["cuhk"].pairs(tmp_path)] == [None]


def test_sdd_trains_on_patches_and_tests_on_whole_pictures(tmp_path):
    for folder, code in (("train_patches", 1), ("test", 2)):
        flat(tmp_path / folder / "blur/0001.png", code)
        flat(tmp_path / folder / "gt/0001.png", 100 + code)
    assert _codes(PAIRED_SETS["sdd"], tmp_path, "train") == [("sdd", "0001", 1, 101)]
    assert _codes(PAIRED_SETS["sdd"], tmp_path) == [("sdd", "0001", 2, 102)]
    assert find_sets(tmp_path) == [(PAIRED_SETS["sdd"], tmp_path)]


def _realblur(root):
    for folder, base in ((J, 0), (R, 50)):
        for scene, numbers in (("scene001", (1, 2, 10)), ("scene244_reflect", (1,))):
            for number in numbers:
                flat(root / folder / scene / f"blur/blur_{number}.png", base + number)
                flat(root / folder / scene / f"gt/gt_{number}.png", 100 + base + number)
    return root


def test_realblur_takes_its_splits_from_lists_in_either_order_of_columns(tmp_path):
    realblur = PAIRED_SETS["realblur"]
    _realblur(tmp_path)
    assert realblur.splits_at(tmp_path) == ("all",)
    lines = [f"{J}/scene001/gt/gt_2.png {J}/scene001/blur/blur_2.png third", ""]
    lines.append("scene244_reflect/blur/blur_1.png scene244_reflect/gt/gt_1.png")
    (tmp_path / "RealBlur_J_test_list.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "RealBlur_R_test_list.txt").write_text(f"{R}/scene001/gt/gt_10.png {R}/scene001/blur/blur_10.png\n")
    assert realblur.splits_at(tmp_path) == ("test", "all")
    assert _codes(realblur, tmp_path) == [
        ("RealBlur-J", "scene001/blur_2", 2, 102),
        ("RealBlur-J", "scene244_reflect/blur_1", 1, 101),
        ("RealBlur-R", "scene001/blur_10", 60, 160),
    ]


def test_realblur_without_lists_is_all_of_it(tmp_path):
    names = [name for _, name, *_ in _codes(PAIRED_SETS["realblur"], _realblur(tmp_path), "all")]
    assert names[:4] == ["scene001/blur_1", "scene001/blur_2", "scene001/blur_10", "scene244_reflect/blur_1"]
    assert len(names) == 8
    with pytest.raises(ValueError, match="expected the split test of realblur, got its split all alone"):
        PAIRED_SETS["realblur"].pairs(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{J}/scene009/gt/gt_1.png {J}/scene009/blur/blur_1.png", "scene009/blur/blur_1.png: expected a picture that"),
        (f"{J}/scene001/gt/gt_1.png", "RealBlur_J_test_list.txt, line 1: expected paths in blur/ and gt/"),
    ],
)
def test_realblur_lists_that_do_not_fit_are_refused(line, words, tmp_path):
    _realblur(tmp_path)
    shutil.rmtree(tmp_path / R)
    (tmp_path / "RealBlur_J_test_list.txt").write_text(line)
    with pytest.raises(ValueError, match=re.escape(words)):
        PAIRED_SETS["realblur"].pairs(tmp_path)


def test_the_correct_spelling_is_not_the_set(tmp_path):
    flat(tmp_path / J.replace("itensity", "intensity") / "scene001/blur/blur_1.png", 1)
    assert PAIRED_SETS["realblur"].splits_at(tmp_path) == ()


@pytest.mark.parametrize("above", ["", "RealBlur"])
def test_realblur_flattened(above, tmp_path):
    flat(tmp_path / above / "test/RealBlur_J/input/a.png", 1)
    flat(tmp_path / above / "test/RealBlur_J/target/a.png", 101)
    assert find_sets(tmp_path) == [(PAIRED_SETS["realblur"], tmp_path)]
    assert _codes(PAIRED_SETS["realblur"], tmp_path) == [("RealBlur-J", "a", 1, 101)]


def _ded(root, numbers):
    for number in numbers:
        flat(root / f"image/image_{number}.jpg", number)
        flat(root / f"sharp/flower_{number}.jpg", 100 + number)
        flat(root / f"filtered/defocus_filterd_{number}.png", number)
    return root


def test_ded_has_one_split_for_everyone(tmp_path):
    ded = PAIRED_SETS["ded"]
    _ded(tmp_path, range(1, 26))
    assert find_sets(tmp_path) == [(ded, tmp_path)]
    test, train = ded.pairs(tmp_path), ded.pairs(tmp_path, "train")
    assert [files.name for files in test] == ["image_12", "image_24"]
    assert len(train) == 23 and not {files.name for files in train} & {files.name for files in test}
    assert [files.defocus_map.name for files in test] == ["defocus_filterd_12.png", "defocus_filterd_24.png"]
    assert [codes[2:] for codes in _codes(ded, tmp_path)] == [(12, 112), (24, 124)]
    for folder in ("image", "sharp", "filtered"):
        for file in (tmp_path / folder).glob("*_5.*"):
            file.unlink()
    assert ded.pairs(tmp_path) == test, "a smaller copy must keep the split"


def test_ded_names_what_is_missing(tmp_path):
    (_ded(tmp_path, range(1, 13)) / "filtered/defocus_filterd_12.png").unlink()
    with pytest.raises(ValueError, match="image_12.jpg has no defocus map"):
        PAIRED_SETS["ded"].pairs(tmp_path)


@pytest.mark.parametrize("name", ["realdof", "sdd", "rtf", "lfdof", "ded"])
def test_empty_sets_are_refused(name, tmp_path):
    folders = {
        "realdof": ("source", "target"), "sdd": ("test/blur", "test/gt"), "rtf": ("image/0", "GT"),
        "lfdof": ("test_data/input", "test_data/ground_truth"), "ded": ("image", "sharp"),
    }  # fmt: skip
    for folder in folders[name]:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"expected captures of the split test of {name}, got none"):
        PAIRED_SETS[name].pairs(tmp_path)
