"""What tells flat and defocused patches from patches in focus."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from optics.psf import defocus_psf
from train.patch_quality import accepted, contrast_and_smoothness


def _texture(seed, side=96, slope=1.0):
    """A grey pattern with the spectrum 1 / f^slope of natural photos in focus, 8-bit."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    pattern = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) / frequency**slope, (side, side))
    return 128 + 35 * pattern / pattern.std()


def _codes(grey, side=64):
    edge = (grey.shape[0] - side) // 2
    grey = grey[edge : edge + side, edge : edge + side]
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def _defocused(grey, radius):
    psf = defocus_psf(radius)
    return F.conv2d(torch.from_numpy(grey)[None, None], psf[None, None], padding="same")[0, 0].numpy()


def test_contrast_is_the_deviation_of_white_noise():
    noise = np.random.default_rng(0).normal(128, 9, (256, 256))
    contrast, smoothness = contrast_and_smoothness(_codes(noise, 256))
    assert contrast == pytest.approx(9, rel=0.02)
    assert smoothness == pytest.approx(0, abs=0.05)


def _exponent(near, far):
    """12 squared codes of noise are allowed for, of which 1 is left to divide by."""
    return np.log((far - 11) / (near - 11)) / np.log(3)


def test_smoothness_is_the_exponent_of_second_differences():
    # A step: at distance h, 2 h pixels of each row see it, with second differences of its height.
    step = np.full((64, 64), 50.0)
    step[:, 32:] = 150
    expected = _exponent(*(2 * h * 100**2 / (64 - 2 * h) for h in (1, 3)))
    assert contrast_and_smoothness(_codes(step))[1] == pytest.approx(expected, abs=1e-3)
    # A wave of 16 pixels: at distance h its second difference is itself, 2 cos(2 pi h / 16) - 2 times as high.
    wave = 128 + 120 * np.sin(2 * np.pi * np.arange(64) / 16)[:, None] * np.ones(64)
    expected = _exponent(*(7200 * (2 * np.cos(2 * np.pi * h / 16) - 2) ** 2 for h in (1, 3)))
    assert expected > 3.3
    assert contrast_and_smoothness(_codes(wave))[1] == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("axis", [0, 1])
def test_all_directions_count_alike(axis):
    patch = _codes(_texture(3))
    expected = contrast_and_smoothness(patch)
    assert contrast_and_smoothness(np.rot90(patch).copy()) == pytest.approx(expected, rel=1e-5)
    assert contrast_and_smoothness(np.flip(patch, axis).copy()) == pytest.approx(expected, rel=1e-5)


def test_defocus_is_told_from_texture_of_any_contrast():
    sharp, soft = [], []
    for seed in range(12):
        texture = _texture(seed)
        for gain in (0.3, 1.0):
            grey = 128 + gain * (texture - 128)
            sharp.append(contrast_and_smoothness(_codes(grey))[1])
            soft.append(contrast_and_smoothness(_codes(_defocused(grey, 2.0)))[1])
    assert max(sharp) < 2.0 and min(soft) > 2.4
    radii = [contrast_and_smoothness(_codes(_defocused(_texture(1), radius)))[1] for radius in (0.5, 1.0, 1.5, 2.0)]
    assert radii == sorted(radii)


def test_rejected_are_the_flat_and_the_defocused():
    flat, texture = np.full((64, 64, 3), 200, np.uint8), _texture(0)
    assert not accepted(flat, 1.5, None) and accepted(flat, 0, None)
    assert accepted(_codes(texture), 1.5, 2.4)
    defocused = _codes(_defocused(texture, 2.0))
    assert not accepted(defocused, 0, 2.4) and accepted(defocused, 1.5, None)
