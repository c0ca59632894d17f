"""A tiled pass is the whole pass."""

import pytest
import torch

from diffusion import ScoreNetwork
from samplers.tiling import TiledNetwork, tile_windows


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(4, 6), blocks=1, embedding=16)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network.requires_grad_(False)


def _photo(height, width, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("sigma", [0.02, 1.0])
@pytest.mark.parametrize(
    ("height", "width", "tile"), [(96, 80, 32), (97, 83, 32), (61, 130, 40), (1, 120, 33), (90, 2, 8), (40, 40, 64)]
)
def test_tiles_give_what_the_whole_gives(network, height, width, tile, sigma):
    x = _photo(height, width)
    whole = network(x, torch.tensor(sigma))
    torch.testing.assert_close(TiledNetwork(network, tile)(x, torch.tensor(sigma)), whole, rtol=0, atol=1e-5)
    assert (whole - x).abs().max() > 1e-3


def test_halo_is_needed(network, monkeypatch):
    x = _photo(96, 80)
    whole = network(x, torch.tensor(1.0))
    monkeypatch.setattr(type(network), "receptive_field", network.stride)
    assert (TiledNetwork(network, 32)(x, torch.tensor(1.0)) - whole).abs().max() > 1e-4


def test_batches_and_noise_levels_reach_the_network(network):
    x, sigma = _photo(40, 36, batch=3), torch.tensor([0.05, 0.4, 2.0])
    whole = network(x, sigma)
    torch.testing.assert_close(TiledNetwork(network, 16)(x, sigma), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "tile", "halo"), [(100, 32, 16), (7, 32, 16), (64, 32, 0), (65, 32, 200), (1, 1, 1)]
)
def test_windows_cover_every_pixel_once(length, tile, halo):
    places = torch.arange(length)
    written = torch.zeros(length, dtype=torch.long)
    for read, keep, put in tile_windows(length, tile, halo):
        assert torch.equal(places[read][keep], places[put])
        written[put] += 1
        assert put.start - read.start == min(halo, put.start)
        assert read.stop - put.stop == min(halo, length - put.stop)
    assert (written == 1).all()


def test_tiles_start_at_multiples_of_the_stride(network):
    assert TiledNetwork(network, 33).tile == 36
    assert TiledNetwork(network, 1).tile == network.stride


def test_bf16_stays_close(network):
    x = _photo(40, 40)
    half = TiledNetwork(network, 64, precision="bf16")(x, torch.tensor(0.3))
    whole = network(x, torch.tensor(0.3))
    assert half.dtype == torch.float32
    assert 0 < (half - whole).abs().max() < 0.1 * (whole - x).abs().max()


@pytest.mark.parametrize(("options", "named"), [({"tile": 0}, "got 0"), ({"precision": "fp8"}, "'fp8'")])
def test_impossible_tiles_are_refused(network, options, named):
    with pytest.raises(ValueError, match=named):
        TiledNetwork(network, **options)
