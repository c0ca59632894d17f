"""The score network without an operator."""

from dataclasses import replace

import pytest
import torch

from evaluation.methods.denoising import denoise, sdedit
from evaluation.methods.network import CountedNetwork, UnitRangeDenoiser, load_network
from evaluation.metrics import psnr
from optics import estimate_noise_std
from samplers.pipeline import DefocusDeblurPipeline

CPU = torch.device("cpu")


def test_denoising_is_one_evaluation_of_the_network(tiny, varying, generator):
    result = denoise(tiny, CPU)(varying, None, generator)
    network = DefocusDeblurPipeline.from_pretrained(tiny.weights).score_network
    with torch.no_grad():
        x = network(2 * varying.y - 1, torch.tensor(2 * estimate_noise_std(varying.y)))
    torch.testing.assert_close(result.image, ((x + 1) / 2).clamp(0, 1))
    assert result.evaluations == 1 and result.radius_map is None


def test_denoising_removes_noise(trained, stationary, generator):
    noise = torch.randn(stationary.y.shape, generator=generator)
    noisy = type(stationary)("blocks", "one", "noisy", (stationary.y + 0.05 * noise).clamp(0, 1), stationary.y)
    result = denoise(trained, CPU)(noisy, None, generator)
    assert psnr(result.image, noisy.x) > psnr(noisy.y, noisy.x) + 4


def test_evaluations_are_those_of_each_capture(tiny, varying, generator):
    method = sdedit(tiny, CPU)
    first, second = (method(varying, None, generator) for _ in range(2))
    assert first.evaluations == second.evaluations == method.network.evaluations / 2
    assert first.evaluations == method.settings.evaluations


def test_sdedit_follows_its_network(tiny, varying, generator):
    # A network that knows the photo leads every state there: what is left is its last estimate.
    method = replace(sdedit(tiny, CPU), network=CountedNetwork(lambda x, sigma: 2 * varying.x - 1))
    torch.testing.assert_close(method(varying, None, generator).image, varying.x)


def test_sdedit_starts_at_its_noise_level_from_the_capture(tiny, varying, generator):
    states = []
    method = sdedit(tiny, CPU)
    watched = CountedNetwork(lambda x, sigma: states.append((x, sigma)) or method.network(x, sigma))
    replace(method, network=watched)(varying, None, generator)
    x, sigma = states[0]
    assert float(sigma) == pytest.approx(method.settings.sigma_start)
    # The standard deviation of 12288 draws is known to 0.7 %.
    assert float((x - (2 * varying.y - 1)).std()) == pytest.approx(method.settings.sigma_start, rel=0.04)


def test_unit_range_denoiser_changes_units_alone(tiny, varying):
    network, _ = load_network(tiny, CPU)
    with torch.no_grad():
        ours = network(2 * varying.y - 1, torch.tensor(0.2))
        theirs = UnitRangeDenoiser(network)(varying.y, torch.tensor(0.1))
    torch.testing.assert_close(theirs, (ours + 1) / 2)
    assert network.evaluations == 2
