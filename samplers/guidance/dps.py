"""Diffusion posterior sampling (DPS): one gradient step on the data term, taken through the network.

Chung et al., "Diffusion Posterior Sampling for General Noisy Inverse Problems", ICLR 2023
(https://arxiv.org/abs/2209.14687), replace p(y | x_t) by the likelihood p(y | D) of the denoised estimate. The step 1
/ sigma_n^2 that follows would diverge, and they divide a fixed one by the norm of the residual, which ties its length
to the number of pixels and of steps. Here the variance that the estimate itself has is added instead, for a blur of
norm 1: p(y | x_t) = N(A D, sigma_n^2 + v), whose gradient step never overshoots a Gaussian prior.

Needs the network's gradient; takes noise that differs from pixel to pixel, and linear light. Biased even for photos of
independent pixels, for A A^T is no multiple of one.
"""

from torch import Tensor

from diffusion import Denoiser
from samplers.guidance.gradient import differentiate
from samplers.guidance.likelihood import ForwardModel, GuidedDenoiser, prior_variance

__all__ = ["DPSGuidance"]


class DPSGuidance(GuidedDenoiser):
    """D + sigma^2 J^T A^T (sigma_n^2 + v)^-1 (y - A D).

    Args:
        denoiser: Estimates E[x_0 | x_t]; its network has a gradient.
        model: The blur; linearised at each estimate.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units; a number or shape (B, 1 or C, H, W).
        strength: lambda of `prior_variance`; smaller makes v larger and the step shorter.
        photo_std: s_d in [-1, 1] units.
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
    ) -> None:
        super().__init__(denoiser, model, y, noise_std)
        self.strength, self.photo_std = strength, photo_std

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate, pullback = differentiate(self.denoiser, x_t, t, "dps")
        sigma = self.sde.sigma_ve(t)
        residual, derivative = self.linearize(estimate)
        data = self.likelihood
        # 1 / (sigma_n^2 / W + v), also where W is 0.
        precision = data.weight / (
            data.noise_variance + data.weight * prior_variance(sigma, self.strength, self.photo_std)
        )
        return estimate + sigma.square() * pullback(derivative.adjoint(precision * residual))
