"""The deblurring probe: what it simulates, what it reports, and that it stays the same."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion import ScoreNetwork
from optics import DefocusOperator
from photos import find_photos
from train.probe import DeblurringProbe

SIDE = 64


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three smooth pictures with edges, of different sizes, one smaller than the probe."""
    root = tmp_path_factory.mktemp("pictures")
    for seed, side in enumerate((100, 110, 50)):
        cells = np.random.default_rng(seed).integers(30, 226, (side // 10, side // 10, 3), dtype=np.uint8)
        Image.fromarray(cells.repeat(10, 0).repeat(10, 1)).save(root / f"{seed}.png")
    return find_photos(root)


@pytest.fixture(scope="module")
def probe(pictures):
    return DeblurringProbe(pictures, torch.device("cpu"), captures=4, side=SIDE)


class _Smoother(torch.nn.Module):
    """A denoiser that averages its neighbours the more, the more noise there is."""

    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, sigma, asked=None):
        smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        share = (sigma / (sigma + 0.2)).reshape(-1, 1, 1, 1)
        return x + share * (smooth - x)

    stride, receptive_field = 2, 2


def test_captures_are_those_of_the_operator_up_to_noise(probe):
    assert len(probe.x) == len(probe.y) == 4
    for x, y, radii in zip(probe.x, probe.y, probe.radius_maps, strict=True):
        assert x.shape == y.shape == (1, 3, SIDE, SIDE) and radii.shape == (1, 1, SIDE, SIDE)
        operator = DefocusOperator(radii)
        # The border sees pixels beyond the photo that the operator is not given here.
        inside = (..., slice(12, -12), slice(12, -12))
        error = (operator(operator.extend(x)) - y)[inside]
        assert 0.006 < error.std() < 0.017 and (x - y)[inside].std() > 2 * error.std()
        assert torch.equal((255 * y).round() / 255, y)
    # The fourth capture is of the first photo again, with another map.
    assert torch.equal(probe.x[0], probe.x[3]) and not torch.equal(probe.radius_maps[0], probe.radius_maps[3])
    assert {round(float(radii.max()), 2) for radii in probe.radius_maps} == {5.95, 5.0, 3.0}


def test_gain_is_that_of_its_pictures(probe):
    figures, picture = probe(_Smoother())
    assert picture.shape == (4 * SIDE, 3 * SIDE, 3) and picture.dtype == np.uint8
    columns = picture.reshape(4, SIDE, 3, SIDE, 3).astype(float) / 255
    captures, restored, photos = (columns[:, :, column] for column in range(3))

    def psnr(values):
        return float((-10 * np.log10(((values - photos) ** 2).mean(axis=(1, 2, 3)))).mean())

    assert figures["deblurring/psnr"] == pytest.approx(psnr(restored), abs=0.05)
    assert figures["deblurring/psnr_gain"] == pytest.approx(psnr(restored) - psnr(captures), abs=0.05)
    assert figures["deblurring/psnr_gain"] > 0.5


def test_probe_is_deterministic_and_leaves_the_network_alone(pictures):
    probe, same = (DeblurringProbe(pictures, torch.device("cpu"), captures=2, side=32) for _ in range(2))
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(8, 8), blocks=1, embedding=16)
    torch.nn.init.normal_(network.head.weight, std=0.01)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    first = probe(network, seed=3)
    assert torch.equal(torch.get_rng_state(), random_state) and network.training
    again = same(network, seed=3)
    assert first[0] == again[0] and np.array_equal(first[1], again[1])
    assert all(np.isfinite(value) for value in first[0].values())
    assert probe(network, seed=4)[0] != first[0]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
