"""Blurring once more: what it does to the radius, to distributions over it, to noise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from optics import defocus_psf
from train.photo_cache import PhotosInMemory
from train.radius_likelihood import soft_labels
from train.reblur_consistency import BlurredOnceMore, blurred_once_more, consistency_loss, moved

RADII = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)


@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
def test_radii_add_in_squares_and_psfs_stay_in_the_family(softness):
    # A disk of variance (1 - s) r^2 / 4 with a Gaussian of s r^2 / 4 + r0^2 / 4.
    radius, added = 3.0, 2.5
    total = np.hypot(radius, added)
    blurred = gaussian_filter(defocus_psf(radius, softness, reach=15).numpy(), added / 2, mode="constant", truncate=6)
    expected = defocus_psf(total, min((softness * radius**2 + added**2) / total**2, 1), reach=15).numpy()
    # Both hold the variance of one pixel.
    assert np.abs(blurred - expected).max() < 0.02 * expected.max()
    variance, nominal = ((psf.sum(0) * np.arange(-15, 16) ** 2).sum() for psf in (blurred, expected))
    assert variance == pytest.approx(nominal, rel=0.01)


def test_moved_distributions_are_distributions_of_the_moved_radius():
    added = torch.tensor([0.0, 1.2, 2.0])
    probability = torch.rand(3, len(RADII), 2, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    result = moved(probability, RADII, added)
    assert torch.allclose(result.sum(1), torch.ones(()), atol=1e-6)
    assert torch.allclose(result[0], probability[0], atol=1e-6)
    # The mean of sqrt(r^2 + r0^2), where none lies beyond the last candidate.
    nodes = torch.tensor(RADII)
    inside = torch.zeros_like(probability)
    inside[:, :6] = probability[:, :6] / probability[:, :6].sum(1, keepdim=True)
    mean = (moved(inside, RADII, added) * nodes[:, None, None]).sum(1)
    expected = (inside * (nodes.square() + added[:, None].square()).sqrt()[..., None, None]).sum(1)
    assert torch.allclose(mean, expected, atol=1e-5)


def test_a_damaged_capture_is_drawn_again(tmp_path):
    whole, damaged = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole)
    damaged.write_bytes(whole.read_bytes()[:2000])
    captures = SimpleNamespace(config=SimpleNamespace(patch=32), batch=4)
    for files in ([whole, damaged], [damaged]):
        samples = BlurredOnceMore(captures, PhotosInMemory(files, 1.0))
        if whole in files:
            parts = [samples._part_of_a_photo(np.random.default_rng(seed)) for seed in range(8)]
            assert {part.shape for part in parts} == {(3, 32, 32)}
        else:
            with pytest.raises(ValueError, match="objective.captures: expected whole photos of at least 32 pixels"):
                samples._part_of_a_photo(np.random.default_rng(0))


def test_the_loss_is_least_where_the_radius_has_grown_as_it_must():
    truth, added = 2.0, torch.tensor([1.5])
    visible = torch.ones(1, 1, 1, 1)
    plain = soft_labels(torch.full((1, 1, 1, 1), truth), RADII)
    grid = np.arange(0.25, 5, 0.25)
    # Narrow distributions about each radius, of the same width.
    nodes = torch.tensor(RADII)
    found = [torch.log_softmax(-2 * (nodes - r).square(), 0)[None, :, None, None] for r in grid.astype(np.float32)]
    losses = [float(consistency_loss(plain, log_again, RADII, added, visible)) for log_again in found]
    assert grid[int(np.argmin(losses))] == pytest.approx(np.hypot(2.0, 1.5), abs=0.13)
    # Gibbs: of all distributions none is better than the moved one.
    target = moved(plain, RADII, added)
    least = consistency_loss(plain, target.clamp(min=1e-9).log(), RADII, added, visible)
    assert least <= min(losses) + 1e-4
    assert consistency_loss(plain, found[0], RADII, added, 0 * visible) == 0


def test_the_teacher_gets_no_gradient():
    logits = torch.zeros(1, len(RADII), 1, 1, requires_grad=True)
    again = torch.zeros(1, len(RADII), 1, 1, requires_grad=True)
    added = torch.tensor([1.0])
    loss = consistency_loss(logits.softmax(1), again.log_softmax(1), RADII, added, torch.ones(1, 1, 1, 1))
    loss.sum().backward()
    assert logits.grad is None and again.grad.abs().sum() > 0


def test_noise_is_given_back_and_is_no_sign_of_blur():
    rng = np.random.default_rng(0)
    noise = (0.5 + 0.03 * rng.standard_normal((3, 128, 128))).astype(np.float32)
    # The variance of noise that was blurred and added to is that of before, within the error of its estimate: little
    # blur leaves 40 % of it, much blur next to nothing.
    for added in (1.0, 3.0):
        again, visible = blurred_once_more(noise, added, rng)
        assert again.std() == pytest.approx(noise.std(), rel=0.07)
    assert visible.shape == (1, 32, 32) and visible.mean() < 0.1
    edges = noise.copy()
    edges[:, :, ::8] += 0.3
    _, seen = blurred_once_more(edges.clip(0, 1), 3.0, rng)
    assert seen.mean() > 0.5
