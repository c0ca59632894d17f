import pytest
import torch
from torch import nn

from train import muon
from train.muon import Muon


def orthogonalized(matrix):
    """One matrix as a stack of one."""
    return muon.orthogonalized(matrix[None])[0]


def _random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _spread(rows, columns, smallest, seed=0):
    """A matrix with singular values from 1 to `smallest`, and its singular vectors."""
    side = min(rows, columns)
    u, _ = torch.linalg.qr(_random(rows, side, seed=seed, dtype=torch.float64))
    v, _ = torch.linalg.qr(_random(columns, side, seed=seed + 1, dtype=torch.float64))
    values = torch.logspace(0, torch.tensor(smallest).log10().item(), side, dtype=torch.float64)
    return u @ torch.diag(values) @ v.T, u, values, v


def _near_one(values):
    """What five of Jordan's iterations make of singular values, one number at a time."""
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize(("rows", "columns"), [(24, 216), (216, 24), (32, 32), (1, 7), (7, 1)])
@pytest.mark.parametrize("smallest", [0.3, 1e-2, 1e-4])
def test_singular_values_go_through_the_polynomial_and_directions_stay(rows, columns, smallest):
    matrix, u, values, v = _spread(rows, columns, smallest)
    expected = u @ torch.diag(_near_one(values)) @ v.T
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-3)):
        ours = orthogonalized(matrix.to(dtype))
        assert ours.dtype == dtype and (ours - expected).norm() < tolerance * expected.norm()


def test_what_is_above_a_thousandth_comes_near_one():
    values = torch.linalg.svdvals(orthogonalized(_spread(40, 360, 3e-3)[0].float()))
    # Relative to the norm of the matrix, which is some 2.7 times its largest singular value.
    assert values.min() > 0.65 and values.max() < 1.25


def test_directions_that_are_not_there_stay_out():
    # Three singular values of twenty; in single precision the others are rounding, which must not be brought to 1.
    low = (_random(20, 3) @ _random(3, 180, seed=1)).double()
    matrix = low.float()
    off = torch.linalg.svd(low).U[:, 3:].float().T @ orthogonalized(matrix)
    assert off.norm() < 1e-3


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_size_of_a_gradient_has_no_say(scale):
    matrix = _random(16, 48)
    torch.testing.assert_close(orthogonalized(scale * matrix), orthogonalized(matrix), rtol=1e-4, atol=1e-6)


def test_nothing_stays_nothing():
    assert torch.equal(orthogonalized(torch.zeros(16, 20)), torch.zeros(16, 20))


@pytest.mark.parametrize("shape", [(16, 144), (48, 16), (20, 20)])
def test_steps_are_those_of_torch_to_the_rounding_of_bfloat16(shape):
    start = _random(*shape)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.02, "weight_decay": 0.1}
    optimizers = Muon([ours], **options), torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **options)
    for step in range(6):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = _random(*shape, seed=1 + step)
            optimizer.step()
        moved, difference = (theirs - start).norm(), (ours - theirs).norm()
        assert difference < 0.02 * moved


def test_a_weight_without_gradient_stays():
    weight = nn.Parameter(torch.ones(16, 16))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight, torch.ones(16, 16))


def test_a_gradient_of_another_memory_format_is_the_same_gradient():
    gradient = _random(16, 20, 3, 3)
    steps = []
    for form in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(torch.zeros(16, 20, 3, 3))
        weight.grad = gradient.to(memory_format=form)
        Muon([weight], lr=0.1, weight_decay=0.0).step()
        steps.append(weight.detach())
    assert torch.equal(*steps)


@pytest.mark.parametrize(("products", "expected"), [("highest", torch.float32), ("medium", torch.float64)])
def test_coarser_products_do_not_reach_the_iteration(products, expected, monkeypatch):
    # In TensorFloat-32 or bfloat16, which the setting allows, a singular value of 1 may become 87.
    seen, product = set(), torch.baddbmm

    def seen_product(gram, *given, **scales):
        seen.add(gram.dtype)
        return product(gram, *given, **scales)

    monkeypatch.setattr(torch, "baddbmm", seen_product)
    torch.set_float32_matmul_precision(products)
    try:
        assert orthogonalized(_random(16, 48)).dtype == torch.float32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == {expected}


def test_matrices_of_a_stack_have_no_say_in_each_other():
    for rows, columns in ((16, 48), (48, 16)):
        matrices = _random(3, rows, columns)
        torch.testing.assert_close(
            muon.orthogonalized(matrices), torch.stack([orthogonalized(one) for one in matrices]), rtol=1e-5, atol=1e-6
        )


def test_weights_of_a_shape_take_the_same_steps_together(monkeypatch):
    shapes = [(16, 12, 2, 2), (16, 48, 1, 1), (48, 4, 2, 2), (16, 48), (16, 30)]

    def steps():
        weights = [nn.Parameter(_random(*shape, seed=seed)) for seed, shape in enumerate(shapes)]
        optimizer = Muon(weights, lr=0.1, weight_decay=0.1)
        for step in range(3):
            for weight in weights:
                weight.grad = _random(*weight.shape, seed=10 + step)
            optimizer.step()
        return weights

    alone = steps()
    stacks = muon._stacks
    assert [len(stack) for stack in stacks(alone)] == [1] * 5
    monkeypatch.setattr(muon, "_stacks", lambda weights: stacks(weights, together=True))
    assert [len(stack) for stack in muon._stacks(alone)] == [3, 1, 1]
    for ours, theirs in zip(steps(), alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
