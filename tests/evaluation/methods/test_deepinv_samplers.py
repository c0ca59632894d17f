"""DPS and DiffPIR of deepinv with our network and operator."""

import builtins
import math
from dataclasses import replace

import pytest
import torch

from evaluation.methods import MethodUnavailable
from evaluation.methods.deepinv_samplers import _vp_time, deepinv_physics, diffpir, dps, physics
from evaluation.methods.network import CountedNetwork, UnitRangeDenoiser
from evaluation.metrics import psnr
from optics import DefocusOperator

CPU = torch.device("cpu")


@pytest.fixture
def deepinv():
    return pytest.importorskip("deepinv")


def test_our_operator_is_a_linear_physics(deepinv, varying):
    operator = DefocusOperator(varying.radius_map)
    ours = physics(operator)
    x = torch.randn(1, 3, *operator.canvas_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.A(x), operator(x))
    # Relative to |x|^2: rounding of single precision.
    assert abs(float(ours.adjointness_test(x))) < 1e-5 * float(x.square().sum())


@pytest.mark.parametrize("radius_map", ["varying", "in part sharp", "constant"])
def test_the_librarys_blur_is_our_operator(deepinv, varying, radius_map):
    radius = {
        "varying": varying.radius_map,
        "in part sharp": (varying.radius_map - varying.radius_map.mean()).clamp(min=0),
        "constant": torch.full_like(varying.radius_map, 2.3),
    }[radius_map]
    operator = DefocusOperator(radius, tolerance=0)
    library = deepinv_physics(operator)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, *operator.canvas_size, generator=generator)
    y = torch.rand(1, 3, *operator.capture_size, generator=generator)
    torch.testing.assert_close(library.A(x), operator(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(library.A_adjoint(y), operator.adjoint(y), atol=1e-5, rtol=0)


def test_a_sampler_makes_the_same_picture_of_the_librarys_blur(deepinv, tiny, varying, monkeypatch):
    monkeypatch.setitem(DefocusOperator.__init__.__kwdefaults__, "tolerance", 0.0)
    pictures = []
    for deepinv_blur in (False, True):
        method = replace(diffpir(tiny, CPU, deepinv_blur=deepinv_blur), steps=3)
        pictures.append(method(varying, varying.radius_map, torch.Generator().manual_seed(0)).image)
    torch.testing.assert_close(*pictures, atol=1e-3, rtol=0)


@pytest.mark.parametrize("make", [dps, diffpir])
def test_a_capture_is_improved_and_evaluations_are_counted(deepinv, trained, varying, make):
    method = make(trained, CPU)
    result = method(varying, varying.radius_map, torch.Generator().manual_seed(1))
    assert psnr(result.image, varying.x) > psnr(varying.y, varying.x) + 1.5
    assert torch.equal(result.radius_map, varying.radius_map)
    assert result.evaluations == method.steps == method.network.evaluations


@pytest.mark.parametrize("make", [dps, diffpir])
def test_noise_levels_descend_from_the_start_and_match_the_state(deepinv, tiny, varying, make):
    # A network that knows the photo: what is left of a state is its noise, which must be what the network is told.
    told, found = [], []
    operator = DefocusOperator(varying.radius_map)
    known = 2 * operator.extend(varying.x) - 1

    def network(x, sigma):
        told.append(float(sigma))
        found.append(float(operator.crop(x.detach() - known).square().mean().sqrt()))
        return known + 0 * x

    method = replace(make(tiny, CPU), network=CountedNetwork(network))
    method(varying, varying.radius_map, torch.Generator().manual_seed(1))
    assert told == sorted(told, reverse=True)
    assert told[0] == pytest.approx(method.sigma_start, rel=0.02)
    # 12288 draws know it to 1 %. The first state has the blur for an error too; later ones err as the data demands.
    blur = float((2 * (varying.y - varying.x)).square().mean().sqrt())
    assert found[0] == pytest.approx(math.hypot(told[0], blur), rel=0.03)
    for sigma, std in zip(told[2:-2], found[2:-2], strict=True):
        assert std == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("make", [dps, diffpir])
def test_same_seed_same_picture_whatever_was_drawn_before(deepinv, tiny, stationary, make):
    def picture(seed):
        torch.manual_seed(seed + 7)
        return method(stationary, stationary.radius_map, torch.Generator().manual_seed(seed)).image

    method = replace(make(tiny, CPU), steps=3)
    first, other = picture(0), picture(1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    again = method(stationary, stationary.radius_map, torch.Generator().manual_seed(0)).image
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_gradient_reaches_the_state_through_network_and_operator(deepinv, trained, varying):
    from evaluation.methods.network import load_network

    network, _ = load_network(trained, CPU)
    operator = DefocusOperator(varying.radius_map)
    x = operator.extend(varying.y).requires_grad_(True)
    residual = operator(UnitRangeDenoiser(network)(x, torch.tensor(0.1))) - varying.y
    (gradient,) = torch.autograd.grad(residual.square().sum(), x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        step = 1e-2 * direction.float()
        energies = [
            float((operator(UnitRangeDenoiser(network)(x + sign * step, torch.tensor(0.1))) - varying.y).square().sum())
            for sign in (1, -1)
        ]
    slope = float((gradient.double() * step.double()).sum())
    # Central differences: second order, and rounding of sums of thousands of squares.
    assert slope == pytest.approx((energies[0] - energies[1]) / 2, rel=0.02)


def test_time_of_a_noise_level_is_deepinvs(deepinv):
    from deepinv.sampling import VariancePreservingDiffusion

    for sigma in (0.05, 0.3, 2.0):
        assert float(VariancePreservingDiffusion().sigma_t(_vp_time(sigma))) == pytest.approx(sigma, rel=1e-6)


def test_sharp_captures_are_returned(deepinv, tiny, varying, generator):
    result = diffpir(tiny, CPU)(varying, torch.zeros_like(varying.radius_map), generator)
    assert torch.equal(result.image, varying.y) and result.evaluations == 0


def test_missing_package_is_named(monkeypatch):
    really = builtins.__import__

    def fail(name, *arguments, **options):
        if name.split(".")[0] == "deepinv":
            raise ImportError(name)
        return really(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    for make in (dps, diffpir):
        with pytest.raises(MethodUnavailable, match=r"deepinv.*scorefocus\[peers\]"):
            make(None, CPU)
