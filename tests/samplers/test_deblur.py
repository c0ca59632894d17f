import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from command_line import files, outputs, pixels
from PIL import Image

import samplers.deblur
from optics import PSF_SOFTNESS, defocus_psf
from photos import read, read_map, write_map
from restorers.swin_diff import SwinDiffRestorer
from samplers.deblur import main
from samplers.settings import PRESETS, SamplerSettings
from samplers.weights import load_latent_prior

SCRIPT = Path(samplers.deblur.__file__)
QUICK = ("steps=3", "corrector=false", "cg_iterations=2")


def test_choices_are_those_of_the_packages():
    assert samplers.deblur.PRESETS == PRESETS
    assert set(samplers.deblur.PSFS) == {"auto", *PSF_SOFTNESS}


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
    report = (out / "cat.png_report.html").read_text("utf-8")
    assert "cat.png" in report
    # Not that it was left to the solver.
    assert f"<th>strength</th><td>{SamplerSettings().guidance_strength:g}</td>" in report
    assert f"<th>latent_prior_variance</th><td>{SamplerSettings(steps=3).regression_variance:g}</td>" in report


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
    assert files(out) == sorted([*outputs("cat.png"), *outputs("cat.jpg"), "summary.json", "contact_sheet.html"])


def test_the_seed_decides_and_neither_company_nor_tiles_matter(deblur, photo, tmp_path, out):
    def result(*arguments):
        assert deblur(*arguments, "--overwrite")[0] == 0
        return pixels(out / "cat.png")

    first = result(photo, "--seed", 3)
    assert result(photo, "--seed", 3) == first
    assert result(photo, "--seed", 4) != first
    shutil.copy(photo, tmp_path / "a.png")
    assert result(tmp_path / "a.png", photo, "--seed", 3) == first
    whole = np.array(Image.open(out / "cat.png"), np.int16)
    result(photo, "--seed", 3, "--tile", 32)
    assert np.abs(np.array(Image.open(out / "cat.png"), np.int16) - whole).max() <= 1


def test_a_map_can_be_edited_and_fed_back(deblur, photo, tmp_path, out):
    # A map that is given is believed; for the same result so must be the estimated one.
    assert deblur(photo, "trust=null")[0] == 0
    first = pixels(out / "cat.png")
    same = out / "cat.png_defocus.tif"
    assert deblur(photo, "--defocus-map", same, "--overwrite", "trust=null")[0] == 0
    assert pixels(out / "cat.png") == first
    edited = np.full((40, 56), 2.5, np.float32)
    write_map(tmp_path / "edited.tif", edited)
    assert deblur(photo, "--defocus-map", tmp_path / "edited.tif", "--overwrite")[0] == 0
    assert pixels(out / "cat.png") != first
    assert np.array_equal(read_map(same), edited)


@pytest.mark.parametrize(
    "options", [("--psf", "gaussian"), ("--noise-std", "0.05"), ("--light", "srgb"), ("steps=4", "rho=6")]
)
def test_options_reach_the_result(deblur, photo, tmp_path, out, options):
    write_map(tmp_path / "map.tif", np.full((40, 56), 2.0))

    def result(*more):
        assert deblur(photo, "--defocus-map", tmp_path / "map.tif", "--overwrite", *more)[0] == 0
        return pixels(out / "cat.png")

    assert result(*options) != result()


def test_measured_psfs_reach_the_result(deblur, photo, tmp_path, out):
    write_map(tmp_path / "map.tif", np.full((40, 56), 2.0))
    disk = np.pad(defocus_psf(5.0).numpy(), 1)
    np.save(tmp_path / "disk.npy", disk)
    np.save(tmp_path / "grid.npy", np.stack([disk, disk * np.tri(*disk.shape)]))

    def result(*options):
        # No sampler, whose noise depends on the margin that PSFs need.
        code, _, _ = deblur(photo, "--defocus-map", tmp_path / "map.tif", "--method", "tv", "--overwrite", *options)
        assert code == 0
        return np.array(Image.open(out / "cat.png"), np.int16)

    round_one, measured = result(), result("--psf", tmp_path / "disk.npy")
    # The measurement smears the rim, which sharpening makes a little of.
    assert np.abs(measured - round_one).max() <= 12 and np.abs(measured - round_one).mean() < 2
    lopsided = result("--psf", tmp_path / "grid.npy", "--psf-grid", "1x2")
    assert np.abs(lopsided - round_one)[:, 28:].max() > 24


