"""Swin-Diff as a restorer: tiles give the whole photo, and the prior is that of the whole photo."""

import pytest
import torch

from diffusion.latent_prior import SwinDiff
from restorers.swin_diff import SwinDiffRestorer


def _network(stage):
    """A small network with random parameters, whose every layer has a say; reach 48 px on a grid of 16."""
    torch.manual_seed(0)
    network = SwinDiff(channels=(32, 32), blocks=(1, 1), windows=(0, 4), latent=8, encoder=8, steps=3, stage=stage)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return network.eval()


@pytest.mark.parametrize("stage", [1, 2])
def test_tiles_give_the_whole_photo(stage):
    network = _network(stage)
    assert (network.grid, network.receptive_field) == (16, 48)
    # No multiple of anything, and larger than a tile with its halo.
    y = torch.rand(1, 3, 171, 93, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole, tiled = (SwinDiffRestorer(network, tile, "fp32").regress(y) for tile in (1024, 17))
    direct = network(y)
    for one in (whole, tiled):
        torch.testing.assert_close(one.x, direct.x.detach(), atol=1e-4, rtol=0)
        torch.testing.assert_close(one.log_scale, direct.log_scale.detach(), atol=1e-4, rtol=0)


def test_far_pixels_have_a_say_through_the_prior_alone():
    y = torch.rand(1, 3, 64, 160, generator=torch.Generator().manual_seed(1)) * 2 - 1
    changed = y.clone()
    changed[..., -8:] = -changed[..., -8:]
    for stage, same in ((1, True), (2, False)):
        restorer = SwinDiffRestorer(_network(stage))
        near, far = (restorer.regress(one).x[..., :16] for one in (y, changed))
        assert torch.equal(near, far) == same


def test_photos_stay_in_range_and_a_seed_gives_one_photo():
    restorer = SwinDiffRestorer(_network(2))
    y = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    first = restorer(y)
    assert first.min() >= 0 and first.max() <= 1 and torch.equal(first, restorer(y))
    assert torch.equal(first, restorer(y, torch.Generator().manual_seed(0)))
    assert not torch.equal(first, restorer(y, torch.Generator().manual_seed(1)))


def test_where_no_estimate_is_wanted_the_capture_stays_whatever_the_tiles():
    network = _network(2)
    y = torch.rand(1, 3, 61, 83, generator=torch.Generator().manual_seed(3)) * 2 - 1
    asked = torch.zeros(61, 83, dtype=torch.bool)
    asked[20:33, 41:60] = True
    for tile in (1024, 17):
        restorer = SwinDiffRestorer(network, tile, "fp32")
        whole, part = restorer.regress(y), restorer.regress(y, asked=asked)
        for one, other, known in zip(whole, part, (y, torch.zeros_like(y[:, :1])), strict=True):
            torch.testing.assert_close(other, torch.where(asked, one, known), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"), [({"tile": 0}, "at least 1 pixel, got 0"), ({"precision": "fp16"}, "fp32 or bf16")]
)
def test_settings_that_cannot_be_used_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        SwinDiffRestorer(_network(1), **options)
