"""Conditioning on the latent prior: silent at first, what a modulation is, what does not fit."""

from copy import deepcopy

import pytest
import torch

from diffusion import ScoreNetwork
from diffusion.latent_prior import LatentFiLM, ModulatedNetwork, SwinDiff

SIZE = {"channels": (4, 6, 8), "blocks": (2, 1, 2)}


@pytest.fixture
def network():
    """A small network of random parameters, without zeros."""
    torch.manual_seed(0)
    network = ScoreNetwork(**SIZE, embedding=8)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(False)


def _prior(**changes):
    sizes = {"channels": (32, 32), "blocks": (1, 1), "windows": (0, 0), "latent": 8, "encoder": 8, "stage": 2}
    return SwinDiff(**sizes | changes)


def _blocks_as_passed(network):
    """The residual blocks in the order in which they are called."""
    seen, hooks = [], []
    for name, module in network.named_modules():
        if type(module).__name__ == "ResidualBlock":
            hooks.append(module.register_forward_hook(lambda *_, name=name: seen.append(name)))
    network(torch.zeros(1, 3, 8, 8, dtype=network.dtype), torch.tensor(0.1))
    for hook in hooks:
        hook.remove()
    return [network.get_submodule(name) for name in seen]


def test_a_modulation_is_an_addition_to_scale_and_shift_of_its_block(network):
    network = network.double()
    assert [block.film.out_features for block in _blocks_as_passed(network)] == [2 * one for one in network.widths]
    modulations = [torch.randn(1, 2 * width, dtype=torch.float64) for width in network.widths]
    shifted = deepcopy(network)
    for block, modulation in zip(_blocks_as_passed(shifted), modulations, strict=True):
        block.film.bias += modulation[0]
    x, sigma = torch.randn(3, 3, 17, 24, dtype=torch.float64), torch.tensor([0.02, 0.3, 2.0], dtype=torch.float64)
    expected = shifted(x, sigma)
    torch.testing.assert_close(network(x, sigma, modulations), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ModulatedNetwork(network, modulations)(x, sigma), expected, rtol=0, atol=1e-12)
    assert (expected - network(x, sigma)).abs().max() > 1e-2
    # And each photo of a batch has its own.
    rows = [torch.cat([torch.zeros_like(one), one, -one]) for one in modulations]
    torch.testing.assert_close(network(x, sigma, rows)[1], expected[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(network(x, sigma, rows)[0], network(x, sigma)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("bf16", [False, True])
def test_fresh_it_changes_no_bit(network, bf16):
    fresh = LatentFiLM.between(_prior(), network)
    x, sigma = torch.randn(2, 3, 20, 20), torch.tensor([0.05, 1.0])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.no_grad():
        modulations = fresh(torch.randn(2, 16, 8))
        assert torch.equal(network(x, sigma, modulations), network(x, sigma))
        # What is made in full precision serves in any.
        assert torch.equal(network(x, sigma, [one.float() for one in modulations]), network(x, sigma))


def test_every_token_has_a_say_in_every_block_and_its_gradient_survives_checkpointing(network):
    torch.manual_seed(1)
    film = LatentFiLM.between(_prior(), network, width=16)
    for parameter in film.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    # Also where the mixer lets tokens know nothing of one another.
    torch.nn.init.zeros_(film.mixer.over_tokens[-1].weight)
    z = torch.randn(1, 16, 8, requires_grad=True)
    for modulation in film(z):
        (gradient,) = torch.autograd.grad(modulation.square().sum(), z, retain_graph=True)
        assert gradient.abs().sum(2).min() > 0
    x, sigma, gradients = torch.randn(1, 3, 16, 16), torch.tensor(0.3), []
    for checkpointing in (False, True):
        if checkpointing:
            network.enable_gradient_checkpointing()
        network(x, sigma, film(z)).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in film.parameters()])
        film.zero_grad()
    silent = {*film.mixer.norm_tokens.parameters(), *film.mixer.over_tokens[0].parameters()}
    for parameter, plain, again in zip(film.parameters(), *gradients, strict=True):
        assert torch.equal(plain, again) and (parameter in silent or plain.any())


@pytest.mark.parametrize(
    ("prior", "size", "words"),
    [
        (None, SIZE, "expected a latent_prior beside it, got none"),
        ({"stage": 1}, SIZE, "expected a latent_prior of stage 2, which knows captures, got one of stage 1"),
        ({"latent": 4}, SIZE, r"expected a latent_prior of tokens \(16, 8\), got \(16, 4\)"),
        ({}, {"channels": (4, 6), "blocks": 1}, r"expected a score_network of blocks .*, got \(4, 6, 4\)"),
    ],
)
def test_what_it_was_not_made_for_is_refused(network, prior, size, words):
    film = LatentFiLM.between(_prior(), network)
    film.check_fits(_prior(), network)
    with pytest.raises(ValueError, match=f"conditioning: {words}"):
        film.check_fits(None if prior is None else _prior(**prior), ScoreNetwork(**size, embedding=8))


def test_sizes_and_numbers_that_cannot_be_are_refused(network):
    with pytest.raises(ValueError, match="modulations must be 8, one a residual block, got 2"):
        network(torch.zeros(1, 3, 8, 8), torch.tensor(0.1), [torch.zeros(1, 8)] * 2)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        LatentFiLM(width=0)
