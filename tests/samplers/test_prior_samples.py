"""Photos from the prior alone: the right distribution where it is known, and the table of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion import VESDE, VPSDE
from samplers.prior_samples import draw, main

MEAN, STD = 0.3, 0.2


def _gaussian(x, sigma):
    """E[x_0 | x_0 + sigma z] of independent pixels N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


@pytest.mark.parametrize("sde", [VESDE(), VPSDE()], ids=["ve", "vp"])
@pytest.mark.parametrize("solver", ["predictor-corrector", "ode"])
def test_what_is_drawn_has_the_distribution_of_the_prior(sde, solver):
    generator = torch.Generator().manual_seed(0)
    x = draw(_gaussian, sde, solver, 79, torch.zeros(1, 3, 64, 64), 3.0, generator)
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.03)
    # Of the predictor-corrector sampler at 40 levels docs/samplers.md measures 0.91.
    assert float(x.std()) == pytest.approx(STD, rel=0.03 if solver == "ode" else 0.15)


def test_the_start_keeps_what_the_noise_does_not_bury():
    ramp = torch.linspace(-0.5, 0.5, 64).expand(1, 3, 64, 64)
    generator = torch.Generator().manual_seed(0)
    for solver in ("predictor-corrector", "ode"):
        near, far = (draw(_gaussian, VESDE(), solver, 39, ramp, sigma, generator) for sigma in (0.02, 3.0))
        _, kept, forgotten = torch.corrcoef(torch.stack([x.flatten() for x in (ramp, near, far)]))[0].tolist()
        assert kept > 0.95 and abs(forgotten) < 0.2


@pytest.fixture
def table(tmp_path, saved_pipeline, capsys):
    def run(*arguments):
        command = ["-o", str(tmp_path / "new" / "table.png"), "--weights", str(saved_pipeline), "--steps", "5"]
        try:
            code = main([*command, "--side", "16", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        return code, capsys.readouterr(), tmp_path / "new" / "table.png"

    return run


def test_the_table_has_a_row_for_each_sampler_and_columns_for_noise_and_photos(table, photo):
    code, printed, file = table("--count", "2", photo)
    assert code == 0 and printed.out.strip() == str(file)
    picture = Image.open(file)
    assert picture.size == (190 + 3 * 20, 6 * 20)
    pixels = np.asarray(picture)
    shown = np.asarray(Image.open(photo))[12:28, 20:36]
    assert np.abs(pixels[:16, 230:246].astype(int) - shown).max() <= 1
    # No picture stands above what is drawn from noise.
    assert (pixels[:36, 190:226] == 255).all()
    code, _, _ = table("--count", "2", photo)
    assert code == 3
    assert table("--count", "2", "--overwrite")[0] == 0 and Image.open(file).size == (190 + 2 * 20, 4 * 20)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--steps", "6"], 2, "--steps: expected an odd number"),
        (["--steps", "3"], 2, "--steps: expected at least 5, got 3"),
        (["--sigma-noise", "4"], 2, "--sigma-noise: expected at most 3, the largest noise level"),
        (["--blur", "2"], 2, "--blur: expected only with a PHOTO, got none"),
        (["--blur", "17", "PHOTO"], 2, "--blur: expected at most the side of a picture, 16, got 17"),
        (["--count", "0", "--sigma-noise", "1", "PHOTO"], 2, "--sigma-noise: expected only with --count, got none"),
        (["-o", "table.jpg"], 2, "--output: expected a name that ends in .png, got table.jpg"),
        (["--count", "0"], 2, "--count: expected at least 1 where no PHOTO is given, got 0"),
        (["--weights", "nowhere"], 2, "nowhere: expected the folder of a saved pipeline"),
        (["missing.png"], 3, "missing.png"),
        (["--side", "64", "PHOTO"], 3, "expected a photo of at least 64 x 64 pixels, got 56 x 40"),
    ],
)
def test_bad_input_is_one_sentence(table, photo, arguments, code, message):
    got, printed, file = table(*[photo if word == "PHOTO" else word for word in arguments])
    assert got == code and message in printed.err and printed.err.count("\n") == 1
    assert not file.exists()


def test_a_file_in_place_of_the_folder_is_kept(table):
    folder = table("--steps", "6")[2].parent
    folder.write_text("mine")
    code, printed, _ = table("--count", "1")
    assert code == 3 and f"{folder}: expected a folder or nothing there, got a file" in printed.err
    assert printed.err.count("\n") == 1 and folder.read_text() == "mine"
