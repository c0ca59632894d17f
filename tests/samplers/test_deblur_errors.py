import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import fails, files, outputs
from PIL import Image


def test_two_photos_for_one_result_are_refused(deblur, photo, tmp_path, out):
    (tmp_path / "other").mkdir()
    shutil.copy(photo, tmp_path / "other")
    fails(deblur(photo, tmp_path / "other" / "cat.png"), 2, photo, "other/cat.png")
    assert files(out) == []
    assert deblur(photo, photo)[0] == 0


def test_a_photo_is_never_overwritten(deblur, photo, out):
    out.mkdir()
    source = Path(shutil.copy(photo, out))
    before = source.read_bytes()
    fails(deblur(source, "--overwrite"), 2, source, "is a photo")
    assert source.read_bytes() == before and files(out) == ["cat.png"]


@pytest.mark.parametrize(
    "options",
    [
        ("--weights", "w"), ("--preset", "best"), ("--tile", "64"), ("--map-estimator", "edges"), ("--light", "linear"),
        ("--seed", "5"), ("steps=4",),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["tv", "tv-bank"])
def test_what_tv_would_ignore_is_refused(deblur, photo, out, method, options):
    fails(deblur(photo, "--method", method, *options), 2, options[0], "--method score", f"--method {method}")
    assert files(out) == []


@pytest.mark.parametrize(
    "options",
    [("--preset", "best"), ("--samples", "4"), ("--psf", "gaussian"), ("--light", "linear"), ("steps=4",)],
)
def test_what_swin_diff_would_ignore_is_refused(deblur, photo, out, saved_prior, options):
    result = deblur(photo, "--method", "swin-diff", *options, weights=saved_prior, settings=())
    fails(result, 2, options[0], "--method score", "--method swin-diff")
    assert files(out) == []


def test_a_latent_prior_that_is_asked_for_must_be_there(deblur, photo, saved_pipeline):
    fails(deblur(photo, "--latent-prior", "on"), 2, "--latent-prior on", saved_pipeline, "without")
    fails(deblur(photo, "condition=on"), 2, "condition=on", saved_pipeline, "without")
    assert deblur(photo, "--latent-prior", "off")[0] == 0
    fails(deblur(photo, "--method", "swin-diff", "--latent-prior", "on", settings=()), 2, "--method score")


def test_swin_diff_needs_weights_with_a_latent_prior(deblur, photo, out, saved_pipeline):
    result = deblur(photo, "--method", "swin-diff", weights=saved_pipeline, settings=())
    fails(result, 2, saved_pipeline, "expected a folder latent_prior with a latent prior, got none")


def bad_photos(folder, codes):
    Image.fromarray(codes).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("Dear reader,\nthis is no photo.\n")
    (folder / "empty.png").write_bytes(b"")
    return [folder / name for name in ("truncated.jpg", "text.jpg", "empty.png", "missing.png")]


def test_bad_photos_alone(deblur, codes, tmp_path, out):
    for bad in bad_photos(tmp_path, codes):
        fails(deblur(bad), 3, bad, "expected")
    (tmp_path / "nothing").mkdir()
    fails(deblur(tmp_path / "nothing"), 3, tmp_path / "nothing", "expected photos")
    assert not out.exists()


def test_bad_photos_in_a_batch_stop_no_other(deblur, codes, photo, tmp_path, out):
    (tmp_path / "nothing").mkdir()
    bad = [*bad_photos(tmp_path, codes), tmp_path / "nothing"]
    code, output, errors = deblur(*bad, photo)
    assert code == 6
    assert output == [str(out / name) for name in outputs("cat.png")]
    assert files(out) == sorted([*outputs("cat.png"), "summary.json", "contact_sheet.html"])
    assert len(errors) == len(bad)
    for path in bad:
        assert sum(line.startswith(f"deblur.py: {path}: expected") for line in errors) == 1


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read and write anything")
def test_what_may_not_be_read_or_written(deblur, photo, tmp_path, out):
    out.mkdir(mode=0o500)
    fails(deblur(photo), 3, photo, "to write")
    photo.chmod(0)
    fails(deblur(photo), 3, photo)


def test_an_existing_result_is_kept_unless_told(deblur, photo, tmp_path, out):
    out.mkdir()
    (out / "cat.png_report.html").write_text("mine")
    fails(deblur(photo), 3, photo, "cat.png_report.html", "--overwrite")
    assert files(out) == ["cat.png_report.html"] and (out / "cat.png_report.html").read_text() == "mine"
    shutil.copy(photo, tmp_path / "dog.png")
    code, output, errors = deblur(photo, tmp_path / "dog.png")
    assert (code, len(output), len(errors)) == (6, 5, 1)
    assert deblur(photo, "--overwrite")[0] == 0
    assert (out / "cat.png_report.html").read_text("utf-8") != "mine"


def test_a_file_in_place_of_the_folder(deblur, photo, out):
    out.write_text("mine")
    fails(deblur(photo), 3, photo, out)
    assert out.read_text() == "mine"


def test_bad_maps(deblur, photo, tmp_path, out):
    path = tmp_path / "map.npy"
    for values, word in [
        (np.full((40, 56), np.nan), "NaN"),
        (np.full((40, 56), -1.0), "at least 0"),
        (np.full((40, 56), 1e4), "up to 100"),
        (np.full((56, 40), 1.0), "56 x 40"),
        (np.ones((40, 56, 3)), "grey map"),
    ]:
        np.save(path, values)
        fails(deblur(photo, "--defocus-map", path), 2, path, "expected", word)
    fails(deblur(photo, "--defocus-map", tmp_path / "none.tif"), 2, "none.tif", "no such file")
    shutil.copy(photo, tmp_path / "dog.png")
    fails(deblur(photo, tmp_path / "dog.png", "--defocus-map", path), 2, "--defocus-map", "one photo, got 2")
    assert not out.exists()


def test_bad_weights(deblur, saved_pipeline, photo, tmp_path, out):
    fails(deblur(photo, weights=tmp_path / "none"), 2, tmp_path / "none", "no such folder")
    fails(deblur(photo, weights=tmp_path), 2, tmp_path, "model_index.json")
    other = shutil.copytree(saved_pipeline, tmp_path / "other")
    config = other / "score_network" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"channels": [8, 16]}))
    fails(deblur(photo, weights=other), 2, other, "another architecture")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stps=4",), ("'stps'", "'steps'")),
        (("steps=some",), ("steps",)),
        (("steps=1",), ("steps", "at least 2")),
        (("--tile", "8"), ("tile", "at least 32")),
        (("--noise-std", "0"), ("--noise-std",)),
        (("--noise-std", "nan"), ("--noise-std",)),
        (("--seed", "-1"), ("--seed",)),
        (("--preset", "bst"), ("--preset", "best")),
        (("--psf", "square"), ("--psf", "disk")),
        (("--device", "toaster"), ("--device", "toaster")),
        (("graph_capture=true", "--device", "cpu"), ("graph_capture must be False on the device cpu", "got True")),
        (("runs=2", "--samples", "2"), ("runs must be left to the preset unless output is mean, got 2",)),
        (("latent_prior_share=0.3", "--latent-prior", "off"), ("latent_prior is on or auto, got 0.3",)),
        (("model_error=0.3", "guidance=none"), ("model_error", "guidance none", "got 0.3")),
        (("tile=64", "--tile", "128"), ("--tile: expected it or tile= alone, got both, tile=64",)),
        (("latent_prior=on", "--latent-prior", "off"), ("--latent-prior", "got both, latent_prior=on")),
        (("solver=???",), ("'solver'", "expected a value, got ???")),
        (("--device", "xla"), ("--device xla", "got an error: ")),
        (("--step", "4"), ("--step",)),
    ],
)
def test_bad_options(deblur, photo, out, arguments, words):
    fails(deblur(photo, *arguments), 2, *words)
    assert not out.exists()


