"""What a network is judged by during training."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from photos import find_photos
from train.panels import DENOISING_SIGMAS, denoising_pictures, denoising_psnr, ema_gap, held_out_crops, sample_pictures


class _Gaussian(nn.Module):
    """The exact denoiser of independent pixels of mean 0.2 and standard deviation 0.25."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(0.2))

    def forward(self, x, sigma):
        return self.mean + 0.0625 / (0.0625 + sigma**2) * (x - self.mean)


def test_samples_are_drawn_from_the_prior():
    pictures = sample_pictures(_Gaussian(), count=5, side=32, steps=40)
    assert pictures.shape == (64, 96, 3) and pictures.dtype == np.uint8
    # The sixth place stays black.
    assert not pictures[32:, 64:].any()
    values = pictures[:32].astype(float) / 127.5 - 1
    assert values.mean() == pytest.approx(0.2, abs=0.02)
    assert values.std() == pytest.approx(0.25, rel=0.1)
    assert np.array_equal(pictures, sample_pictures(_Gaussian(), count=5, side=32, steps=40))
    assert not np.array_equal(pictures, sample_pictures(_Gaussian(), count=5, side=32, steps=40, seed=1))


def test_samples_start_at_the_largest_noise_level_that_the_network_knows():
    seen = []

    class Watched(_Gaussian):
        def forward(self, x, sigma):
            seen.append(float(sigma.max()))
            return super().forward(x, sigma)

    pictures = sample_pictures(Watched(), count=4, side=32, steps=40, sigma_max=1.2)
    assert max(seen) == pytest.approx(1.2, rel=1e-6)
    # That is noise enough to forget the start, which is 0.
    assert (pictures.astype(float) / 127.5 - 1).mean() == pytest.approx(0.2, abs=0.02)


def test_denoised_photos_stand_beside_noisy_ones():
    x = torch.full((3, 3, 16, 16), -0.5)
    x[1] = 0.5
    pictures = denoising_pictures(lambda x_t, sigma: torch.where(x_t.mean((1, 2, 3), True) > 0, 0.5, -0.5) + 0 * x_t, x)
    assert pictures.shape == (48, 32, 3)
    noisy, denoised = pictures[:, :16], pictures[:, 16:]
    assert [set(denoised[row : row + 16].flatten().tolist()) for row in (0, 16, 32)] == [{64}, {191}, {64}]
    assert noisy[16:32].mean() > noisy[:16].mean() + 60 and noisy[:16].std() > 20


def test_psnr_of_a_network_that_does_nothing_is_that_of_the_noise():
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    values = denoising_psnr(lambda x_t, sigma: x_t, x)
    assert list(values) == [f"denoising_psnr/{sigma}" for sigma in DENOISING_SIGMAS]
    for sigma in DENOISING_SIGMAS:
        assert values[f"denoising_psnr/{sigma}"] == pytest.approx(20 * math.log10(2 / sigma), abs=0.15)


def test_gain_of_averaging_is_average_minus_raw():
    average = {f"denoising_psnr/{sigma}": 30.0 + sigma for sigma in DENOISING_SIGMAS}
    raw = {f"denoising_psnr/{sigma}": 29.0 - sigma for sigma in DENOISING_SIGMAS}
    entries = ema_gap(average, raw)
    assert len(entries) == 12 and not entries.keys() & average.keys()
    for sigma in DENOISING_SIGMAS:
        assert entries[f"denoising_psnr_raw/{sigma}"] == 29.0 - sigma
        assert entries[f"denoising_psnr_ema_gain/{sigma}"] == pytest.approx(1 + 2 * sigma)


def test_held_out_crops_are_the_centres(photos, tmp_path):
    crops = held_out_crops(find_photos(photos)[:2], side=32)
    assert crops.shape == (2, 3, 32, 32) and crops.min() >= -1 and crops.max() <= 1
    with Image.open(find_photos(photos)[0]) as image:
        centre = np.asarray(image)[8:40, 8:40]
    assert np.array_equal(((crops[0] + 1) * 127.5).round().permute(1, 2, 0).numpy(), centre)
    # A smaller photo is enlarged.
    Image.new("RGB", (7, 90), (255, 0, 0)).save(tmp_path / "small.png")
    assert held_out_crops([tmp_path / "small.png"], side=32).shape == (1, 3, 32, 32)
