"""Where the time of a restoration goes: the parts are disjoint, and together they are the whole."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve

from evaluation import cost
from optics import defocus_psf
from samplers import DefocusDeblurPipeline, SamplerSettings
from samplers.tiling import TiledNetwork


@pytest.fixture(scope="module")
def soft():
    """Coloured squares out of focus by 2.5 pixels, which the estimator sees: in [0, 1], shape (1, 3, 40, 56)."""
    squares = np.kron(np.random.default_rng(0).random((15, 19, 3)), np.ones((4, 4, 1)))
    picture = 0.1 + 0.8 * convolve(squares, defocus_psf(2.5).numpy()[:, :, None])[10:50, 10:66]
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float()


def test_a_row_says_what_was_restored(saved_pipeline, soft, tmp_path, capsys, monkeypatch):
    photo = tmp_path / "soft.png"
    Image.fromarray((255 * soft[0].permute(1, 2, 0).numpy()).round().astype(np.uint8)).save(photo)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert cost.main([str(photo), "--weights", str(saved_pipeline), "--size", "96x72", "--threads", "1"]) == 0
    header, _, row, _, note = capsys.readouterr().out.splitlines()
    assert header.count("|") == row.count("|") == len(cost.COLUMNS) + 5
    assert row.startswith("| 96 x 72 |") and "`fast`" in row and note.startswith("Network and latent prior: ")


def test_time_is_charged_to_the_part_that_spends_it(saved_pipeline, soft, monkeypatch):
    pipeline = DefocusDeblurPipeline.from_pretrained(saved_pipeline)
    settings, forward = SamplerSettings(steps=2, corrector=False), TiledNetwork.forward

    seconds, blurred = cost.profile(pipeline, soft, settings)
    assert list(seconds) == list(cost.COLUMNS) and blurred > 0.5
    for part in ("map", "network", "data step"):
        assert seconds[part] > 0
    assert min(seconds.values()) >= 0

    # By a clock that goes on in the network alone.
    clock = [0.0]

    def slow(self, x, sigma):  # noqa: ANN001
        clock[0] += 0.5
        return forward(self, x, sigma)

    monkeypatch.setattr(TiledNetwork, "forward", slow)
    monkeypatch.setattr(cost.cProfile, "Profile", partial(cost.cProfile.Profile, lambda: clock[0]))
    seconds, _ = cost.profile(pipeline, soft, settings)
    # Two evaluations.
    assert seconds == dict.fromkeys(cost.COLUMNS, 0.0) | {"network": 1.0}


def test_a_photo_is_continued_by_its_mirror_image(soft):
    larger = cost.mirrored(soft, 130, 90)
    assert larger.shape == (1, 3, 90, 130)
    assert torch.equal(larger[..., :40, :56], soft) and torch.equal(larger[..., :40, 56:112], soft.flip(-1))
    assert torch.equal(larger[..., 80:90, 112:130], soft[..., :10, :18])
    assert torch.equal(cost.mirrored(soft, 20, 10), soft[..., :10, :20])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.png"], 1, "none.png"),
        (["none.png", "--weights", "nowhere"], 2, "nowhere"),
        (["none.png", "--size", "10"], 2, "expected a size in pixels as 1024x768, got 10"),
        (["none.png", "--threads", "0"], 2, "--threads: expected at least 1, got 0"),
    ],
)
def test_bad_input_is_one_sentence(saved_pipeline, arguments, code, message, capsys):
    if "--weights" not in arguments:
        arguments = [*arguments, "--weights", str(saved_pipeline)]
    try:
        got = cost.main(arguments)
    except SystemExit as error:
        got = error.code
    assert got == code and message in capsys.readouterr().err.splitlines()[-1]
