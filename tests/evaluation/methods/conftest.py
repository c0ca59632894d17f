from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.captures import Capture
from optics import DefocusOperator

SIDE = 64


@pytest.fixture
def tiny(saved_pipeline):
    """What makers read of the benchmark's settings, with the tiny network."""
    return SimpleNamespace(weights=str(saved_pipeline), preset="fast", sampler=["cg_iterations=2"])


@pytest.fixture
def trained():
    """What makers read of the benchmark's settings, with the weights of the project."""
    return SimpleNamespace(weights="weights/small", preset="fast", sampler=[])


@pytest.fixture
def stationary():
    """Coloured blocks out of focus by 2.5 pixels everywhere, noise 0.005; the blur reads the real pixels around."""
    return simulate(torch.full((1, 1, SIDE, SIDE), 2.5), 0.005)


@pytest.fixture
def varying():
    """Coloured blocks out of focus by 0.5 to 4 pixels from left to right, noise 0.01."""
    return simulate(torch.linspace(0.5, 4, SIDE).expand(1, 1, SIDE, SIDE), 0.01)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def simulate(radius_map, noise_std):
    operator = DefocusOperator(radius_map)
    random = np.random.default_rng(1)
    height, width = operator.canvas_size
    cells = random.random((3, height // 9 + 1, width // 9 + 1)).astype(np.float32)
    scene = torch.from_numpy(0.1 + 0.8 * cells).repeat_interleave(9, 1).repeat_interleave(9, 2)[None]
    scene = scene[..., :height, :width]
    blurred = operator(scene)
    noise = torch.from_numpy(random.standard_normal(blurred.shape)).float()
    y = (blurred + noise_std * noise).clamp(0, 1)
    return Capture("blocks", "one", "first", y, operator.crop(scene), radius_map)
