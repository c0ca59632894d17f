import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import samplers.deblur
from optics import PSF_SOFTNESS
from photos import read, read_map, write_map
from samplers.deblur import main
from samplers.settings import PRESETS

SCRIPT = Path(samplers.deblur.__file__)
QUICK = ("steps=3", "corrector=false", "cg_iterations=2")


@pytest.fixture
def codes():
    """A photo-like picture, uint8, shape (40, 56, 3)."""
    row, column = np.mgrid[0:40, 0:56]
    picture = np.stack([row / 40, column / 56, (row + column) % 7 / 7], axis=2)
    return np.rint(255 * (0.1 + 0.8 * picture)).astype(np.uint8)


@pytest.fixture
def photo(codes, tmp_path):
    Image.fromarray(codes).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def deblur(saved_pipeline, out, capfd):
    """Runs the script and gives its exit code, lines of output and lines of errors."""

    def run(*arguments, weights=saved_pipeline, settings=QUICK):
        method = () if "tv" in arguments else ("--weights", str(weights), *settings)
        try:
            code = main(["-o", str(out), "--device", "cpu", "--quiet", *method, *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        output, errors = capfd.readouterr()
        return code, output.splitlines(), errors.splitlines()

    return run


def files(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) if folder.exists() else []


def outputs(name):
    return [name, f"{name}_defocus.tif", f"{name}_report.html"]


def fails(result, code, *words):
    """One line, of the right form, and nothing printed as written."""
    got, output, errors = result
    assert got == code
    assert output == []
    assert len(errors) == 1, errors
    assert errors[0].startswith("deblur.py: ")
    for word in words:
        assert str(word) in errors[0], errors[0]


def test_choices_are_those_of_the_packages():
    assert samplers.deblur.PRESETS == PRESETS
    assert set(samplers.deblur.PSFS) == set(PSF_SOFTNESS)


def test_a_photo_gives_a_photo_a_map_and_a_report(deblur, photo, out):
    code, output, errors = deblur(photo)
    assert (code, errors) == (0, [])
    assert output == [str(out / name) for name in outputs("cat.png")]
    assert files(out) == sorted(outputs("cat.png"))
    before, after = read(photo), read(out / "cat.png")
    assert after.pixels.shape == before.pixels.shape
    assert not np.array_equal(after.pixels, before.pixels)
    radii = read_map(out / "cat.png_defocus.tif")
    assert radii.shape == (40, 56) and radii.dtype == np.float32
    assert "cat.png" in (out / "cat.png_report.html").read_text("utf-8")


def test_sixteen_bits_stay_sixteen(deblur, codes, tmp_path, out):
    tifffile.imwrite(tmp_path / "deep.tif", codes.astype(np.uint16) * 257 + 3)
    assert deblur(tmp_path / "deep.tif")[0] == 0
    after = tifffile.imread(out / "deep.tif")
    assert after.dtype == np.uint16 and after.shape == codes.shape
    assert len(np.unique(after % 257)) > 10


def test_grey_stays_grey(deblur, codes, tmp_path, out):
    Image.fromarray(codes[..., 1]).save(tmp_path / "grey.png")
    assert deblur(tmp_path / "grey.png")[0] == 0
    assert Image.open(out / "grey.png").mode == "L"


def test_alpha_is_kept(deblur, codes, tmp_path, out):
    alpha = codes[..., :1] // 2
    Image.fromarray(np.concatenate([codes, alpha], axis=2)).save(tmp_path / "clear.png")
    assert deblur(tmp_path / "clear.png")[0] == 0
    assert np.array_equal(np.array(Image.open(out / "clear.png"))[..., 3:], alpha)


def test_orientation_is_applied_once_and_metadata_kept(deblur, codes, tmp_path, out):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Lens & Co"
    profile = b"\0" * 36 + b"acsp" + b"\0" * 88
    Image.fromarray(codes).save(tmp_path / "turned.jpg", exif=exif, icc_profile=profile, quality=95)
    assert deblur(tmp_path / "turned.jpg")[0] == 0
    after = Image.open(out / "turned.jpg")
    assert after.format == "JPEG" and after.size == (40, 56)
    assert after.getexif().get(0x0112, 1) == 1 and after.getexif()[0x010F] == "Lens & Co"
    assert after.info["icc_profile"] == profile
    assert read_map(out / "turned.jpg_defocus.tif").shape == (56, 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (37, 1), (2, 3), (41, 23)])
@pytest.mark.parametrize("method", ["score", "tv"])
def test_any_size(deblur, codes, tmp_path, out, size, method):
    Image.fromarray(codes).resize(size).save(tmp_path / "odd.png")
    code, _, errors = deblur(tmp_path / "odd.png", "--method", method)
    assert (code, errors) == (0, [])
    assert Image.open(out / "odd.png").size == size


def test_a_folder_keeps_its_tree(deblur, photo, tmp_path, out):
    tree = tmp_path / "tree"
    (tree / "far" / "away").mkdir(parents=True)
    shutil.copy(photo, tree / "one.png")
    shutil.copy(photo, tree / "far" / "away" / "two.png")
    (tree / "far" / "notes.txt").write_text("no photo")
    assert deblur(tree, "--no-report")[0] == 0
    assert [name for name in files(out) if name.endswith(".png")] == ["far/away/two.png", "one.png"]
    assert not [name for name in files(out) if name.endswith(".html")]


def test_results_inside_a_given_folder_are_no_input(deblur, photo, tmp_path, out):
    assert deblur(tmp_path)[0] == 0
    before = files(out)
    assert deblur(tmp_path, "--overwrite")[0] == 0
    assert files(out) == before == sorted(outputs("cat.png"))


def test_names_that_differ_in_the_suffix_alone_stay_apart(deblur, photo, codes, tmp_path, out):
    Image.fromarray(codes).save(tmp_path / "cat.jpg")
    assert deblur(photo, tmp_path / "cat.jpg")[0] == 0
    assert files(out) == sorted([*outputs("cat.png"), *outputs("cat.jpg")])


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


def test_the_seed_decides_and_neither_company_nor_tiles_matter(deblur, photo, tmp_path, out):
    def result(*arguments):
        assert deblur(*arguments, "--overwrite")[0] == 0
        return (out / "cat.png").read_bytes()

    first = result(photo, "--seed", 3)
    assert result(photo, "--seed", 3) == first
    assert result(photo, "--seed", 4) != first
    shutil.copy(photo, tmp_path / "a.png")
    assert result(tmp_path / "a.png", photo, "--seed", 3) == first
    whole = np.array(Image.open(out / "cat.png"), np.int16)
    result(photo, "--seed", 3, "--tile", 32)
    assert np.abs(np.array(Image.open(out / "cat.png"), np.int16) - whole).max() <= 1


def test_a_map_can_be_edited_and_fed_back(deblur, photo, tmp_path, out):
    assert deblur(photo)[0] == 0
    first = (out / "cat.png").read_bytes()
    same = out / "cat.png_defocus.tif"
    assert deblur(photo, "--defocus-map", same, "--overwrite")[0] == 0
    assert (out / "cat.png").read_bytes() == first
    edited = np.full((40, 56), 2.5, np.float32)
    write_map(tmp_path / "edited.tif", edited)
    assert deblur(photo, "--defocus-map", tmp_path / "edited.tif", "--overwrite")[0] == 0
    assert (out / "cat.png").read_bytes() != first
    assert np.array_equal(read_map(same), edited)


@pytest.mark.parametrize(
    "options", [("--psf", "gaussian"), ("--noise-std", "0.05"), ("--light", "linear"), ("steps=4", "rho=6")]
)
def test_options_reach_the_result(deblur, photo, tmp_path, out, options):
    write_map(tmp_path / "map.tif", np.full((40, 56), 2.0))

    def result(*more):
        assert deblur(photo, "--defocus-map", tmp_path / "map.tif", "--overwrite", *more)[0] == 0
        return (out / "cat.png").read_bytes()

    assert result(*options) != result()


def test_the_preset_decides_the_evaluations(deblur, photo, out):
    settings = ("cg_iterations=1",)
    for preset in PRESETS:
        assert deblur(photo, "--preset", preset, "--overwrite", settings=settings)[0] == 0
        assert f"<td>{preset}</td>" in (out / "cat.png_report.html").read_text("utf-8")


def test_tv_needs_no_weights(deblur, photo, out):
    code, output, errors = deblur(photo, "--method", "tv")
    assert (code, errors, len(output)) == (0, [], 3)


@pytest.mark.parametrize(
    "options",
    [("--weights", "w"), ("--preset", "best"), ("--tile", "64"), ("--light", "linear"), ("steps=4",)],
)
def test_what_tv_would_ignore_is_refused(deblur, photo, out, options):
    fails(deblur(photo, "--method", "tv", *options), 2, options[0], "--method score")
    assert files(out) == []


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
    assert files(out) == sorted(outputs("cat.png"))
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
    assert (code, len(output), len(errors)) == (6, 3, 1)
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
        (("--step", "4"), ("--step",)),
    ],
)
def test_bad_options(deblur, photo, out, arguments, words):
    fails(deblur(photo, *arguments), 2, *words)
    assert not out.exists()


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
        def limited(self, x, sigma):
            seen.append(x.shape[-2] * x.shape[-1])
            if seen[-1] > largest:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(self, x, sigma)

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

    monkeypatch.setattr(ScoreNetwork, "forward", lambda self, x, sigma: x * float("nan"))
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


