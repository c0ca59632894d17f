"""Muon: gradient descent whose steps go equally far in all directions of a weight matrix.

Muon follows the momentum of a matrix's gradient with all its singular values brought near 1, so that directions which
the loss says little about are learnt as fast as those it shouts about:

    M <- mu M + (1 - mu) G,   theta <- (1 - lr lambda) theta - 0.2 sqrt(max(m, n)) lr U V^T,
    U S V^T = (1 - mu) G + mu M

(Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon/; the factor, by which steps are as large as AdamW's and both take one
learning rate, is that of Liu et al., "Muon is Scalable for LLM Training", https://arxiv.org/abs/2502.16982). The
weights of a convolution are the matrix (first dimension, all else).

This is what torch.optim.Muon computes, by another order of the products. That iterates on the matrix, in bfloat16; here
the iteration is on a square of its shorter side, which for a 3x3 convolution has a ninth of the numbers, in single
precision: a third of the time on a CPU, and the steps of one and of several processes agree to rounding.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalized"]

_MOMENTUM = 0.95
# Jordan's polynomial: steepest at zero, and what it brings near 1 stays between 0.7 and 1.2.
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon for weights of at least two dimensions.

    Args:
        weights: What learns, each of shape (m, ...), as a matrix (m, n).
        lr: Learning rate.
        weight_decay: Decoupled from the gradient.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One step; a weight without gradient stays."""
        for group in self.param_groups:
            lr, kept = group["lr"], 1 - group["lr"] * group["weight_decay"]
            for stack in _stacks([weight for weight in group["params"] if weight.grad is not None]):
                directions = orthogonalized(torch.stack([self._ahead(weight) for weight in stack]))
                length = 0.2 * math.sqrt(max(directions.shape[1:])) * lr
                for weight, direction in zip(stack, directions, strict=True):
                    weight.mul_(kept).sub_(direction.reshape(weight.shape), alpha=length)

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over what a checkpoint holds.

        Raises:
            ValueError: If it is of another optimizer, such as torch.optim.Muon, or of other weights.
        """
        if any("momentum" not in state for state in state_dict["state"].values()):
            raise ValueError("expected the momentum of every weight, got the state of another optimizer or version")
        super().load_state_dict(state_dict)

    def _ahead(self, weight: Tensor) -> Tensor:
        """The momentum as it will be after one more such gradient (Nesterov), shape (m, n)."""
        state, gradient = self.state[weight], weight.grad
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM).flatten(1)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices with their singular values brought near 1: five Newton-Schulz iterations.

    With the matrix X of norm 1 and A = X X^T, each is X <- (a + b A + c A^2) X. Every X is a polynomial of the first A
    times the first X, and these polynomials commute, so that A and the product Q of the polynomials alone are iterated

        P = a + b A + c A^2,   Q <- P Q,   A <- P A P

    and the result is Q X. What rounding adds to an eigenvalue of A that is zero grows by a^2 in each: products in
    TensorFloat-32 or bfloat16, which PyTorch can be told to take for single precision, would let it grow beyond all
    bounds. Then these are in double precision.

    Args:
        matrices: Shape (B, m, n).

    Returns:
        U S' V^T of each U S V^T, with S' between 0.7 and 1.2 wherever S is above a thousandth of its norm.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalized(matrices.mT).mT
    x = matrices if torch.get_float32_matmul_precision() == "highest" else matrices.double()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_LEAST_NORM)
    gram = x @ x.mT
    product = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    for left in reversed(range(_ITERATIONS)):
        polynomial = torch.baddbmm(gram, gram, gram, beta=_CUBIC, alpha=_QUINTIC)
        polynomial.diagonal(dim1=1, dim2=2).add_(_LINEAR)
        product = polynomial @ product
        if left:
            gram = polynomial @ gram @ polynomial
    return (product @ x).to(matrices)


def _stacks(weights: list[Tensor], together: bool | None = None) -> list[list[Tensor]]:
    """Weights whose steps are computed together: off the CPU, where small operations take the time, all of a shape."""
    stacks: dict[object, list[Tensor]] = {}
    for number, weight in enumerate(weights):
        alone = weight.device.type == "cpu" if together is None else not together
        stacks.setdefault(number if alone else (len(weight), weight[0].numel(), weight.device), []).append(weight)
    return list(stacks.values())
