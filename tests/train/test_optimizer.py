from copy import deepcopy

import pytest
import torch
from torch import nn

from train.config import OptimConfig
from train.optimizer import MuonAdamW, optimizer_for


def _optimizer(parameters, lr=0.1, weight_decay=0.0):
    return MuonAdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)


def _step_by(weights, gradients, **options):
    """What one step adds to copies of weights."""
    parameters = [nn.Parameter(weight.clone(memory_format=torch.preserve_format)) for weight in weights]
    optimizer = _optimizer(parameters, **options)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()
    return [parameter.detach() - weight for parameter, weight in zip(parameters, weights, strict=True)]


def test_a_step_goes_equally_far_in_every_singular_direction():
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(24, 24, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(40, 24, generator=generator))
    gradient = u @ torch.diag(torch.logspace(0, -1.5, 24)) @ v.T
    (step,) = _step_by([torch.zeros(24, 10, 2, 2)], [gradient.reshape(24, 10, 2, 2)])
    along = u.T @ step.flatten(1) @ v / (-0.1 * 0.2 * 40**0.5)
    # Newton-Schulz brings singular values near 1, not onto it; a plain gradient's would spread by a factor of 30.
    assert along.diagonal().min() > 0.6 and along.diagonal().max() < 1.3
    assert (along - along.diagonal().diag()).abs().max() < 0.05
    # The length is AdamW's: 0.2 of the learning rate in every weight.
    assert step.square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.3)


def test_the_memory_format_of_a_convolution_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    weight, gradient = (torch.randn(16, 20, 3, 3, generator=generator) for _ in range(2))
    forms = torch.contiguous_format, torch.channels_last
    plain, last = (_step_by([weight.to(memory_format=form)], [gradient])[0] for form in forms)
    assert (last - plain).norm() < 1e-5 * plain.norm()


def test_momentum_carries_on():
    weight = nn.Parameter(torch.zeros(16, 16, 1, 1))
    optimizer = _optimizer([weight])
    weight.grad = torch.eye(16)[:, :, None, None]
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = torch.zeros(16, 16, 1, 1)
    optimizer.step()
    assert (weight.detach() - before)[..., 0, 0].diagonal().max() < -0.1 * 0.2 * 4 * 0.6


def test_what_is_no_wide_convolution_is_left_to_adamw():
    generator = torch.Generator().manual_seed(2)
    shapes = [(12, 48, 3, 3), (64, 32), (30,), ()]
    weights, gradients = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    theirs = [nn.Parameter(weight.clone()) for weight in weights]
    adamw = torch.optim.AdamW(theirs, lr=0.1, betas=(0.9, 0.99), weight_decay=0.02)
    for parameter, gradient in zip(theirs, gradients, strict=True):
        parameter.grad = gradient
    adamw.step()
    wide = torch.randn(16, 16, 1, 1, generator=generator)
    steps = _step_by([wide, *weights], [wide, *gradients], weight_decay=0.02)
    for step, weight, parameter in zip(steps[1:], weights, theirs, strict=True):
        assert torch.equal(weight + step, weight + (parameter.detach() - weight))


def test_weights_decay_without_gradient_of_the_loss():
    weight = torch.full((16, 16, 3, 3), 2.0)
    (step,) = _step_by([weight], [torch.zeros(16, 16, 3, 3)], lr=0.1, weight_decay=0.5)
    assert torch.allclose(step, -0.1 * 0.5 * weight)


def _network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 3, 3)).to(memory_format=torch.channels_last)


def _train(network, optimizer, schedule, steps):
    for step in range(steps):
        x = torch.randn(2, 16, 9, 9, generator=torch.Generator().manual_seed(step + schedule.last_epoch))
        network(x).square().mean().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def test_a_run_that_is_taken_up_again_is_the_run_itself():
    def start():
        network = _network()
        optimizer = _optimizer(network.parameters(), lr=0.01)
        return network, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    whole, *rest = start()
    _train(whole, *rest, 3)
    weights = {name: value.clone() for name, value in whole.state_dict().items()}
    states = [deepcopy(one.state_dict()) for one in rest]
    _train(whole, *rest, 3)
    again, *rest = start()
    again.load_state_dict(weights)
    for one, state in zip(rest, states, strict=True):
        one.load_state_dict(state)
    _train(again, *rest, 3)
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # The schedule reaches both parts.
    assert {group["lr"] for group in rest[0].param_groups} == {0.01 / 7} and len(rest[0].param_groups) == 2


def test_the_state_of_an_earlier_version_is_refused():
    weight = nn.Parameter(torch.ones(16, 16, 1, 1))
    matrix = nn.Parameter(torch.ones(16, 16))
    matrix.grad = torch.eye(16)
    theirs = torch.optim.Muon([matrix])
    theirs.step()
    with pytest.raises(ValueError, match="another optimizer or version"):
        _optimizer([weight]).load_state_dict({"parts": [theirs.state_dict()]})


def test_weights_that_were_moved_before_the_first_step_are_trained():
    network = _network().to(memory_format=torch.contiguous_format)
    optimizer = _optimizer(network.parameters())
    network.to(memory_format=torch.channels_last)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    network(torch.ones(1, 16, 9, 9)).sum().backward()
    optimizer.step()
    assert all((now != then).any() for now, then in zip(network.parameters(), before, strict=True))


def test_the_state_of_another_optimizer_is_refused():
    network = _network()
    adamw = optimizer_for(network.parameters(), OptimConfig(optimizer="adamw"))
    assert type(adamw) is torch.optim.AdamW
    with pytest.raises(ValueError, match="another optimizer"):
        optimizer_for(network.parameters(), OptimConfig()).load_state_dict(adamw.state_dict())


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="optim.optimizer must be muon or adamw, got sgd"):
        OptimConfig(optimizer="sgd")
