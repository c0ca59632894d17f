"""Alignment: known shifts and displacements are found, and figures forgive them and nothing else."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from evaluation.metrics import (
    align_shift,
    flow_reason,
    flow_warped_reference,
    psnr,
    psnr_flow_aligned,
    psnr_shift_aligned,
)


def _photo(name):
    return getattr(data, name)() / 255


def _tensor(picture):
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]


def _shifted_pair(name, shift, blur=0.0):
    """Inner parts of a photo and of its copy shifted by Fourier phases, (H, W, C)."""
    photo = _photo(name)
    rows, columns = (np.fft.fftfreq(side) for side in photo.shape[:2])
    phases = np.exp(-2j * np.pi * (rows[:, None] * shift[0] + columns * shift[1]))
    moved = np.fft.ifft2(np.fft.fft2(photo, axes=(0, 1)) * phases[..., None], axes=(0, 1)).real
    moved = ndimage.gaussian_filter(moved, (blur, blur, 0))
    inner = np.s_[60:220, 60:260]
    return _tensor(np.clip(moved[inner], 0, 1)), _tensor(photo[inner])


@pytest.mark.parametrize("shift", [(0.3, -0.4), (2.37, -1.62), (-11.3, 14.2), (3.0, -1.0)])
@pytest.mark.parametrize("name", ["astronaut", "chelsea"])
@pytest.mark.parametrize("blur", [0, 2])
def test_a_known_shift_is_found(name, shift, blur):
    x, reference = _shifted_pair(name, shift, blur)
    noise = 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    assert align_shift(x + noise, reference) == pytest.approx(shift, abs=0.05)


def test_the_figure_forgives_a_shift():
    x, reference = _shifted_pair("astronaut", (2.4, -1.3))
    noise = 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    noisy = x + noise
    # 40 dB less what the spline loses of the finest detail.
    assert psnr(noisy, reference) < 25
    assert 38 < psnr_shift_aligned(noisy, reference) < 40.1
    assert psnr_shift_aligned(x, x) == math.inf


def test_a_whole_pixel_shift_leaves_out_only_what_was_never_seen():
    photo = _photo("coffee")[:120, :150]
    x, reference = _tensor(photo[3:, :-2]), _tensor(photo[:-3, 2:])
    assert align_shift(x, reference) == pytest.approx((-3, 2), abs=1e-3)
    wrong = x.clone()
    wrong[..., 0, 5] = 1 - wrong[..., 0, 5]  # seen by both: counts
    wrong[..., -1, :] = 0  # the last rows are not in the reference
    assert psnr_shift_aligned(x, reference) > 60 > psnr_shift_aligned(wrong, reference) > 30


def test_flat_pictures_have_no_shift():
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert align_shift(flat, flat) == (0.0, 0.0)
    rows = torch.linspace(0, 1, 64)[:, None].expand(1, 1, 64, 64).double()
    vertical, horizontal = align_shift(rows, rows)
    assert vertical == pytest.approx(0, abs=1e-3) and horizontal == 0


def _waved(photo):
    """A photo displaced by up to 2 pixels, smoothly, and the displacement of its pixels' sources, (2, H, W)."""
    rows, columns = np.indices(photo.shape[:2], dtype=float)
    flow = np.stack([1.5 * np.sin(2 * np.pi * columns / 150) + 0.5, -1.2 * np.cos(2 * np.pi * rows / 170)])
    source = np.stack([rows, columns]) + flow
    return np.stack([ndimage.map_coordinates(photo[..., c], source, order=5, mode="mirror") for c in range(3)], -1)


def test_flow_finds_a_smooth_displacement():
    assert flow_reason() is None
    photo = _photo("astronaut")[:200, :240]
    x, reference = _tensor(np.clip(_waved(photo), 0, 1)), _tensor(photo)
    warped, valid = flow_warped_reference(x, reference)
    assert warped.shape == x.shape and valid.shape == (1, 1, 200, 240)
    assert psnr_shift_aligned(x, reference) < 28
    assert psnr_flow_aligned(x, reference) > psnr(x, reference) + 8
    # The topmost row of the waved photo comes from above the photo where the displacement points there.
    rise = 1.5 * np.sin(2 * np.pi * np.arange(240) / 150) + 0.5
    assert valid[0, 0, 0, rise < -0.5].double().mean() < 0.2
    assert valid[0, 0, 20:-20, 20:-20].all()


def test_flow_does_not_explain_blur_as_displacement():
    photo = _photo("astronaut")[:200, :240]
    x, reference = _tensor(ndimage.gaussian_filter(photo, (2, 2, 0))), _tensor(photo)
    assert psnr_flow_aligned(x, reference) == pytest.approx(psnr(x, reference), abs=0.25)


def test_invalid_pixels_are_left_out():
    photo = _photo("coffee")[100:260, 100:280]
    x, reference = _tensor(photo[2:]), _tensor(photo[:-2])
    warped, valid = flow_warped_reference(x, reference)
    error = (x - warped).square()[0].numpy()
    kept = valid[0, 0].numpy()
    assert 0 < (~kept).sum() < 1000
    assert psnr_flow_aligned(x, reference) == pytest.approx(-10 * math.log10(error[:, kept].mean()), abs=1e-9)


@pytest.mark.parametrize("metric", [align_shift, psnr_shift_aligned, psnr_flow_aligned])
def test_pictures_of_two_shapes_are_refused(metric):
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 65))


def test_alignment_refuses_small_pictures():
    with pytest.raises(ValueError, match="at least 48"):
        align_shift(torch.zeros(1, 3, 47, 64), torch.zeros(1, 3, 47, 64))
