"""Level by level in windows, a network gives what it gives for the whole photo."""

import pytest
import torch

from diffusion import ScoreNetwork
from diffusion.windows import in_windows, wanted_features

SIGMA = torch.tensor(0.7)


@pytest.fixture(params=[((4, 6, 8), (1, 2, 1)), ((4, 6), 2), ((5,), 1)], ids=str)
def network(request):
    torch.manual_seed(0)
    channels, blocks = request.param
    network = ScoreNetwork(channels=channels, blocks=blocks, embedding=16)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network.requires_grad_(False)


@pytest.fixture
def narrow(monkeypatch):
    """Windows much smaller than photos."""
    monkeypatch.setattr("diffusion.windows._SIDE", 8)


def _photo(height, width, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _whole(network, x, sigma, modulations=None):
    """With gradients enabled, nothing is cut."""
    with torch.enable_grad():
        return network(x, sigma, modulations)


@pytest.mark.parametrize(("height", "width"), [(96, 80), (97, 83), (3, 130), (130, 1)])
def test_windows_give_what_the_whole_gives(network, narrow, height, width):
    x = _photo(height, width, batch=2)
    whole = _whole(network, x, SIGMA)
    with torch.no_grad():
        torch.testing.assert_close(network(x, SIGMA), whole, rtol=0, atol=1e-5)
    assert (whole - x).abs().max() > 1e-3


def test_modulations_reach_every_window(network, narrow):
    x = _photo(70, 90)
    modulations = [torch.randn(1, 2 * width) for width in network.widths]
    whole = _whole(network, x, SIGMA, modulations)
    with torch.no_grad():
        torch.testing.assert_close(network(x, SIGMA, modulations), whole, rtol=0, atol=1e-5)
        assert (network(x, SIGMA) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_needs_all_of_its_halo(narrow, monkeypatch, level):
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(4, 6, 8), blocks=2, embedding=16).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    x, halo = _photo(160, 160), ScoreNetwork._halo
    whole = _whole(network, x, SIGMA)
    monkeypatch.setattr(ScoreNetwork, "_halo", lambda self, at: halo(self, at) - 2 * (at == level))
    with torch.no_grad():
        assert (network(x, SIGMA) - whole).abs().max() > 1e-5


@pytest.mark.parametrize("window", [8, 32, 256])
def test_what_was_asked_is_as_of_the_whole(network, monkeypatch, window):
    monkeypatch.setattr("diffusion.windows._SIDE", window)
    x, asked = _photo(147, 131), torch.zeros(147, 131, dtype=torch.bool)
    asked[40:51, 61:70], asked[100, 17], asked[-1, -1] = True, True, True
    whole = _whole(network, x, SIGMA)
    with torch.no_grad():
        result = network(x, SIGMA, asked=asked)
    assert result.shape == x.shape
    torch.testing.assert_close(result[..., asked], whole[..., asked], rtol=0, atol=1e-5)


def test_what_was_not_asked_costs_nothing(narrow, monkeypatch):
    network = ScoreNetwork(channels=(4, 6, 8), blocks=1, embedding=16).requires_grad_(False)
    seen = [0, 0]
    apply = ScoreNetwork._apply_block

    def watched(self, block, h, *rest):
        seen[-1] += h.shape[-2] * h.shape[-1]
        return apply(self, block, h, *rest)

    monkeypatch.setattr(ScoreNetwork, "_apply_block", watched)
    x, asked = _photo(400, 400), torch.zeros(400, 400, dtype=torch.bool)
    asked[200:208, 200:208] = True
    with torch.no_grad():
        network(x, SIGMA)
        seen.append(0)
        network(x, SIGMA, asked=asked)
    assert seen[2] < 0.1 * seen[1]


def test_layers_may_halve_and_double_the_resolution():
    fine, coarse = torch.rand(1, 2, 40, 48), torch.rand(1, 2, 10, 12)
    layers = lambda a, b: torch.nn.functional.avg_pool2d(a, 2) + b.repeat_interleave(2, -1).repeat_interleave(2, -2)  # noqa: E731
    result = in_windows(layers, (fine, 2), (coarse, 0.5), side=6, halo=2)
    assert result.shape == (1, 2, 20, 24)
    assert torch.equal(result, layers(fine, coarse))


def test_channels_stay_last():
    x = torch.randn(1, 4, 40, 40).contiguous(memory_format=torch.channels_last)
    for values, layout in ((x, torch.channels_last), (x.contiguous(), torch.contiguous_format)):
        result = in_windows(torch.relu, (values, 1), side=8, halo=0)
        assert result.is_contiguous(memory_format=layout)
        assert torch.equal(result, torch.relu(x))


def test_what_is_not_wanted_is_zero(monkeypatch):
    x, wanted = torch.rand(1, 2, 24, 40) + 1, torch.zeros(24, 40, dtype=torch.bool)
    wanted[9, 20] = True
    # What earlier features leave in memory must not pass for a result.
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(torch.nan))
    result = in_windows(torch.clone, (x, 1), side=8, halo=0, wanted=wanted)
    # With its neighbour, for windows begin on a grid of two pixels.
    expected = torch.zeros_like(x)
    expected[..., 8:10, 20] = x[..., 8:10, 20]
    assert torch.equal(result, expected)


@pytest.mark.parametrize("reach", [0, 1, 4, 5])
def test_levels_before_give_what_levels_after_reach_for(reach):
    asked = torch.zeros(77, 60, dtype=torch.bool)
    asked[20:23, 2], asked[50, 39] = True, True
    first, second, last = wanted_features(asked, 4, [(4, 7), (2, reach), (4, 3)])
    cells = torch.nn.functional.max_pool2d(asked[None, None].float(), 4, ceil_mode=True)[0, 0] > 0
    assert torch.equal(last, cells.repeat_interleave(4, 0).repeat_interleave(4, 1))
    # Within 3 pixels of the last level, one cell, and then within so many of the second, half as large.
    for wanted, side, within in ((second, 2, 1), (first, 4, 1 + -(-reach // 2))):
        rows, columns = torch.meshgrid(torch.arange(20), torch.arange(15), indexing="ij")
        near = [torch.maximum((rows - r).abs(), (columns - c).abs()) <= within for r, c in cells.nonzero()]
        expected = torch.stack(near).any(0)
        assert torch.equal(wanted, expected.repeat_interleave(side, 0).repeat_interleave(side, 1))


def test_without_a_question_everything_is_wanted():
    assert wanted_features(None, 4, [(2, 1), (1, 1)]) == [None, None]
