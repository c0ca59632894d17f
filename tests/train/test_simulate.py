"""The command that simulates captures: what it writes is a paired set, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from evaluation.paired_sets import PAIRED_SETS
from optics.camera import Camera
from optics.scenes import thin_lens_radius
from photos import PhotoError, read_map, write_map
from train.simulate import main

LENS = ["--focal-length", "50", "--f-number", "1.8", "--focus", "2", "--pixel-pitch", "60"]


@pytest.fixture
def photo(tmp_path):
    cells = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(cells.repeat(6, 0).repeat(6, 1)).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def depth(tmp_path):
    distances = np.full((60, 72), 2.0, np.float32)
    distances[:, 36:] = 4.0
    write_map(tmp_path / "depth.tif", distances)
    return tmp_path / "depth.tif"


def _refused(capsys, arguments, *words):
    assert main([str(argument) for argument in arguments]) == 1
    output, errors = capsys.readouterr()
    assert output == "" and len(errors.splitlines()) == 1 and errors.startswith("train/simulate.py: ")
    for word in words:
        assert str(word) in errors


def test_layers_end_at_edges_where_that_is_asked_for(photo, tmp_path):
    words = [str(photo), "--count", "6", "--largest-radius", "3"]
    assert main([*words, "-o", str(tmp_path / "plain")]) == 0
    assert main([*words, "-o", str(tmp_path / "outlined"), "--outlined"]) == 0
    folders = [tmp_path / name / "defocus_map" for name in ("plain", "outlined")]
    plain, outlined = ([read_map(file) for file in sorted(folder.iterdir())] for folder in folders)
    same = [np.array_equal(one, other) for one, other in zip(plain, outlined, strict=True)]
    # Scenes of a single layer have no borders.
    assert any(same) and not all(same)


def test_what_is_written_reads_back_as_a_paired_set(photo, tmp_path):
    out = tmp_path / "set"
    assert main([str(photo), "-o", str(out), "--count", "2", "--largest-radius", "3", "--seed", "4"]) == 0
    pairs = PAIRED_SETS["folder"].pairs(out)
    assert [files.name for files in pairs] == ["cat_0", "cat_1"]
    sharp = np.asarray(Image.open(photo)) / 255
    margin = (60 - 42) // 2
    note = json.loads((out / "simulation.json").read_text())
    for files in pairs:
        capture = PAIRED_SETS["folder"].capture(files)
        assert capture.y.shape == (1, 3, 42, 54)
        in_focus = Camera(**note["captures"][files.name]["camera"]).in_focus(sharp)[margin:-margin, margin:-margin]
        assert np.abs(capture.x[0].permute(1, 2, 0).numpy() - in_focus).max() < 0.51 / 255
        radii = read_map(files.defocus_map)
        assert radii.shape == (42, 54) and radii.min() >= 0 and radii.max() <= 3
    first, second = (PAIRED_SETS["folder"].capture(files).y for files in pairs)
    assert not first.equal(second)
    assert note["options"]["seed"] == 4 and note["captures"].keys() == {"cat_0", "cat_1"}
    assert {"softness", "blades", "coma"} <= note["captures"]["cat_0"]["aperture"].keys()
    assert {"linear", "jpeg_quality", "resize"} <= note["captures"]["cat_1"]["camera"].keys()


def test_the_same_seed_gives_the_same_captures(photo, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert main([str(photo), "-o", str(tmp_path / name), "--largest-radius", "2", "--seed", str(seed)]) == 0
    bytes_ = [(tmp_path / name / "blurred" / "cat.png").read_bytes() for name in "abc"]
    assert bytes_[0] == bytes_[1] != bytes_[2]


def test_a_depth_map_gives_the_radii_of_the_thin_lens(photo, depth, tmp_path):
    out = tmp_path / "set"
    assert main([str(photo), "-o", str(out), "--depth", str(depth), "--matched", *LENS]) == 0
    radii = read_map(out / "defocus_map" / "cat.tif")
    far = thin_lens_radius(np.array([4.0]), 2.0, 0.05, 1.8, 60e-6)[0]
    assert 2 < far < 4
    assert np.allclose(radii[:, :36], 0) and np.allclose(radii[:, 36:], far, rtol=1e-5)
    blurred, sharp = (np.asarray(Image.open(out / part / "cat.png")).astype(float) for part in ("blurred", "sharp"))
    # In focus there is noise of 0.01 alone, save where the other half's blur reaches in.
    assert np.abs(blurred - sharp)[:, :30].std() < 3 < 15 < np.abs(blurred - sharp)[:, 42:].std()


def test_distances_in_other_units_and_of_the_photo_before_it_was_shrunk(photo, depth, tmp_path):
    write_map(tmp_path / "mm.tif", read_map(depth) * 1000)
    options = ["--scale", "0.5", "--matched", *LENS]
    assert main([str(photo), "-o", str(tmp_path / "m"), "--depth", str(depth), *options]) == 0
    millimetres = ["--depth", str(tmp_path / "mm.tif"), "--depth-unit", "0.001"]
    assert main([str(photo), "-o", str(tmp_path / "mm"), *millimetres, *options]) == 0
    radii = [read_map(tmp_path / name / "defocus_map" / "cat.tif") for name in ("m", "mm")]
    assert radii[0].shape == (30, 36) and np.allclose(*radii, rtol=1e-5)


def test_skies_are_infinitely_far_and_unknown_places_as_far_as_their_neighbours(photo, depth, tmp_path):
    distances = read_map(depth)
    distances[:, 60:], distances[10:20, 5:9], distances[40:44, 50:54] = np.inf, 0, np.nan
    np.save(tmp_path / "sky.npy", distances)
    options = ["--matched", *LENS]
    assert main([str(photo), "-o", str(tmp_path / "set"), "--depth", str(tmp_path / "sky.npy"), *options]) == 0
    radii = read_map(tmp_path / "set" / "defocus_map" / "cat.tif")
    near, far, sky = np.abs(thin_lens_radius(np.array([2.0, 4.0, np.inf]), 2.0, 0.05, 1.8, 60e-6))
    assert far + 1 < sky == pytest.approx(2 * far)
    for columns, radius in ((slice(0, 36), near), (slice(36, 60), far), (slice(60, None), sky)):
        np.testing.assert_allclose(radii[:, columns], radius, rtol=1e-5, atol=1e-6)


def test_nothing_is_overwritten(photo, tmp_path, capsys):
    out = tmp_path / "set"
    (out / "sharp").mkdir(parents=True)
    (out / "sharp" / "cat.png").write_bytes(b"mine")
    _refused(capsys, [photo, "-o", out], out / "sharp" / "cat.png", "expected no such file")
    _refused(capsys, [photo, "-o", photo], photo, "expected a folder or nothing there")
    assert (out / "sharp" / "cat.png").read_bytes() == b"mine" and not (out / "blurred").exists()


def test_bad_input_is_one_line(photo, depth, tmp_path, capsys):
    out = tmp_path / "set"
    _refused(capsys, [tmp_path / "none.png", "-o", out], "none.png", "no such file")
    _refused(capsys, [photo, "-o", out, "--largest-radius", "20"], photo, "larger than")
    write_map(tmp_path / "other.tif", np.ones((9, 8)))
    _refused(capsys, [photo, "-o", out, "--depth", tmp_path / "other.tif", *LENS], "72 x 60", "8 x 9")
    # Of neither size of a photo that is shrunk, though it shrinks to the same.
    write_map(tmp_path / "nearly.tif", np.ones((60, 71)))
    shrunk = [photo, "-o", out, "--scale", "0.5", "--depth", tmp_path / "nearly.tif", *LENS]
    _refused(capsys, shrunk, "72 x 60", "36 x 30", "71 x 60")
    write_map(tmp_path / "zero.tif", np.zeros((60, 72)))
    _refused(capsys, [photo, "-o", out, "--depth", tmp_path / "zero.tif", *LENS], "zero.tif", "positive distances")
    near = [*LENS[:-4], "--focus", "0.04", *LENS[-2:]]
    _refused(capsys, [photo, "-o", out, "--depth", depth, *near], "farther than the focal length")
    _refused(capsys, [photo, "-o", out, "--depth", depth, *LENS[:-1], "0.5"], "up to 64 pixels")
    (tmp_path / "more").mkdir()
    Image.open(photo).save(tmp_path / "more" / "dog.png")
    _refused(capsys, [photo, tmp_path / "more", "-o", out, "--depth", depth, *LENS], "expected one photo, got 2")
    Image.open(photo).save(tmp_path / "more" / "cat.jpg")
    _refused(capsys, [photo, tmp_path / "more", "-o", out], "a name of its own")
    assert not out.exists()


def test_a_photo_that_cannot_be_read_stops_no_other(photo, tmp_path, capsys):
    damaged, small, out = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "set"
    damaged.write_bytes(photo.read_bytes()[:200])
    Image.new("RGB", (8, 8)).save(small)
    words = [str(damaged), str(small), str(tmp_path / "none.png"), str(photo)]
    assert main([*words, "-o", str(out), "--count", "2", "--largest-radius", "3"]) == 1
    output, errors = capsys.readouterr()
    assert output.splitlines() == [str(out / "blurred" / f"cat_{number}.png") for number in range(2)]
    named = ("none.png", "a.png", "b.png")
    assert all(name in line for name, line in zip(named, errors.splitlines(), strict=True))
    assert json.loads((out / "simulation.json").read_text())["captures"].keys() == {"cat_0", "cat_1"}
    # Its captures do not depend on the others' damage.
    assert main([str(photo), "-o", str(tmp_path / "nothing"), "--scale", "0.1"]) == 1
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--focus", "2"], ["--depth", "d.tif"], ["--depth", "d.tif", *LENS, "--largest-radius", "3"],
        ["--depth", "d.tif", *LENS, "--outlined"],
        ["--depth-unit", "2"], ["--count", "0"], ["--scale", "1.5"], ["--seed", "-1"],
    ],
)  # fmt: skip
def test_options_that_do_not_fit_together_are_usage_errors(photo, tmp_path, options):
    with pytest.raises(SystemExit) as stopped:
        main([str(photo), "-o", str(tmp_path / "set"), *options])
    assert stopped.value.code == 2


def test_what_is_whole_is_noted_when_the_disk_is_full(photo, tmp_path, monkeypatch, capsys):
    written = []

    def fill(file, radii):
        if len(written) == 2:
            raise PhotoError(f"{file}: the file cannot be written: No space left on device")
        written.append(file)
        write_map(file, radii)

    monkeypatch.setattr("photos.write_map", fill)
    out = tmp_path / "set"
    assert main([str(photo), "-o", str(out), "--count", "4", "--largest-radius", "2"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    note = json.loads((out / "simulation.json").read_text())
    assert note["captures"].keys() == {"cat_0", "cat_1"}
    assert {file.stem for file in out.rglob("*.*") if file.suffix != ".json"} == {"cat_0", "cat_1"}
