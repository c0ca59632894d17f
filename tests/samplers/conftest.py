import numpy as np
import pytest
import torch
from PIL import Image

QUICK = ("steps=3", "corrector=false", "cg_iterations=2")


@pytest.fixture(scope="session")
def saved_prior(tmp_path_factory):
    """A folder that holds a small latent prior of random parameters and nothing else; not to be changed."""
    from diffusion.latent_prior import SwinDiff

    torch.manual_seed(0)
    prior = SwinDiff(channels=(32, 32), blocks=(1, 1), windows=(0, 4), latent=8, encoder=8, steps=3, stage=2)
    for parameter in prior.parameters():
        parameter.data += 0.07 * torch.randn(parameter.shape)
    folder = tmp_path_factory.mktemp("weights") / "prior"
    prior.save_pretrained(folder / "latent_prior")
    return folder


@pytest.fixture
def codes():
    """Coloured squares out of focus by 2.5 pixels, which the estimator sees: uint8, shape (40, 56, 3)."""
    from scipy.ndimage import convolve

    from optics import defocus_psf

    squares = np.kron(np.random.default_rng(0).random((15, 19, 3)), np.ones((4, 4, 1)))
    picture = convolve(squares, defocus_psf(2.5).numpy()[:, :, None])[10:50, 10:66]
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
    from samplers.deblur import main

    def run(*arguments, weights=saved_pipeline, settings=QUICK):
        method = () if {"tv", "tv-bank"} & set(arguments) else ("--weights", str(weights), *settings)
        try:
            code = main(["-o", str(out), "--device", "cpu", "--quiet", *method, *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        output, errors = capfd.readouterr()
        return code, output.splitlines(), errors.splitlines()

    return run
