"""Sharpness and residual whiteness against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from skimage import data

from evaluation.metrics import residual_whiteness, sharpness


def _noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sharpness_of_ramps_and_waves():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    assert sharpness((0.003 * rows + 0.004 * columns)[None, None]) == pytest.approx(0.005, rel=1e-5)
    wave = 0.5 + 0.2 * torch.sin(2 * math.pi * columns / 16)
    # Sixteen pixels per period; 78 columns are no whole number of them, so leave out the last.
    expected = 0.2 * math.sin(2 * math.pi / 16) / math.sqrt(2)
    assert sharpness(wave[None, None, :, :66]) == pytest.approx(expected, rel=1e-4)
    assert sharpness(wave.T[None, None, :66]) == pytest.approx(expected, rel=1e-4)
    assert sharpness(torch.full((1, 3, 8, 8), 0.7)) == pytest.approx(0, abs=1e-12)


def test_sharpness_weighs_channels_as_luma_and_adds_noise():
    rows = torch.arange(64.0)[:, None].expand(64, 80)
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        x = torch.zeros(1, 3, 64, 80)
        x[0, channel] = rows / 100
        assert sharpness(x) == pytest.approx(weight / 100, rel=1e-5)
    noise = 0.02 * _noise(1, 1, 500, 500)
    # 0.375 s^2 from each pixel; neighbours overlap, so that about 500^2 / 20 values are independent.
    assert sharpness(noise) ** 2 == pytest.approx(0.375 * 0.02**2, rel=4 * math.sqrt(2 * 20) / 500)


def test_sharpness_falls_with_blur():
    photo = torch.from_numpy(data.astronaut() / 255).permute(2, 0, 1)[None]
    figures = [sharpness(torch.nn.functional.avg_pool2d(photo, size, stride=1)) for size in (1, 2, 3, 5, 9)]
    assert figures == sorted(figures, reverse=True) and figures[0] > 2 * figures[-1]
    with pytest.raises(ValueError, match=r"1 or 3.*got \(1, 2, 8, 8\)"):
        sharpness(torch.zeros(1, 2, 8, 8))


def test_white_noise_is_white_at_any_level_and_size():
    # E c(m)^2 = c(0)^2 / n(m), so that the figure's expectation is 0. A shift and its opposite have one and the
    # same c, n c^2 is chi-squared with variance 2: that of the figure is the sum of 2 / n^2 over 40 shifts, / 40^2.
    for height, width, std in ((16, 24, 1.0), (64, 48, 0.01)):
        draws = np.array([residual_whiteness(std * _noise(1, 1, height, width, seed=seed)) for seed in range(400)])
        pairs = [(height - abs(m)) * (width - abs(n)) for m in range(-4, 5) for n in range(-4, 5) if (m, n) != (0, 0)]
        spread = math.sqrt(sum(1 / n**2 for n in pairs)) / 40
        assert draws.std() == pytest.approx(spread, rel=0.15)
        # The estimated mean and variance bias the figure in the order of 1 / (pixels)^2.
        assert abs(draws.mean()) < 4 * spread / math.sqrt(len(draws)) + 10 / (height * width) ** 2


@pytest.mark.parametrize("psf", [np.ones((3, 3)), np.ones((5, 5)), np.outer([1, 2, 1], [0, 1, 1]), np.ones((1, 9))])
def test_noise_seen_through_a_psf_has_the_energy_of_its_autocorrelation(psf):
    noise = convolve2d(np.random.default_rng(0).standard_normal((700, 700)), psf, mode="valid")
    rho = correlate2d(psf, psf) / (psf**2).sum()
    rows, columns = rho.shape[0] // 2, rho.shape[1] // 2
    near = rho[max(rows - 4, 0) : rows + 5, max(columns - 4, 0) : columns + 5]
    expected = ((near**2).sum() - 1) / 80
    figure = residual_whiteness(torch.from_numpy(0.03 * noise + 0.5)[None, None])
    assert figure == pytest.approx(expected, rel=0.03)
    if psf.shape == (3, 3) and psf.all():
        assert expected == pytest.approx(0.043, abs=5e-4)
    if psf.shape == (5, 5):
        assert expected == pytest.approx(0.132, abs=5e-4)


def test_known_noise_sets_the_scale():
    residual = torch.nn.functional.avg_pool2d(_noise(1, 2, 200, 300), 3, stride=1)
    own = residual_whiteness(residual)
    variances = residual.var((0, 2, 3), correction=0)
    expected = sum(residual_whiteness(residual[:, c : c + 1]) * float(variances[c]) ** 2 for c in (0, 1)) / 2
    assert residual_whiteness(residual, 1.0) == pytest.approx(expected, rel=1e-6)
    assert residual_whiteness(residual, 0.5) == pytest.approx(16 * expected, rel=1e-6)
    # Noise whose level differs from place to place is made even by its map.
    level = torch.linspace(0.1, 2, 298, dtype=torch.float64).expand(1, 1, 198, 298)
    assert residual_whiteness(residual * level, level) == pytest.approx(expected, rel=1e-6)
    assert own > 0.03


def test_whiteness_leaves_out_constant_channels_and_refuses_bad_input():
    noise = _noise(1, 1, 40, 40)
    flat = torch.full((1, 1, 40, 40), 0.1)
    assert residual_whiteness(flat) is None
    assert residual_whiteness(torch.cat([flat, noise], 1)) == pytest.approx(residual_whiteness(noise))
    with pytest.raises(ValueError, match="above 4"):
        residual_whiteness(noise[..., :4])
    with pytest.raises(ValueError, match="above 0, got 0"):
        residual_whiteness(noise, 0.0)
    with pytest.raises(ValueError, match=r"map of \(40, 40\) pixels"):
        residual_whiteness(noise, torch.ones(1, 1, 20, 20))
