"""What the script does where there is nothing to do, and where the blur is none of a lens."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_line import pixels
from PIL import Image
from scipy.ndimage import uniform_filter1d

from optics.defocus_map import EdgeEstimator, MotionDetector
from optics.defocus_map.posterior import leave_sharp_alone
from photos import read, read_map
from samplers.deblur import main
from samplers.restoring import TVMethod


@pytest.fixture
def moved(tmp_path):
    """Coloured squares, moved by 13 px to the right; its file."""
    rng = np.random.default_rng(4)
    squares = np.kron(rng.random((12, 12, 3)), np.ones((16, 16, 1)))
    blurred = uniform_filter1d(squares, 13, axis=1, mode="wrap") + 0.008 * rng.standard_normal(squares.shape)
    Image.fromarray(np.rint(255 * blurred.clip(0, 1)).astype(np.uint8)).save(tmp_path / "moved.png")
    return tmp_path / "moved.png"


def _run(capfd, *arguments):
    # The evidence leaves most motion alone by itself; edges do not tell it from defocus.
    code = main([*map(str, arguments), "--device", "cpu", "--method", "tv-bank", "--no-report"])
    return code, capfd.readouterr().err.splitlines()


def test_motion_is_told_in_one_line_and_its_radii_are_halved(moved, out, capfd):
    code, errors = _run(capfd, moved, "-o", out)
    assert code == 0
    (warning,) = [line for line in errors if "warning" in line]
    assert warning.startswith(f"deblur.py: warning: {moved}: expected blur of a lens out of focus, got what looks like")
    assert "what looks like motion at 0 degrees;" in warning
    image = torch.from_numpy(read(moved).pixels).permute(2, 0, 1)[None]
    assert MotionDetector()(image).found
    radius, confidence = EdgeEstimator()(image)
    assert radius.max() > 2 and confidence.max() > 0.5
    written = read_map(out / "moved.png_defocus.tif")
    np.testing.assert_allclose(written, leave_sharp_alone(radius / 2)[0, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(
        read_map(out / "moved.png_confidence.tif"), confidence[0, 0].numpy() / 2, atol=1e-5
    )
    # A map that is given, this one for instance, is used as it is.
    first = pixels(out / "moved.png")
    given = ("--defocus-map", out / "moved.png_defocus.tif", "--overwrite")
    code, errors = _run(capfd, moved, "-o", out, *given)
    assert code == 0 and not [line for line in errors if "warning" in line]
    assert pixels(out / "moved.png") == first


def test_what_looks_like_motion_is_written_down(moved, out, tmp_path, capfd):
    with Image.open(moved) as image:
        image.crop((0, 0, 60, 60)).save(tmp_path / "small.png")
    assert main([str(moved), str(tmp_path / "small.png"), "-o", str(out), "--device", "cpu", "--method", "tv"]) == 0
    rows = json.loads((out / "summary.json").read_text())["photos"]
    assert {row["photo"]: row["facts"]["looks_like_motion"] for row in rows} == {
        str(moved): True, str(tmp_path / "small.png"): False,
    }  # fmt: skip
    told = ["motion, not defocus" in (out / f"{name}.png_report.html").read_text() for name in ("moved", "small")]
    assert told == [True, False]


def test_figures_of_a_stack_are_those_of_its_pages(moved, out, tmp_path):
    with Image.open(moved) as image:
        flat = Image.new("RGB", image.size, (90, 120, 150))
        image.save(tmp_path / "stack.tif", save_all=True, append_images=[flat])
    options = ["-o", str(out), "--device", "cpu", "--method", "tv-bank", "--no-report"]
    assert main([str(tmp_path / "stack.tif"), str(moved), *options]) == 0
    rows = json.loads((out / "summary.json").read_text())["photos"]
    stack, page = (rows[number]["facts"] for number in (0, 1))
    assert stack["pages"] == 2 and stack["looks_like_motion"] is page["looks_like_motion"] is True
    assert stack["largest_radius"] == page["largest_radius"] > 1
    assert stack["mean_radius"] == pytest.approx(page["mean_radius"] / 2)


def test_the_radii_of_other_colours_stand_in_the_report(moved, out, monkeypatch):
    call = TVMethod.__call__

    def coloured(self, *arguments):
        restored = call(self, *arguments)
        return replace(restored, lens=replace(restored.lens, channel_scales=(0.972, 1.0, 1.0341)))

    for method, name in ((coloured, "scaled"), (call, "plain")):
        monkeypatch.setattr(TVMethod, "__call__", method)
        assert main([str(moved), "-o", str(out / name), "--device", "cpu", "--method", "tv"]) == 0
    told = "radius in red, green, blue"
    scaled, plain = ((out / name / "moved.png_report.html").read_text() for name in ("scaled", "plain"))
    assert told in scaled and "0.972, 1, 1.03" in scaled and told not in plain


@pytest.mark.parametrize("method", ["score", "swin-diff", "tv"])
@pytest.mark.parametrize("kind", ["flat", "black", "noise", "8x8"])
def test_where_there_is_nothing_to_see_nothing_is_done(deblur, out, tmp_path, saved_prior, kind, method):
    rng = np.random.default_rng(0)
    picture = {
        "flat": np.full((80, 96, 3), 140), "black": np.zeros((80, 96, 3)),
        "noise": 128 + 12 * rng.standard_normal((80, 96, 3)), "8x8": rng.integers(0, 256, (8, 8, 3)),
    }[kind].clip(0, 255).astype(np.uint8)  # fmt: skip
    Image.fromarray(picture).save(tmp_path / "plain.png")
    weights = {"weights": saved_prior, "settings": ()} if method == "swin-diff" else {}
    code, _, errors = deblur(tmp_path / "plain.png", "--method", method, **weights)
    assert (code, errors) == (0, [])
    np.testing.assert_array_equal(np.array(Image.open(out / "plain.png")), picture)
    assert not read_map(out / "plain.png_defocus.tif").any()
