"""Pseudo-inverse guidance (PiGDM): the proximal increment, pulled back through the network.

Song et al., "Pseudoinverse-Guided Diffusion Models for Inverse Problems", ICLR 2023, take p(x_0 | x_t) = N(D, v I), so
that p(y | x_t) = N(A D, v A A^T + sigma_n^2) and

    grad_u log p(y | u) = J^T A^T (v A A^T + sigma_n^2 W^-1)^-1 (y - A D) = J^T d / v

with d the increment of `ProximalGuidance`: the same linear system, solved by conjugate gradients on the canvas, where
weights of 0 do no harm. Where J = v / sigma^2, as for photos of independent pixels, both guides agree; in general J
knows which directions the prior is sure of. The paper's factor of v per step of DDIM is absent: it belongs to that
sampler.

Needs the network's gradient; takes noise that differs from pixel to pixel, and linear light.
"""

from torch import Tensor

from diffusion import Denoiser
from samplers.guidance.gradient import differentiate
from samplers.guidance.likelihood import ForwardModel, GuidedDenoiser, prior_variance

__all__ = ["PiGDMGuidance"]


class PiGDMGuidance(GuidedDenoiser):
    """D + (sigma^2 / v) J^T d.

    Args:
        denoiser: Estimates E[x_0 | x_t]; its network has a gradient.
        model: The blur; linearised at each estimate.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units; a number or shape (B, 1 or C, H, W).
        strength: lambda of `prior_variance`; smaller trusts the capture more.
        photo_std: s_d in [-1, 1] units.
        iterations: Bound of the solver's iterations.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        model: ForwardModel,
        y: Tensor,
        noise_std: float | Tensor,
        *,
        strength: float = 1.0,
        photo_std: float = 0.5,
        iterations: int = 16,
    ) -> None:
        super().__init__(denoiser, model, y, noise_std)
        self.strength, self.photo_std, self.iterations = strength, photo_std, iterations

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate, pullback = differentiate(self.denoiser, x_t, t, "pigdm")
        sigma = self.sde.sigma_ve(t)
        variance = prior_variance(sigma, self.strength, self.photo_std)
        increment = self.increment(estimate, self.likelihood.noise_variance / variance, self.iterations)
        return estimate + sigma.square() / variance * pullback(increment)