def test_the_preset_decides_the_evaluations(deblur, photo, out):
    settings = ("cg_iterations=1",)
    for preset in PRESETS:
        assert deblur(photo, "--preset", preset, "--overwrite", settings=settings)[0] == 0
        assert f"<td>{preset}</td>" in (out / "cat.png_report.html").read_text("utf-8")


@pytest.mark.parametrize("method", ["tv", "tv-bank"])
def test_tv_needs_no_weights(deblur, photo, out, method):
    code, output, errors = deblur(photo, "--method", method)
    assert (code, errors, len(output)) == (0, [], 5)
    # Neither light nor PSF is looked for: the report says what was used.
    report = (out / "cat.png_report.html").read_text("utf-8")
    assert "<th>light</th><td>srgb</td>" in report and "<th>psf</th><td>disk</td>" in report


def test_swin_diff_restores_by_the_latent_prior_alone(deblur, photo, out, saved_prior, codes):
    method = ("--method", "swin-diff")
    code, output, errors = deblur(photo, *method, weights=saved_prior, settings=())
    assert (code, errors, len(output)) == (0, [], 5)
    expected = _regression_where_blurred(saved_prior, codes, read_map(out / "cat.png_defocus.tif"))
    written = np.asarray(Image.open(out / "cat.png"))
    assert (written != np.rint(255 * expected)).mean() < 0.01
    assert not np.array_equal(written, codes)
    report = (out / "cat.png_report.html").read_text("utf-8")
    # It supposes nothing of the blur: a report has no lens, nor what that would leave of the capture.
    assert "mean blur radius" in report and "light that the blur mixed" not in report and "softness" not in report
    assert "residual" not in report.lower()
    # Tiles are for memory alone; a seed is for the prior.
    for options, same in ((("--tile", "32"), True), (("--seed", "1"), False)):
        assert deblur(photo, *method, *options, "--overwrite", weights=saved_prior, settings=())[0] == 0
        different = (np.asarray(Image.open(out / "cat.png")) != written).mean()
        # Of pixels half-way between two codes, a few are rounded the other way.
        assert different < 0.01 if same else different > 0.02


def test_swin_diff_leaves_alone_what_the_map_says_is_sharp(deblur, photo, out, saved_prior, codes, tmp_path):
    # A map that is given says where, too: nowhere at the left, in half in the middle, wholly at the right.
    radii = np.zeros((40, 56), np.float32)
    radii[:, 20:40], radii[:, 40:] = 0.5, 3.0
    write_map(tmp_path / "map.tif", radii)
    given = ("--method", "swin-diff", "--defocus-map", tmp_path / "map.tif")
    assert deblur(photo, *given, weights=saved_prior, settings=())[0] == 0
    written = np.asarray(Image.open(out / "cat.png")).astype(float)
    np.testing.assert_array_equal(written[:, :20], codes[:, :20])
    whole = 255 * _regression_where_blurred(saved_prior, codes, np.ones_like(radii))
    assert np.abs(whole - codes).mean() > 2
    np.testing.assert_allclose(written[:, 20:40], (whole + codes)[:, 20:40] / 2, atol=0.51)
    np.testing.assert_allclose(written[:, 40:], whole[:, 40:], atol=0.51)
    # Where nothing is blurred the network is not asked.
    write_map(tmp_path / "map.tif", np.zeros((40, 56)))
    assert deblur(photo, *given, "--overwrite", weights=saved_prior, settings=())[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out / "cat.png")), codes)
    assert "<th>network evaluations</th><td>0</td>" in (out / "cat.png_report.html").read_text("utf-8")


def _regression_where_blurred(weights, codes, radii):
    """The latent prior's regression of a picture where its radii are 1 px and more, else a mean with the picture."""
    image = codes / 255
    y = torch.from_numpy(image).float().permute(2, 0, 1)[None]
    regression = SwinDiffRestorer(load_latent_prior(weights))(y)[0].permute(1, 2, 0).numpy()
    return image + radii.clip(max=1)[..., None] * (regression - image)


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
