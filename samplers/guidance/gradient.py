"""The gradient of a denoiser, for guides that pull the data term back through the network.

In the rescaled state u = x_t / alpha, of noise level sigma in VE units, the score of the capture gives the posterior
mean: E[x_0 | x_t, y] = D + sigma^2 grad_u log p(y | u). Guides differ in their approximation of p(y | u); in all of
them the gradient begins with the transposed Jacobian J^T of D, here `pullback`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion import Denoiser
from samplers.guidance.likelihood import GuidanceError

__all__ = ["differentiate"]


def differentiate(
    denoiser: Denoiser, x_t: Tensor, t: Tensor, guidance: str
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Evaluates a denoiser and keeps what its gradient needs, also where gradients are switched off.

    Args:
        denoiser: Estimates E[x_0 | x_t].
        x_t: State, shape (B, C, H, W).
        t: Time in [0, 1], scalar.
        guidance: Name of the guidance, for errors.

    Returns:
        The estimate, shape (B, C, H, W), and the map v -> J^T v of such shapes with J the Jacobian by u; it may be
        called more than once.

    Raises:
        GuidanceError: If the denoiser has no gradient, or PyTorch is in inference mode, in which nothing has one.
    """
    if torch.is_inference_mode_enabled():
        raise GuidanceError(
            f"guidance {guidance}: expected a mode in which PyTorch has gradients, as torch.no_grad(), got inference "
            "mode; leave it, or choose proximal, range-null or none"
        )
    alpha, _ = denoiser.sde.marginal(torch.as_tensor(t, device=x_t.device))
    with torch.enable_grad():
        u = (x_t / alpha).detach().requires_grad_()
        estimate = denoiser(alpha * u, t)
    if estimate.requires_grad:
        return estimate.detach(), lambda v: torch.autograd.grad(estimate, u, v, retain_graph=True)[0]
    raise GuidanceError(
        f"guidance {guidance}: expected a network with a gradient, got one without; choose proximal, range-null or none"
    )
