"""A tiled pass is the whole pass."""

import pytest
import torch

from diffusion import ScoreNetwork
from samplers.tiling import Known, TiledNetwork, near_blur


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


def _asked(height, width):
    """Two patches and a pixel in a corner."""
    asked = torch.zeros(height, width, dtype=torch.bool)
    asked[10:31, 20:34], asked[60:70, 50:77], asked[-1, -1] = True, True, True
    return asked


@pytest.mark.parametrize("tile", [8, 32, 200])
def test_what_is_known_is_not_asked_and_all_else_is_as_of_the_whole(network, tile):
    x, sigma = _photo(97, 83, batch=2), torch.tensor(0.4)
    asked, photo = _asked(97, 83), _photo(97, 83) / 2
    result = TiledNetwork(network, tile, known=Known(asked, photo))(x, sigma)
    expected = torch.where(asked, network(x, sigma), photo)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    assert torch.equal(result[..., ~asked], photo.expand_as(x)[..., ~asked])


def test_the_network_sees_no_more_than_what_was_asked_and_its_reach(network, monkeypatch):
    seen = []
    forward = type(network).forward

    def watched(self, x, sigma, modulations=None, asked=None):  # noqa: ANN001
        seen.append(tuple(x.shape))
        return forward(self, x, sigma, modulations, asked)

    monkeypatch.setattr(type(network), "forward", watched)
    monkeypatch.setattr(type(network), "receptive_field", 4)
    asked = torch.zeros(200, 200, dtype=torch.bool)
    TiledNetwork(network, 64, known=Known(asked, torch.zeros(1)))(_photo(200, 200), torch.tensor(0.4))
    assert not seen
    asked[70:80, 130:140] = True
    TiledNetwork(network, 64, known=Known(asked, torch.zeros(1)))(_photo(200, 200), torch.tensor(0.4))
    # From multiples of the stride of 4 before them to their ends, and 4 more on every side.
    assert seen == [(1, 3, 80 - 68 + 8, 140 - 128 + 8)]


@pytest.mark.parametrize("known", [False, True])
def test_each_pixel_is_asked_for_once_and_only_where_nothing_is_known(network, monkeypatch, known):
    questions = []
    forward = type(network).forward

    def watched(self, x, sigma, modulations=None, asked=None):  # noqa: ANN001
        questions.append(asked)
        return forward(self, x, sigma, modulations, asked)

    monkeypatch.setattr(type(network), "forward", watched)
    asked = _asked(97, 83)
    TiledNetwork(network, 32, known=Known(asked, torch.zeros(1)) if known else None)(_photo(97, 83), torch.tensor(0.4))
    assert sum(int(question.sum()) for question in questions) == (asked.sum() if known else 97 * 83)
    questions.clear()
    # A tile that is the whole photo leaves nothing out.
    TiledNetwork(network, 200)(_photo(97, 83), torch.tensor(0.4))
    assert questions == [None]


def test_the_surroundings_of_blur_are_asked_for_and_nothing_else():
    radius_map = torch.zeros(1, 1, 300, 400)
    radius_map[..., 100, 200] = 0.5
    rows, columns = torch.meshgrid(torch.arange(300), torch.arange(400), indexing="ij")
    distance = torch.maximum((rows - 100).abs(), (columns - 200).abs())
    asked = near_blur(radius_map, 7)
    assert asked.shape == (300, 400)
    assert asked[distance <= 7 + 32].all() and not asked[distance > 7 + 32 + 2 * 16].any()
    assert not near_blur(torch.zeros(1, 1, 30, 40), 7).any()


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
