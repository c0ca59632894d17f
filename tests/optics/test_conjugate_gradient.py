"""Conjugate gradients against dense solutions."""

import pytest
import torch

from optics.conjugate_gradient import conjugate_gradient, improve


def _systems(count=3, side=4, dtype=torch.float64):
    """Positive definite systems of different condition, with their dense solutions."""
    generator = torch.Generator().manual_seed(0)
    size = side * side
    factor = torch.randn(count, size, size, generator=generator, dtype=dtype)
    matrix = factor @ factor.mT + torch.tensor([0.1, 1.0, 30.0], dtype=dtype)[:count, None, None] * torch.eye(size)
    b = torch.randn(count, 1, side, side, generator=generator, dtype=dtype)
    solution = torch.linalg.solve(matrix, b.flatten(1)[..., None])[..., 0].reshape(b.shape)
    return lambda x: (matrix @ x.flatten(1)[..., None])[..., 0].reshape(x.shape), b, solution


def test_solves_as_many_unknowns_as_iterations():
    apply, b, solution = _systems()
    x = conjugate_gradient(apply, b, torch.zeros_like(b), iterations=40)
    torch.testing.assert_close(x, solution, rtol=1e-6, atol=1e-6)


def test_each_iteration_is_optimal_in_its_krylov_space():
    apply, b, solution = _systems()
    basis = [b]
    for iterations in (1, 2, 3, 4):
        x = conjugate_gradient(apply, b, torch.zeros_like(b), iterations)
        # The error of the k-th iterate is M-orthogonal to b, Mb, ..., M^(k-1) b.
        for vector in basis:
            product = ((x - solution) * apply(vector)).flatten(1).sum(1)
            scale = solution.flatten(1).norm(dim=1) * apply(vector).flatten(1).norm(dim=1)
            assert (product.abs() < 1e-9 * scale).all()
        basis.append(apply(basis[-1]))


def test_items_of_a_batch_do_not_influence_one_another():
    apply, b, _ = _systems()
    together = conjugate_gradient(apply, b, torch.zeros_like(b), iterations=30, tolerance=1e-3)
    for item in range(len(b)):

        def apply_one(x, item=item):
            return apply(x.expand_as(b))[item : item + 1]

        b_one = b[item : item + 1]
        alone = conjugate_gradient(apply_one, b_one, torch.zeros_like(b_one), iterations=30, tolerance=1e-3)
        torch.testing.assert_close(together[item : item + 1], alone, rtol=1e-9, atol=1e-12)


def test_tolerance_stops_early_and_is_met():
    apply, b, _ = _systems()
    calls = 0

    def counted(x):
        nonlocal calls
        calls += 1
        return apply(x)

    x = conjugate_gradient(counted, b, torch.zeros_like(b), iterations=1000, tolerance=1e-4)
    residual = (b - apply(x)).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    assert calls < 100
    assert (residual < 1.01e-4).all()


def test_a_solution_is_kept_and_zero_stays_finite():
    apply, b, _ = _systems(dtype=torch.float32)
    x0 = torch.ones_like(b)
    exact = conjugate_gradient(lambda x: 2 * x, 2 * x0, x0, iterations=5)
    assert torch.equal(exact, x0)
    zero = conjugate_gradient(apply, 0 * b, 0 * b, iterations=5)
    assert torch.equal(zero, 0 * b)


def test_many_needless_iterations_do_no_harm_in_single_precision():
    apply, b, solution = _systems(dtype=torch.float32)
    x = conjugate_gradient(apply, b, torch.zeros_like(b), iterations=300)
    assert torch.isfinite(x).all()
    torch.testing.assert_close(x[2], solution[2], rtol=1e-3, atol=1e-3)


def test_half_precision_is_worked_on_in_single():
    b = torch.ones(1, 1, 2, 2, dtype=torch.bfloat16)
    x = conjugate_gradient(lambda x: 3 * x, b, torch.zeros_like(b), iterations=2)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.full((1, 1, 2, 2), 1 / 3))


@pytest.mark.parametrize(("iterations", "tolerance"), [(-1, 0.0), (1, -1.0)])
def test_negative_numbers_are_refused(iterations, tolerance):
    with pytest.raises(ValueError, match="negative"):
        conjugate_gradient(lambda x: x, torch.ones(1, 2), torch.ones(1, 2), iterations, tolerance)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        conjugate_gradient(lambda x: x, torch.ones(1, 2), torch.ones(1, 3), 1)


def test_iterating_in_place_does_the_same_and_holds_the_residual():
    apply, b, _ = _systems()
    start = torch.randn_like(b)
    x, residual = start.clone(), b - apply(start)
    assert improve(apply, x, residual, iterations=6) is x
    assert torch.equal(x, conjugate_gradient(apply, b, start, iterations=6))
    torch.testing.assert_close(residual, b - apply(x), rtol=1e-9, atol=1e-9)


def test_nothing_that_is_given_is_changed():
    apply, b, _ = _systems()
    start = torch.randn_like(b)
    kept = b.clone(), start.clone()
    conjugate_gradient(apply, b, start, iterations=3)
    assert torch.equal(b, kept[0]) and torch.equal(start, kept[1])
