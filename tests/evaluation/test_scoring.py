"""Masks, borders and missing references in the figures of a picture."""

import numpy as np
import pytest
import torch

from evaluation.captures import Capture
from evaluation.scoring import Scoring

METRICS = ("psnr", "ssim", "mae", "sharpness", "whiteness", "psnr_shift_aligned", "colour_shift")


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, 72, 64, generator=generator) for _ in range(3)]


def capture(y, x, **more):
    return Capture("set", "set", "name", y, x, **more)


def test_inside_a_mask_only_its_pixels_count(pictures):
    image, x, y = pictures
    mask = torch.zeros(1, 1, 72, 64, dtype=torch.bool)
    mask[..., :12] = True
    figures = Scoring(METRICS)(image, x, capture(y, x, mask=mask))
    error = (image - x)[..., :12].double().numpy()
    assert figures["psnr"] == pytest.approx(-10 * np.log10((error**2).mean()))
    assert figures["mae"] == pytest.approx(np.abs(error).mean())
    whole = Scoring(METRICS)(torch.where(mask, image, x), x, capture(y, x))
    assert figures["ssim"] == pytest.approx(whole["ssim"])
    assert figures["psnr_shift_aligned"] is None and whole["psnr_shift_aligned"] is not None


def test_an_empty_mask_has_no_figures(pictures):
    image, x, y = pictures
    figures = Scoring(("psnr", "mae"))(image, x, capture(y, x, mask=torch.zeros(1, 1, 72, 64, dtype=torch.bool)))
    assert figures == {"psnr": None, "mae": None}


def test_the_border_is_left_out(pictures):
    image, x, y = pictures
    cut = [picture[..., 5:-5, 5:-5] for picture in (image, x, y)]
    bordered = Scoring(METRICS)(image, x, capture(y, x, border=5), reblurred=y + 0.1)
    plain = Scoring(METRICS)(cut[0], cut[1], capture(cut[2], cut[1]), reblurred=cut[2] + 0.1)
    assert bordered == plain


def test_without_a_reference_only_the_figures_that_need_none_are_there(pictures):
    image, _, y = pictures
    figures = Scoring(METRICS)(image, None, capture(y, None), reblurred=image)
    assert {name for name, value in figures.items() if value is not None} == {"sharpness", "whiteness", "colour_shift"}


def test_equal_pictures_have_no_psnr(pictures):
    figures = Scoring(("psnr", "ssim"))(pictures[0], pictures[0], capture(pictures[1], pictures[0]))
    assert figures == {"psnr": None, "ssim": pytest.approx(1)}


def test_missing_weights_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    scoring = Scoring(("psnr", "lpips_squeeze"))
    assert "squeezenet" in scoring.reasons["lpips_squeeze"]