def test_progress_goes_to_the_error_output(saved_pipeline, photo, out, capfd):
    code = main([str(photo), "-o", str(out), "--weights", str(saved_pipeline), *QUICK])
    output, errors = capfd.readouterr()
    assert code == 0
    assert output.splitlines() == [str(out / name) for name in outputs("cat.png")]
    assert len(errors.splitlines()) == 1 and "cat.png (1 of 1): 3 network evaluations" in errors


def test_help_and_usage_errors_wait_for_nothing_slow(tmp_path):
    code = (
        "import runpy, sys\n"
        "script = sys.argv.pop(1)\n"
        "sys.argv[0] = script\n"
        "try: runpy.run_path(script, run_name='__main__')\n"
        "except SystemExit as error: print('code', error.code)\n"
        "print({'torch', 'diffusers', 'numpy', 'omegaconf'} & sys.modules.keys())\n"
    )
    for arguments, expected in [(["--help"], "0"), (["a.png"], "2"), (["a.png", "-o", "out", "--no-such"], "2")]:
        command = [sys.executable, "-c", code, str(SCRIPT), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.endswith(f"code {expected}\nset()\n")


def test_restoring_needs_neither_network_access_nor_what_training_and_measuring_need(saved_pipeline, photo, out):
    code = (
        "import socket, sys\n"
        "def refuse(*arguments): raise AssertionError('network access')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from samplers.deblur import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not {'wandb', 'lpips', 'skimage'} & sys.modules.keys()\n"
    )
    arguments = [str(photo), "-o", str(out), "--weights", str(saved_pipeline), *QUICK]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=photo.parent, check=True, env=environment)
    assert files(out) == sorted(outputs("cat.png"))
