"""The mean of a regression and a sampler's result, with the details that averaging takes given back."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from samplers import mixture as module
from samplers.mixture import mixture


def _random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _checkered(channel: int, strength: float) -> torch.Tensor:
    """Grey, with a pattern in one colour whose mean over 5 x 5 px is not quite that."""
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    picture = torch.full((1, 3, 40, 50), 0.5)
    picture[0, channel] += strength * (1 - 2 * ((rows + columns) % 2))
    return picture


@pytest.mark.parametrize(
    ("share", "strength", "detail"),
    [(0.5, 0.1, 1.0), (0.35, 0.06, 2.0), (0.2, 0.15, 0.5), (0.5, 0.1, 4.0)],
)
def test_details_that_have_nothing_in_common_are_made_as_strong_as_those_of_the_parts(share, strength, detail):
    u, v = _checkered(0, 0.1), _checkered(1, strength)
    mixed = mixture(u, v, torch.full((1, 1, 40, 50), share), detail)
    # Patterns of two colours are orthogonal: the strength of their mean is the root of the sum of squares.
    parts = (1 - share) * 0.1, share * strength
    gain = min((sum(parts) / math.hypot(*parts)) ** detail, 1.5)
    mean = torch.lerp(u, v, share)
    details = mean - torch.nn.functional.avg_pool2d(mean, 5, 1, 2, count_include_pad=False)
    torch.testing.assert_close(mixed, mean + (gain - 1) * details, atol=1e-4, rtol=0)


def test_strengths_are_those_of_the_formula():
    u, v, share = _random(1, 3, 40, 50), _random(1, 3, 40, 50, seed=1), _random(1, 1, 40, 50, seed=2)
    # Details that grow to the right, and few enough for nothing to be clipped.
    u, v = (0.5 + torch.linspace(0.02, 0.4, 50) * (picture - 0.5) for picture in (u, v))
    mean = torch.lerp(u, v, share)
    (u_s, v_s, mean_s), details = (_strength(picture)[0] for picture in (u, v, mean)), _strength(mean)[1]
    gain = ((1 - share) * u_s + share * v_s) / mean_s
    assert gain.min() > 1 and gain.max() < 1.5
    expected = mean.double() + (gain - 1) * details
    torch.testing.assert_close(mixture(u, v, share, 1.0).double(), expected, atol=1e-4, rtol=0)


def _strength(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """S and h by another filter, float64: (1, 1, H, W) and (1, 3, H, W)."""
    values = picture[0].double().numpy()
    details = values - np.stack([_mean(channel, 5) for channel in values])
    strength = np.sqrt(_mean((details**2).mean(0), 17))
    return torch.from_numpy(strength)[None, None], torch.from_numpy(details)[None]


def _mean(values: np.ndarray, side: int) -> np.ndarray:
    weights = uniform_filter(np.ones_like(values), side, mode="constant")
    return uniform_filter(values, side, mode="constant") / weights


def test_what_both_agree_on_is_kept():
    u, v, share = _random(1, 3, 40, 50), _random(1, 3, 40, 50, seed=1), _random(1, 1, 40, 50, seed=2)
    torch.testing.assert_close(mixture(u, u, share, 2.0), u, atol=1e-6, rtol=0)
    assert torch.equal(mixture(u, v, share, 0.0), torch.lerp(u, v, share))
    share[..., :30] = 0
    mixed = mixture(u, v, share, 2.0)
    # Ten pixels away from where there is any of v, there is none of it.
    assert torch.equal(mixed[..., :20], u[..., :20]) and not torch.equal(mixed[..., 20:30], u[..., 20:30])


def test_windows_give_what_the_whole_photo_does(monkeypatch):
    u, v, share = _random(1, 3, 100, 150), _random(1, 3, 100, 150, seed=1), _random(1, 1, 100, 150, seed=2)
    whole = mixture(u, v, share, 2.0)
    assert whole.min() >= 0 and whole.max() <= 1 and not torch.equal(whole, torch.lerp(u, v, share))
    monkeypatch.setattr(module, "_SIDE", 32)
    torch.testing.assert_close(mixture(u, v, share, 2.0), whole, atol=1e-6, rtol=0)


def test_flat_pictures_stay_flat():
    u, v = torch.full((1, 3, 20, 30), 0.25), torch.full((1, 3, 20, 30), 0.75)
    torch.testing.assert_close(mixture(u, v, torch.full((1, 1, 20, 30), 0.5), 3.0), torch.full((1, 3, 20, 30), 0.5))
