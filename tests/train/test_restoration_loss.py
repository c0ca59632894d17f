"""What a latent prior is trained on: each part of its loss against a computation by hand."""

import numpy as np
import pytest
import torch

from diffusion.latent_prior import SwinDiff
from evaluation.metrics import LPIPS
from train.restoration_loss import RestorationLoss, perceptual_distance

SMALL = {"channels": (32, 32), "blocks": (1, 1), "windows": (0, 4), "latent": 8, "encoder": 8, "steps": 2}


def test_the_expected_error_is_best_where_it_is_the_mean_error():
    torch.manual_seed(0)
    loss = RestorationLoss(SwinDiff(**SMALL), error_weight=1.0)
    y = torch.zeros(1, 3, 16, 16)
    x = torch.full_like(y, 0.2)
    bias = loss.network.backbone.error[-1].bias
    losses = []
    for expected in (0.1, 0.2, 0.4):
        with torch.no_grad():
            # A fresh network answers e^-3.
            bias.fill_(np.log(expected) + 3)
        photo, prior, likelihood = loss(x, y, torch.ones(1, 1), torch.zeros(1, 16, 8))
        losses.append(float(likelihood.detach()))
        # log 2 b + e / b
        assert losses[-1] == pytest.approx(np.log(2 * expected) + 0.2 / expected, abs=1e-3)
        assert float(photo.detach()) == pytest.approx(0.2) and float(prior) == 0
    assert losses[1] == min(losses)


def test_the_spectrum_counts_by_its_weight():
    y = torch.zeros(2, 3, 16, 16)
    wave = 0.3 * torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16)
    # A constant, and a wave along the columns; a fresh network answers the capture itself.
    x = torch.stack([torch.full((3, 16, 16), 0.2), wave.expand(3, 16, 16)])
    network = SwinDiff(**SMALL)
    keep, noise = torch.ones(2, 1), torch.zeros(2, 16, 8)
    losses = [RestorationLoss(network, 1.0, spectrum_weight=weight)(x, y, keep, noise)[0] for weight in (0.0, 2.0)]
    # Of 16 x 9 frequencies that are kept a constant c has one of modulus 16 c, a wave of amplitude a one of 8 a.
    expected = 2 * torch.tensor([16 * 0.2, 8 * 0.3]) / (16 * 9)
    torch.testing.assert_close(losses[1] - losses[0], expected, atol=1e-5, rtol=0)


def test_looks_count_by_their_weight_and_are_trained_by(squeeze_backbone):
    x, y = (2 * torch.rand(2, 2, 3, 32, 32) - 1).unbind()
    network = SwinDiff(**SMALL)
    keep, noise = torch.ones(2, 1), torch.zeros(2, 16, 8)
    distance = perceptual_distance(3.0, str(squeeze_backbone))
    losses = [
        RestorationLoss(network, 1.0, perceptual_weight=weight, perceptual=distance)(x, y, keep, noise)[0]
        for weight in (0.0, 3.0)
    ]
    # A fresh network answers the capture itself; LPIPS as the benchmark computes it.
    lpips = LPIPS("squeeze", squeeze_backbone)
    measured = torch.tensor([lpips((a[None] + 1) / 2, (b[None] + 1) / 2) for a, b in zip(y, x, strict=True)])
    assert measured.min() > 0.01
    torch.testing.assert_close(losses[1] - losses[0], 3 * measured, atol=1e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(loss.sum(), network.backbone.parameters(), allow_unused=True) for loss in losses]
    assert any(a is not None and not torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_the_prior_of_stage_2_is_trained_towards_that_of_stage_1():
    torch.manual_seed(0)
    loss = RestorationLoss(SwinDiff(**SMALL, stage=2), error_weight=1.0)
    x, y = torch.rand(2, 2, 3, 16, 16)
    network = loss.network
    target = network.pair_prior(x, y).detach()
    prior = network.prior(network.capture_encoder(y), network.latent_diffusion.noised(target, 2, torch.ones(2, 16, 8)))
    _, distance, _ = loss(x, y, torch.ones(2, 1), torch.ones(2, 16, 8))
    torch.testing.assert_close(distance, (prior - target).abs().mean((1, 2)))
    distance.sum().backward()
    assert network.latent_diffusion.widen.weight.grad.any() and network.capture_encoder.stem.weight.grad.any()
    assert all(parameter.grad is None for parameter in network.pair_encoder.parameters())
