"""PSNR, MAE and SSIM against hand computation, scikit-image and torchmetrics."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional as F

from evaluation.metrics import mae, psnr, ssim

SCIKIT = {
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    "uniform": {},
}


def _noisy(reference, rng, std):
    return np.clip(reference + std * rng.standard_normal(reference.shape), 0, 1)


def _pairs():
    """Seventeen random pairs of all sizes down to the window's and three photos, (H, W, C)."""
    rng = np.random.default_rng(0)
    sizes = [(11, 11, 1), (11, 30, 3), *((int(h), int(w), 3) for h, w in rng.integers(12, 60, (15, 2)))]
    references = [rng.random(size) for size in sizes]
    references += [photo()[40:120, 50:170] / 255 for photo in (data.astronaut, data.coffee, data.chelsea)]
    return [(_noisy(reference, rng, rng.uniform(0.01, 0.3)), reference) for reference in references]


def _tensor(picture):
    return torch.from_numpy(picture.transpose(2, 0, 1)[None])


def test_psnr_and_mae_of_known_errors():
    reference = torch.full((1, 3, 4, 4), 0.5)
    x = reference.clone()
    x[:, 0] += 0.1
    assert psnr(x, reference) == pytest.approx(10 * math.log10(3 / 0.01), abs=1e-4)
    assert mae(x, reference) == pytest.approx(0.1 / 3, rel=1e-5)
    assert psnr(reference, reference) == math.inf


@pytest.mark.parametrize("window", SCIKIT)
def test_twenty_pairs_have_scikit_image_s_figures(window):
    pairs = _pairs()
    assert len(pairs) == 20
    for x, reference in pairs:
        expected = structural_similarity(x, reference, data_range=1, channel_axis=2, **SCIKIT[window])
        assert ssim(_tensor(x), _tensor(reference), window) == pytest.approx(expected, abs=1e-9)
        assert ssim(_tensor(reference), _tensor(reference), window) == pytest.approx(1, abs=1e-12)
        expected = peak_signal_noise_ratio(reference, x, data_range=1)
        assert psnr(_tensor(x), _tensor(reference)) == pytest.approx(expected, abs=1e-9)
        assert mae(_tensor(x), _tensor(reference)) == pytest.approx(np.abs(x - reference).mean(), abs=1e-12)


def test_torchmetrics_differs_at_the_border_alone():
    image = pytest.importorskip("torchmetrics.functional.image")
    for x, reference in _pairs():
        x, reference = _tensor(x), _tensor(reference)
        whole, full = image.structural_similarity_index_measure(x, reference, data_range=1.0, return_full_image=True)
        assert ssim(x, reference) == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-6)
        padded = (F.pad(picture, (5, 5, 5, 5), mode="reflect") for picture in (x, reference))
        assert ssim(*padded) == pytest.approx(float(whole), abs=1e-6)
        expected = image.peak_signal_noise_ratio(x, reference, data_range=1.0)
        assert psnr(x, reference) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("metric", [psnr, mae, ssim, partial(ssim, window="uniform")])
def test_pictures_of_two_shapes_are_refused(metric):
    with pytest.raises(ValueError, match=r"one shape .*\(1, 3, 20, 20\) and \(1, 1, 20, 20\)"):
        metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 1, 20, 20))


def test_ssim_names_its_windows_and_refuses_pictures_below_them():
    with pytest.raises(ValueError, match="gaussian or uniform, got 'box'"):
        ssim(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), window="box")
    for window, size in {"gaussian": 11, "uniform": 7}.items():
        small = torch.zeros(1, 3, size - 1, 20)
        with pytest.raises(ValueError, match=f"at least {size}"):
            ssim(small, small, window)
