"""The share of a restoration that is kept, and the weights that decide it."""

import math

import pytest
import torch

from diffusion import VESDE, ScoreNetwork
from optics import Lens
from samplers import DefocusDeblurPipeline, SamplerSettings
from samplers.trust import trust_features, trusted_share
from train.trust import fit_trust

FEW = {"steps": 3, "corrector": False, "cg_iterations": 2}


def test_the_share_is_the_formulas():
    radius_map = torch.tensor([0.1, 0.3, 1.0, 4.0])[None, None, None]
    confidence = torch.tensor([0.2, 0.9, 0.5, 1.0])[None, None, None]
    share = trusted_share(radius_map, confidence, [-0.5, 0.8, 1.2]).flatten()
    for got, radius, sure in zip(share.tolist(), [0.3, 0.3, 1.0, 4.0], [0.2, 0.9, 0.5, 1.0], strict=True):
        assert got == pytest.approx(1 / (1 + math.exp(0.5 - 0.8 * math.log(radius) - 1.2 * sure)), abs=1e-6)


def test_only_results_of_estimated_maps_are_doubted(monkeypatch):
    # With one operator for all, so that nothing but the share differs.
    monkeypatch.setattr(Lens, "operator", lambda *a, estimated=False, operator=Lens.operator: operator(*a))
    torch.manual_seed(0)
    pipeline = DefocusDeblurPipeline(ScoreNetwork(channels=(8, 8), blocks=1, embedding=16), VESDE())
    coarse = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(3))
    y = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 1)

    def restored(trust, **options):
        # Confidence has a say in the model's error as well.
        settings = SamplerSettings(trust=trust, model_error=0.0, **FEW)
        return pipeline(y, settings=settings, noise_std=0.01, **options)

    whole, part = restored(None), restored([-0.5, 0.8, 1.2])
    assert whole.radius_map.max() > 1
    share = trusted_share(whole.radius_map, whole.confidence, [-0.5, 0.8, 1.2])
    torch.testing.assert_close(part.image - y, share * (whole.image - y), atol=1e-6, rtol=0)
    given = restored([-0.5, 0.8, 1.2], radius_map=whole.radius_map, lens=whole.lens)
    assert torch.equal(given.image, whole.image)


def test_the_fit_finds_the_share_that_errors_were_made_with():
    generator = torch.Generator().manual_seed(0)
    truth, sums = torch.tensor([-0.5, 0.8, 1.2], dtype=torch.double), []
    for _ in range(6):
        radius, sure = (torch.rand(1, 1, 30, 40, generator=generator, dtype=torch.double) for _ in range(2))
        features = trust_features(6 * radius + 0.3, sure)[0].flatten(1).T
        share = torch.sigmoid(features @ truth)
        change = torch.rand(len(share), 64, generator=generator, dtype=torch.double) - 0.5
        error = share[:, None] * change + 0.05 * torch.randn(change.shape, generator=generator, dtype=torch.double)
        sums.append((features, (change**2).mean(1), (error**2).mean(1), (change * error).mean(1)))
    torch.testing.assert_close(fit_trust(sums), truth, atol=0.1, rtol=0)


@pytest.mark.parametrize("trust", [[1.0], [0.0, 0.0, math.nan], []])
def test_impossible_weights_are_refused(trust):
    with pytest.raises(ValueError, match="trust must be null or 3 finite numbers"):
        SamplerSettings(trust=trust)
