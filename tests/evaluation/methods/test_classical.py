"""Deconvolution with one PSF, on captures that have one."""

import builtins
from dataclasses import replace

import pytest
import torch

from evaluation.methods import MethodUnavailable
from evaluation.methods.classical import richardson_lucy, unsupervised_wiener, wiener
from evaluation.metrics import psnr

CPU = torch.device("cpu")
METHODS = {"richardson-lucy": richardson_lucy, "wiener": wiener, "unsupervised-wiener": unsupervised_wiener}


@pytest.fixture(autouse=True)
def _scikit_image():
    pytest.importorskip("skimage")


@pytest.mark.parametrize("name", METHODS)
def test_stationary_blur_is_undone(name, stationary, generator):
    result = METHODS[name](None, CPU)(stationary, stationary.radius_map, generator)
    assert result.image.shape == stationary.y.shape and result.image.dtype == stationary.y.dtype
    assert result.evaluations == 0
    assert psnr(result.image, stationary.x) > psnr(stationary.y, stationary.x) + 1.2


@pytest.mark.parametrize("name", METHODS)
def test_edges_are_restored_like_the_middle(name, stationary, generator):
    # Without an extension the transform wraps around, and the opposite side rings into this one.
    restored = METHODS[name](None, CPU)(stationary, stationary.radius_map, generator).image
    near, far = slice(3), slice(-3, None)
    for edge in ((..., near), (..., far), (..., near, slice(None)), (..., far, slice(None))):
        assert psnr(restored[edge], stationary.x[edge]) > psnr(stationary.y[edge], stationary.x[edge])


def test_psf_is_that_of_the_mean_radius(varying, generator):
    result = wiener(None, CPU)(varying, varying.radius_map, generator)
    mean = torch.full_like(varying.radius_map, float(varying.radius_map.mean()))
    assert torch.equal(result.radius_map, mean)
    assert torch.equal(result.image, wiener(None, CPU)(varying, mean, generator).image)


def test_wiener_lets_less_noise_through_where_there_is_more(stationary, generator):
    def share(noise_std):
        noise = noise_std * torch.randn(stationary.y.shape, generator=generator)
        more, less = (
            wiener(None, CPU)(replace(stationary, y=y), stationary.radius_map, generator).image
            for y in ((stationary.y + noise).clamp(0, 1), (stationary.y - noise).clamp(0, 1))
        )
        return float((more - less).std() / (2 * noise_std))

    assert share(0.04) < 0.5 * share(0.005)


def test_sharp_captures_are_returned(stationary, generator):
    for make in METHODS.values():
        result = make(None, CPU)(stationary, torch.full_like(stationary.radius_map, 0.4), generator)
        assert torch.equal(result.image, stationary.y)


def test_same_seed_same_picture(stationary):
    method = unsupervised_wiener(None, CPU)
    first, second, other = (
        method(stationary, stationary.radius_map, torch.Generator().manual_seed(seed)).image for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_missing_package_is_named(monkeypatch):
    really = builtins.__import__

    def fail(name, *arguments, **options):
        if name.startswith("skimage"):
            raise ImportError(name)
        return really(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MethodUnavailable, match=r"scikit-image.*scorefocus\[peers\]"):
        wiener(None, CPU)
