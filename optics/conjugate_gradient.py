"""Conjugate gradients for the symmetric positive definite systems of restoration."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["conjugate_gradient", "improve"]

_PART = 1 << 22  # values


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor], b: Tensor, x0: Tensor, iterations: int, tolerance: float = 0.0
) -> Tensor:
    """Solves M x = b approximately, every item of the batch with step sizes of its own.

    Items do not influence one another, so that a result is the same whatever shares its batch. With a
    tolerance of 0 nothing is read back from the device. An item whose residual vanishes, exactly or to
    the tolerance, stays where it is.

    Args:
        apply: x -> M x, symmetric and positive semi-definite in each item, of the shape of `b`.
        b: Right-hand side, shape (B, ...); worked on in float32 at least.
        x0: Start, of the shape of `b`; the nearer, the fewer iterations are needed.
        iterations: Number of products with M after the one for the first residual; at most with a tolerance.
        tolerance: An item is solved once its residual norm is at most this fraction of the norm of `b`.

    Returns:
        The last iterate, shape (B, ...).

    Raises:
        ValueError: If the shapes differ, or a number is negative.

    References:
        Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, 1952.
    """
    if b.shape != x0.shape:
        raise ValueError(f"x0 must have the shape of b, {tuple(b.shape)}, got {tuple(x0.shape)}")
    if iterations < 0 or tolerance < 0:
        raise ValueError(f"iterations and tolerance must not be negative, got {iterations} and {tolerance}")
    dtype = torch.promote_types(b.dtype, torch.float32)
    b, x = b.to(dtype), x0.to(dtype, copy=True)
    return improve(apply, x, b - apply(x), iterations, tolerance, _inner(b, b))


def improve(
    apply: Callable[[Tensor], Tensor], x: Tensor, residual: Tensor, iterations: int, tolerance: float = 0.0,
    scale: Tensor | float = 1.0,
) -> Tensor:  # fmt: skip
    """The iterations of `conjugate_gradient`, in place: of large photos no more is kept than the method's four arrays.

    Args:
        apply: As there.
        x: Start, shape (B, ...), float32 at least; overwritten by the last iterate.
        residual: b - M x, same shape; overwritten.
        iterations: As there.
        tolerance: As there.
        scale: Squared norm of b, which the tolerance refers to.

    Returns:
        x.
    """
    direction = residual.clone()
    energy = _inner(residual, residual)
    goal = tolerance**2 * scale
    for _ in range(iterations):
        active = energy > goal
        if tolerance > 0 and not active.any():
            break
        image = apply(direction)
        curvature = _inner(direction, image)
        step = torch.where(active & (curvature > 0), energy / curvature, 0)
        x.addcmul_(step, direction)
        residual.addcmul_(-step, image)
        del image
        previous, energy = energy, _inner(residual, residual)
        direction.mul_(torch.where(active, energy / previous, 0)).add_(residual)
    return x


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each item, in a shape that broadcasts: (B, ...) -> (B, 1, ...)."""
    # Part by part, for the products would be one more array.
    parts = zip(a.flatten(1).split(_PART, 1), b.flatten(1).split(_PART, 1), strict=True)
    return sum((one * other).sum(1) for one, other in parts).reshape(-1, *[1] * (a.dim() - 1))
