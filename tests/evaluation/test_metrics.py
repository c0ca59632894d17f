"""Metrics against scikit-image, hand computation and published values."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from evaluation.metrics import LPIPS, bootstrap_interval, mae, psnr, ssim


def _pair(height=40, width=53, channels=3):
    rng = np.random.default_rng(0)
    reference = rng.random((height, width, channels))
    return np.clip(reference + 0.2 * rng.standard_normal(reference.shape), 0, 1), reference


def _tensor(picture):
    return torch.from_numpy(picture.transpose(2, 0, 1)[None])


def test_psnr_and_mae_of_known_errors():
    reference = torch.full((1, 3, 4, 4), 0.5)
    x = reference.clone()
    x[:, 0] += 0.1
    assert psnr(x, reference) == pytest.approx(10 * math.log10(3 / 0.01), abs=1e-4)
    assert mae(x, reference) == pytest.approx(0.1 / 3, rel=1e-5)
    assert psnr(reference, reference) == math.inf


@pytest.mark.parametrize("size", [(40, 53, 3), (11, 11, 1)])
def test_ssim_equals_scikit_image(size):
    x, reference = _pair(*size)
    expected = structural_similarity(
        x, reference, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
    )
    assert ssim(_tensor(x), _tensor(reference)) == pytest.approx(expected, abs=1e-10)
    assert ssim(_tensor(reference), _tensor(reference)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim, mae])
def test_pictures_of_two_shapes_are_refused(metric):
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 1, 20, 20))


def test_ssim_of_a_picture_below_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_bootstrap_interval_of_a_mean():
    values = np.random.default_rng(1).normal(3.0, 2.0, 200)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(200)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval([2.0]) == (2.0, 2.0)


def test_lpips_without_weights_gives_none_and_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    distance = LPIPS("alex")
    assert distance(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)) is None
    assert "alexnet-owt-7be5be79.pth" in distance.reason


def test_lpips_names_a_broken_environment(monkeypatch, tmp_path):
    (tmp_path / "squeezenet1_1_features.pth").touch()
    monkeypatch.setitem(sys.modules, "lpips", None)
    distance = LPIPS("squeeze", tmp_path)
    assert distance(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)) is None
    assert "cannot be imported" in distance.reason


def test_lpips_refuses_a_folder_without_the_backbone_and_unknown_nets(tmp_path):
    with pytest.raises(ValueError, match="squeezenet1_1_features"):
        LPIPS("squeeze", tmp_path)
    with pytest.raises(ValueError, match="squeeze, alex, vgg"):
        LPIPS("resnet")


@pytest.mark.filterwarnings("error")
@pytest.mark.skipif("SCOREFOCUS_LPIPS_WEIGHTS" not in os.environ, reason="set SCOREFOCUS_LPIPS_WEIGHTS to a folder")
def test_lpips_reproduces_a_published_value(monkeypatch, tmp_path):
    # The example in torchmetrics' documentation of LPIPS-SqueezeNet: seed 42, mean of 10 pairs, 0.1005.
    distance = LPIPS("squeeze", os.environ["SCOREFOCUS_LPIPS_WEIGHTS"])
    assert distance.reason is None
    generator = torch.Generator().manual_seed(42)
    first, second = (torch.rand(10, 3, 100, 100, generator=generator) for _ in range(2))
    values = [distance(first[i : i + 1], second[i : i + 1]) for i in range(10)]
    assert np.mean(values) == pytest.approx(0.1005, abs=5e-5)
    assert distance(first[:1], first[:1]) == 0
    grey = first[:1, :1], second[:1, :1]
    assert distance(*grey) == pytest.approx(distance(*(picture.repeat(1, 3, 1, 1) for picture in grey)))

    # The whole backbone, as torchvision would have stored it, gives the same.
    features = torch.load(Path(os.environ["SCOREFOCUS_LPIPS_WEIGHTS"]) / "squeezenet1_1_features.pth")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    whole = {f"features.{name}": value for name, value in features.items()} | {"classifier.1.bias": torch.zeros(1000)}
    torch.save(whole, tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert LPIPS("squeeze")(first[:1], second[:1]) == pytest.approx(values[0])
