"""The colour shift against differences that are known."""

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb

from evaluation.metrics import colour_shift
from optics import to_srgb


def _plain(*lab):
    colour = lab2rgb(np.array(lab, float).reshape(1, 1, 3))
    return torch.from_numpy(np.tile(colour, (40, 50, 1))).permute(2, 0, 1)[None]


def test_grey_differs_by_its_lightness():
    # At L = 50 the formula's weight of lightness is 1.
    assert colour_shift(_plain(49, 0, 0), _plain(51, 0, 0)) == pytest.approx(2, abs=1e-3)


def test_details_are_no_shift_if_their_light_is_the_same():
    checks = torch.from_numpy(np.indices((64, 64)).sum(0) % 2).double()
    light = torch.full((1, 3, 64, 64), 0.3, dtype=torch.float64)
    assert colour_shift(to_srgb(light + 0.2 * (checks - 0.5)), to_srgb(light)) < 0.01
    assert colour_shift(to_srgb(light + 0.01), to_srgb(light)) > 0.5
