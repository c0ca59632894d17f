"""The noise estimate against noise of known strength."""

import pytest
import torch
from skimage import data

from optics.noise import MIN_NOISE_STD, estimate_noise_std
from optics.operator import DefocusOperator


def _defocused(name, radius):
    photo = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255
    x = photo[..., :300, :300]
    operator = DefocusOperator(torch.full((1, 1, *x.shape[-2:]), radius))
    return operator(operator.extend(x))


def _captured(x, noise_std):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + noise_std * noise).clamp(0, 1).mul(255).round() / 255


@pytest.mark.parametrize("noise_std", [0.005, 0.01, 0.03])
@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut"])
def test_noise_of_defocused_photos_is_found_within_20_percent(name, noise_std):
    y = _captured(_defocused(name, 2.0), noise_std)
    assert estimate_noise_std(y) == pytest.approx(noise_std, rel=0.2)


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_details_of_a_sharp_photo_are_not_taken_for_noise(name):
    photo = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255
    details = (photo[..., 1:] - photo[..., :-1]).std() / 2**0.5
    assert details > 0.02
    assert estimate_noise_std(photo[..., :300, :300]) < 0.01


def test_noise_alone_is_found_exactly():
    y = _captured(torch.full((1, 3, 512, 512), 0.5), 0.02)
    assert estimate_noise_std(y) == pytest.approx(0.02, rel=0.04)


def test_clipped_blocks_do_not_count():
    y = _captured(torch.full((1, 3, 256, 256), 0.5), 0.02)
    y[..., :200, :] = 1.0
    assert estimate_noise_std(y) == pytest.approx(0.02, rel=0.1)


def test_noise_that_differs_between_channels_is_averaged():
    y = torch.cat([_captured(torch.full((1, 1, 200, 200), 0.5), std) for std in (0.01, 0.02, 0.03)], 1)
    assert estimate_noise_std(y) == pytest.approx(0.0216, rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 2), (3, 3), (5, 17)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_nothing_to_measure_gives_the_least_noise(size, value):
    assert estimate_noise_std(torch.full((1, 1, *size), value)) == MIN_NOISE_STD


def test_another_shape_is_an_error():
    with pytest.raises(ValueError, match="shape"):
        estimate_noise_std(torch.zeros(3, 8, 8))


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.full((1, 3, 40, 40), torch.nan), "finite values, got NaN"),
        (torch.tensor([[[[0.5, 0.5], [0.5, torch.inf]]]]), "finite values"),
        (torch.zeros(1, 3, 0, 40), r"at least one pixel, got the shape \(1, 3, 0, 40\)"),
    ],
)
def test_what_is_no_photo_has_no_noise(y, words):
    with pytest.raises(ValueError, match=words):
        estimate_noise_std(y)
