"""What is kept keeps its bits; the rest is a linear blend."""

import pytest
import torch

from samplers.composition import compose, share_of_radius


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(2, 1, 3, 40, 50, generator=generator)).unbind(0)


def _radii():
    """From 0 at the left to 10 px at the right, with a step in the middle."""
    ramp = torch.linspace(0, 10, 50).expand(40, 50).clone()
    ramp[:20, 10:15] = 9
    return ramp[None, None]


def test_without_a_wish_the_result_is_the_restoration(pictures):
    before, after = pictures
    assert torch.equal(compose(before, after, _radii()), after)
    assert torch.equal(compose(before, after, _radii(), mask=torch.ones(1, 1, 40, 50), max_radius=1e9), after)


def test_kept_pixels_have_the_bits_of_the_photo(pictures):
    before, after = pictures
    mask = (torch.rand(1, 1, 40, 50, generator=torch.Generator().manual_seed(1)) > 0.3).float()
    result = compose(before, after, _radii(), mask=mask, max_radius=6.0, strength=0.9)
    kept = ((mask == 0) | (_radii() >= 6)).expand_as(before)
    assert 0 < kept.sum() < kept.numel()
    assert torch.equal(result[kept], before[kept])
    assert not torch.equal(result[~kept], before[~kept])
    assert torch.equal(compose(before, after, _radii(), strength=0.0), before)


def test_the_blend_is_linear_in_strength_and_mask(pictures):
    before, after = pictures
    grey = torch.rand(1, 1, 40, 50, generator=torch.Generator().manual_seed(2))
    whole = compose(before, after, _radii(), max_radius=8.0) - before
    for strength in (0.25, 0.7):
        result = compose(before, after, _radii(), mask=grey, max_radius=8.0, strength=strength)
        assert torch.allclose(result, before + strength * grey * whole, atol=1e-6)


def test_the_share_falls_smoothly_and_never_exceeds_its_radius():
    radius = torch.linspace(0, 10, 400).expand(1, 1, 30, 400)
    share = share_of_radius(radius, 5.0)[0, 0, 15]
    # Below 0.8 R it is 1, but for the feather; nothing at R and beyond; it never rises and makes no step.
    assert (share[: int(0.8 * 200) - 8] == 1).all() and (share[200:] == 0).all()
    assert (share.diff() <= 1e-6).all() and share.diff().abs().max() < 0.05
    # Across a step in the map the share changes over several pixels, all of them on the side that is restored.
    step = torch.full((1, 1, 20, 40), 1.0)
    step[..., 20:] = 9.0
    across = share_of_radius(step, 5.0)[0, 0, 10]
    assert (across[20:] == 0).all() and across[19] < 0.2 and across.diff().abs().max() < 0.2
    assert (across[:10] == 1).all()


def test_a_pixel_that_is_kept_is_kept_whatever_surrounds_it():
    radius = torch.ones(1, 1, 25, 25)
    radius[0, 0, 12, 12] = 5.0
    share = share_of_radius(radius, 5.0)
    assert share[0, 0, 12, 12] == 0 and share[0, 0, 0, 0] == 1