def test_what_presets_set_hinders_no_choice(deblur, photo):
    for choices in (("--samples", "2"), ("--latent-prior", "off"), ("latent_prior_variance=9",)):
        assert deblur(photo, "--preset", "best", *choices, "--dry-run")[0] == 0, choices


def test_settings_without_photos(deblur):
    fails(deblur("rho=6"), 2, "at least one photo")


def test_a_photo_whose_name_holds_an_equals_sign(deblur, photo, tmp_path, out, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.rename(tmp_path / "steps=9.png")
    assert deblur("steps=9.png")[0] == 0
    assert files(out) == sorted(outputs("steps=9.png"))
    fails(deblur("steps=8.png"), 3, "steps=8.png", "no such file")


@pytest.fixture
def limited_memory(monkeypatch):
    """Makes the network fail as PyTorch does where memory is short, on windows above a number of pixels."""
    from diffusion import ScoreNetwork

    forward = ScoreNetwork.forward

    def limit(largest, seen):
        def limited(self, x, sigma, modulations=None, asked=None):
            seen.append(x.shape[-2] * x.shape[-1])
            if seen[-1] > largest:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(self, x, sigma, modulations, asked)

        monkeypatch.setattr(ScoreNetwork, "forward", limited)

    return limit


def test_tiles_shrink_where_memory_is_short(deblur, tmp_path, codes, out, limited_memory):
    Image.fromarray(np.tile(codes, (4, 4, 1))).save(tmp_path / "large.png")
    assert deblur(tmp_path / "large.png")[0] == 0
    whole = np.array(Image.open(out / "large.png"), np.int16)
    seen = []
    limited_memory(20_000, seen)
    assert deblur(tmp_path / "large.png", "--overwrite")[0] == 0
    assert max(seen) > 20_000 > min(seen)
    assert np.abs(np.array(Image.open(out / "large.png"), np.int16) - whole).max() <= 1


def test_too_little_memory_even_for_the_smallest_tiles(deblur, photo, out, limited_memory):
    limited_memory(10, [])
    fails(deblur(photo), 4, photo, "memory")
    assert not out.exists()


def test_a_result_that_is_not_finite(deblur, photo, out, monkeypatch):
    from diffusion import ScoreNetwork

    monkeypatch.setattr(ScoreNetwork, "forward", lambda self, x, sigma, asked: x * float("nan"))
    fails(deblur(photo), 5, photo, "finite")
    assert not out.exists()


def test_an_interrupt_leaves_nothing_behind(deblur, photo, out, monkeypatch):
    import samplers.one_photo

    def interrupted(*arguments):
        raise KeyboardInterrupt

    # While results are written, which is the last moment.
    monkeypatch.setattr(samplers.one_photo, "write_report", interrupted)
    fails(deblur(photo), 130, "interrupted")
    assert files(out) == []


def test_results_appear_together_or_not_at_all(deblur, photo, out, monkeypatch):
    import samplers.one_photo
    from photos import PhotoError

    assert deblur(photo, "--seed", 1)[0] == 0
    before = {name: (out / name).read_bytes() for name in files(out)}

    def full(path, *arguments):
        raise PhotoError(f"{path}: the file cannot be written: No space left on device")

    monkeypatch.setattr(samplers.one_photo, "write_report", full)
    fails(deblur(photo, "--seed", 2, "--overwrite"), 3, out / "cat.png_report.html", "No space left")
    assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_files_of_psfs_that_cannot_be_used_are_refused(deblur, photo, tmp_path, out):
    file, archive, promising = (tmp_path / name for name in ("psf.npy", "archive.npy", "promising.npy"))
    np.save(file, np.ones((6, 5, 5)))
    with archive.open("wb") as content:
        np.savez(content, np.ones((5, 5)))
    (tmp_path / "damaged.npy").write_bytes(archive.read_bytes()[:40])
    np.lib.format.write_array_header_1_0(
        promising.open("wb"), {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)}
    )
    expected = "expected a NumPy file of PSFs, an array of numbers"
    for options, words in (
        (("--psf", tmp_path / "none.npy"), ("none.npy", expected)),
        (("--psf", archive), (archive, expected, "got an archive")),
        (("--psf", tmp_path / "damaged.npy"), ("damaged.npy", expected)),
        (("--psf", promising), (promising, expected)),
        (("--psf", file), (file, "its 6 PSFs, got no grid")),
        (("--psf", file, "--psf-grid", "2x2"), (file, "got a grid of 2 x 2")),
        (("--psf", file, "--psf-grid", "two"), ("--psf-grid", "6x8")),
        (("--psf-grid", "2x3"), ("--psf-grid", "only with a file")),
        (("--psf", file, "--method", "tv-bank"), ("--psf", "--method tv-bank")),
    ):
        fails(deblur(photo, *options), 2, *words)
    assert not out.exists()
