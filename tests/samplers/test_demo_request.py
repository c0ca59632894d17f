import shlex
import shutil
import sys

import numpy as np
import pytest
import tifffile
from command_line import files
from PIL import Image

from photos import read, read_mask
from photos.raw import ADOBE_RGB
from samplers.deblur import main as deblur_main
from samplers.demo import main
from samplers.demo_request import LONGEST_SIDE, Cancelled, DemoRequest, RequestError, fulfil, preview

PAINT = np.repeat(np.float32([[0, 0.5, 1]]), [20, 10, 26], axis=1).repeat(40, axis=0)


@pytest.fixture
def deep(codes, tmp_path):
    """A photo of 16 bits with metadata and a profile whose curve is not that of sRGB, in a folder of its own."""
    (tmp_path / "uploaded").mkdir()
    file = tmp_path / "uploaded" / "deep.tif"
    values = codes.astype(np.uint16) * 257 + 3
    maker = (271, "s", 0, "Lens & Co", True)
    tifffile.imwrite(file, values, photometric="rgb", iccprofile=ADOBE_RGB, extratags=[maker])
    return file


@pytest.fixture
def ask(deep, tmp_path, saved_pipeline):
    """Fulfils a request and gives its result with what the watch was told."""

    def run(watch=lambda *_: None, weights=saved_pipeline, photo=deep, **wishes):
        told, folder = [], tmp_path / "results"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

        def seen(done, total):
            told.append((done, total))
            watch(done, total)

        request = DemoRequest(photo, preset="fast", **wishes)
        return fulfil(request, folder, seen, weights=str(weights), device="cpu"), told

    return run


@pytest.mark.parametrize("wishes", [{}, {"painted": PAINT, "strength": 0.7}, {"max_radius": 2.25}])
def test_the_command_that_is_shown_makes_the_same_files(ask, deep, out, saved_pipeline, monkeypatch, wishes):
    result, _ = ask(**wishes)
    names = {"deep.tif": str(deep), "DIR": str(out), saved_pipeline.name: str(saved_pipeline)}
    words = [names.get(word, word) for word in shlex.split(result.command)]
    assert words[:2] == ["python", "samplers/deblur.py"]
    monkeypatch.chdir(result.job.result.parent)  # The mask lies beside the results.
    assert deblur_main([*words[2:], "--device", "cpu", "--quiet"]) == 0
    assert sorted(file.name for file in result.job.outputs) == files(out)
    for file in result.job.outputs:
        assert file.read_bytes() == (out / file.name).read_bytes(), file.name


def test_the_photo_keeps_bits_metadata_and_what_was_not_painted(ask, deep):
    # Half the size of the photo, as a preview may be.
    paint = np.zeros((20, 28), np.float32)
    paint[:, 14:] = 1
    result, _ = ask(painted=paint)
    before, after = tifffile.imread(deep), tifffile.imread(result.job.result)
    assert after.dtype == np.uint16 and len(np.unique(after % 257)) > 10
    with tifffile.TiffFile(result.job.result) as file:
        assert file.pages[0].tags[271].value == "Lens & Co"
    mask = read_mask(result.mask)
    assert (mask[:, 30:] == 1).all() and (mask[:, :26] == 0).all()
    assert np.array_equal(after[:, :26], before[:, :26])
    assert not np.array_equal(after[:, 30:], before[:, 30:])


def test_no_paint_restores_all_of_it(ask):
    result, _ = ask(painted=np.zeros((20, 28), np.float32))
    assert result.mask is None and "--mask" not in result.command
    unpainted = read(result.job.result).pixels
    result, _ = ask(painted=np.ones((20, 28), np.float32))
    assert result.mask is not None and np.array_equal(read(result.job.result).pixels, unpainted)


def test_every_evaluation_is_told_and_each_may_be_the_last(ask, tmp_path):
    result, told = ask()
    total = result.facts["evaluations"]
    assert told == [(0, None), *((done, total) for done in range(1, total + 1))]

    for last in (told[0], told[3], told[-1]):

        def stop(*now, last=last):
            if now == last:
                raise Cancelled

        for painted in ({}, {"painted": np.ones((40, 56), bool)}):
            with pytest.raises(Cancelled):
                ask(stop, **painted)
            assert files(tmp_path / "results") == []


def test_a_preview_has_the_colours_and_the_proportions_of_the_photo(deep, codes, tmp_path):
    picture, size = preview(deep)
    assert size == picture.size == (56, 40)
    assert np.array_equal(np.asarray(picture), codes)
    assert picture.info["icc_profile"] == read(deep).icc
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (2 * LONGEST_SIDE, 777)).save(tmp_path / "turned.jpg", exif=exif)
    picture, size = preview(tmp_path / "turned.jpg")
    assert size == (777, 2 * LONGEST_SIDE) and max(picture.size) == LONGEST_SIDE
    # Paint on all of a preview is a mask of all of the photo, though its sides are rounded.
    paint = np.ones(picture.size[::-1], np.float32)
    mask = DemoRequest(tmp_path / "turned.jpg", paint).mask()
    assert mask.shape == size[::-1] and mask.min() == 255


def test_errors_are_sentences_without_the_folders_of_this_computer(ask, deep, tmp_path):
    (tmp_path / "uploaded" / "text.jpg").write_text("Dear reader,\nthis is no photo.\n")
    cases = [
        (dict(photo=tmp_path / "uploaded" / "text.jpg"), "text.jpg: expected a JPEG"),
        (dict(photo=tmp_path / "uploaded" / "none.jpg"), "none.jpg: expected a photo, got no such file"),
        (dict(painted=np.ones((20, 20), np.float32)), "paint: expected the proportions of the photo, 56 x 40"),
        (dict(strength=float("nan")), "strength: expected a share from 0 to 1, got nan"),
        (dict(max_radius=-1.0), "largest radius: expected a radius in pixels above 0, got -1"),
        (dict(weights="no/such/weights"), "no/such/weights"),
    ]
    for wishes, words in cases:
        with pytest.raises(RequestError) as caught:
            ask(**wishes)
        text = str(caught.value)
        assert words in text and "\n" not in text and str(tmp_path) not in text
        assert files(tmp_path / "results") == []
    with pytest.raises(RequestError, match="preset: expected fast, balanced, best, got slow"):
        DemoRequest(deep, preset="slow")


def test_without_gradio_the_script_says_what_to_install(monkeypatch, capsys):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # For the script sets them.
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main([]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and len(errors.splitlines()) == 1
    assert errors.startswith("demo.py: expected the package gradio") and "pip install -e '.[demo]'" in errors
