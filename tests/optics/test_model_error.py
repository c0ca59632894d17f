"""The error of the model against the difference of two blurs that it predicts."""

import math

import pytest
import torch

from optics import DefocusOperator
from optics.model_error import _FLOOR, _OCCLUSION, clipping_std, model_error_std

SIZE = 96


def _waves(period):
    phase = 2 * math.pi * torch.arange(SIZE + 40) / period
    return (0.5 + 0.4 * phase.sin()).expand(1, 3, SIZE + 40, -1).contiguous()


@pytest.mark.parametrize("softness", [0.0, 1.0])
@pytest.mark.parametrize(("radius", "period"), [(1.5, 24.0), (3.0, 32.0), (5.0, 48.0)])
def test_predicts_what_a_wrong_radius_leaves(radius, period, softness):
    relative_error, photo = 0.05, _waves(period)

    def blurred(radius):
        operator = DefocusOperator(torch.full((1, 1, SIZE, SIZE), radius), softness)
        extra = 20 - operator.margin
        return operator(photo[..., extra : extra + operator.canvas_size[0], extra : extra + operator.canvas_size[1]])

    change = (blurred(radius * (1 + relative_error)) - blurred(radius * (1 - relative_error))) / 2
    predicted = model_error_std(blurred(radius), torch.full((1, 1, SIZE, SIZE), radius), relative_error)
    inner = slice(16, -16)
    variance = predicted[..., inner, inner].square().mean() - (relative_error * radius * _FLOOR) ** 2
    # Means over the picture, for single windows hold more or less of a wave; a Laplacian is the first term of a series.
    expected = change[..., inner, inner].square().mean().sqrt()
    assert float(variance.sqrt() / expected) == pytest.approx(1, abs=0.15)


def test_a_flat_picture_has_the_floor_and_a_sharp_one_none():
    flat = torch.full((1, 3, 20, 9), 0.3)
    error = model_error_std(flat, torch.full((1, 1, 20, 9), 5.0), 0.2)
    torch.testing.assert_close(error, torch.full_like(error, 0.2 * 5 * _FLOOR))
    busy = torch.rand(1, 3, 20, 9, generator=torch.Generator().manual_seed(1))
    assert not model_error_std(busy, torch.zeros(1, 1, 20, 9), 0.2).any()


def test_contrast_is_local():
    y = torch.full((1, 3, 40, 80), 0.5)
    y[..., 40:] += 0.2 * torch.sin(torch.arange(40) / 2.0)
    error = model_error_std(y, torch.full((1, 1, 40, 80), 4.0), 0.2)[0, 0, 20]
    assert float(error[60]) > 2 * float(error[20])


def test_a_jump_of_the_radius_is_an_error_of_its_size():
    radius_map = torch.full((1, 1, 40, 80), 2.0)
    radius_map[..., 40:] = 5.0
    error = model_error_std(torch.full((1, 3, 40, 80), 0.3), radius_map, 0.2)[0, 0, 20] / (0.2 * _FLOOR)
    assert float(error[20]) == pytest.approx(2) and float(error[60]) == pytest.approx(5)
    assert float(error[38]) == pytest.approx(math.hypot(2, _OCCLUSION * 3))


def test_clipped_light_is_doubted_as_far_as_it_reaches():
    y = torch.full((1, 3, 40, 60), 0.4)
    y[:, 0, :, 30:] = 1.0
    operator = DefocusOperator(torch.full((1, 1, 40, 60), 3.0))
    doubt = clipping_std(y, operator)
    # Up to the rounding of FFTs.
    assert doubt[:, 1:].max() < 1e-6 and doubt[..., :26].max() < 1e-6
    # A straight border halves the disk of a pixel on it; beyond it lies 0 to 1 of the disk.
    assert float(doubt[0, 0, 20, 29] + doubt[0, 0, 20, 30]) == pytest.approx(float(doubt.max()), abs=1e-5)
    assert torch.all(doubt[0, 0, 20].diff() > -1e-6)
