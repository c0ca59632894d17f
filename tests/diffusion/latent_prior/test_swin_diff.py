"""Swin-Diff: sizes, reach, what is silent at first, saving, and refusals."""

import pytest
import torch

from diffusion.latent_prior import SwinDiff
from diffusion.latent_prior.backbone import Fusion, TransformerBlock

SMALL = {"channels": (32, 32), "blocks": (1, 2), "windows": (0, 4), "latent": 8, "encoder": 16, "steps": 3}


def _network(**changes):
    """A small network with random parameters: fresh ones return the capture."""
    torch.manual_seed(0)
    network = SwinDiff(**SMALL | changes)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return network.eval()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (17, 40), (33, 31)])
def test_any_size_comes_back(stage, size):
    network, y = _network(stage=stage), torch.rand(2, 3, *size) * 2 - 1
    with torch.no_grad():
        estimate = network(y)
        assert estimate.x.shape == y.shape and estimate.log_scale.shape == (2, 1, *size)
        assert estimate.x.dtype == estimate.log_scale.dtype == torch.float32
        assert torch.isfinite(estimate.x).all() and not torch.equal(estimate.x, y)
        # The same noise for all, whatever the company.
        torch.testing.assert_close(network(y[1:]).x, estimate.x[1:], atol=1e-5, rtol=1e-5)


def test_a_fresh_network_returns_the_capture_whatever_the_prior():
    network, y = SwinDiff(**SMALL), torch.rand(1, 3, 20, 20) * 2 - 1
    assert torch.equal(network.restore(y, torch.randn(1, 16, 8)).x, y)


def test_a_fresh_fusion_changes_nothing_and_a_gate_of_zeros_hides_the_photo():
    x = torch.randn(2, 32, 6, 6)
    assert torch.equal(Fusion(32, 8, attends=True)(x, torch.randn(2, 4, 8), torch.randn(2, 1, 8)), x)
    network, y = _network(), torch.rand(2, 3, 16, 16) * 2 - 1
    priors = [network.pair_prior(x, y) for x in (y, torch.flip(y, [3]))]
    kept, hidden = ([network.restore(y, gate * prior).x for prior in priors] for gate in (1, 0))
    assert not torch.allclose(*kept, atol=1e-5)
    assert torch.equal(*hidden) and torch.equal(hidden[0], network(y).x)


def test_only_pixels_within_reach_have_a_say_given_the_prior():
    network = _network()
    prior = torch.randn(1, 16, 8)
    y = torch.zeros(1, 3, 8, 16 * 8)
    y.requires_grad_()
    # Every pixel to the right of a border of the grid, by way of one that is just beyond it.
    network.restore(y, prior).x[..., 64:].square().sum().backward()
    seen = y.grad.abs().sum((0, 1, 2)).nonzero().min().item()
    assert 64 - network.receptive_field <= seen < 64 - network.grid
    assert network.receptive_field % network.grid == 0


@pytest.mark.parametrize(("height", "width", "side"), [(150, 190, 16), (1, 130, 16), (128, 160, 32), (40, 740, 64)])
@pytest.mark.parametrize("sides", [(0, 4), (0, 8, 4), (0, 5, 3), (6, 3, 5)], ids=str)
def test_windows_give_what_the_whole_gives(monkeypatch, sides, height, width, side):
    monkeypatch.setattr("diffusion.windows._SIDE", side)
    levels = {"channels": (32,) * len(sides), "blocks": (1,) * len(sides), "windows": sides}
    network, prior = _network(**levels), torch.randn(2, 16, 8)
    y, asked = torch.rand(2, 3, height, width) * 2 - 1, torch.zeros(height, width, dtype=torch.bool)
    asked[: height // 3, -120:-100], asked[-1, -1] = True, True
    # With gradients enabled, nothing is cut.
    whole = network.restore(y, prior)
    with torch.no_grad():
        windows, part = network.restore(y, prior), network.restore(y, prior, asked)
    for name in ("x", "log_scale"):
        expected = getattr(whole, name).detach()
        torch.testing.assert_close(getattr(windows, name), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(getattr(part, name)[..., asked], expected[..., asked], rtol=0, atol=1e-5)
    assert not torch.allclose(part.x, windows.x, atol=1e-3)


def test_the_estimate_does_not_learn_from_its_expected_error():
    network = _network()
    network(torch.rand(1, 3, 16, 16)).log_scale.sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    learning = [name for name, gradient in gradients.items() if gradient is not None and gradient.any()]
    assert learning and all(name.startswith("backbone.error.") for name in learning)


def test_tokens_are_standardised_and_know_the_photo():
    network, y = _network(), torch.rand(2, 3, 33, 47) * 2 - 1
    z = network.pair_prior(-y, y)
    assert z.shape == (2, 16, 8)
    torch.testing.assert_close(z.mean(2), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.square().mean(2), torch.ones(2, 16), atol=1e-2, rtol=0)
    assert not torch.allclose(z, network.pair_prior(y, y))


def test_saved_and_loaded_it_restores_the_same(tmp_path):
    network, y = _network(stage=2, prior="regression", channel_attention=False), torch.rand(1, 3, 20, 24)
    network.save_pretrained(tmp_path)
    loaded = SwinDiff.from_pretrained(tmp_path)
    # Where tensors begin in memory changes the last digits.
    torch.testing.assert_close(loaded(y).x, network(y).x, atol=1e-5, rtol=1e-5)
    assert loaded.config.stage == 2 and loaded.config.prior == "regression"


def test_what_is_compared_has_equal_parameters():
    counts = [
        sum(parameter.numel() for parameter in SwinDiff(**changes).parameters())
        for changes in ({}, {"channel_attention": False}, {"prior": "regression"})
    ]
    assert max(counts) <= 3e6 and max(counts) / min(counts) <= 1.03


def test_a_regressed_prior_needs_no_noise():
    network = _network(stage=2, prior="regression")
    condition = torch.randn(1, 16, 8)
    drawn = [network.drawn_prior(condition, 1, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert torch.equal(*drawn)
    network = _network(stage=2)
    drawn = [network.drawn_prior(condition, 1, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": (32,)}, "at least 2 positive widths"),
        ({"blocks": (1,)}, "blocks must be 2 numbers, at least 1 each"),
        ({"windows": (0, -1)}, "windows must be 2 numbers, at least 0 each"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"prior": "guess"}, "prior must be diffusion or regression, got 'guess'"),
        ({"stage": 3}, "stage must be 1 or 2, got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        SwinDiff(**SMALL | changes)


def test_a_block_adds_its_convolutions_to_what_attention_gives():
    torch.manual_seed(0)
    block, x = TransformerBlock(32, 4, channel_attention=True), torch.randn(2, 32, 8, 12)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    given = x.clone()
    attended = block.attention(x)
    mean, variance = attended.mean(1, keepdim=True), attended.var(1, keepdim=True, correction=0)
    h = block.conv_in((attended - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(block(x), attended + block.conv_out(h * h.sigmoid()))
    assert torch.equal(x, given)
