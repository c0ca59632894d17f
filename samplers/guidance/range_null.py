"""Range-null guidance: what the capture shows is taken from it, what it cannot show from the prior.

Wang et al., "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model" (DDNM), ICLR 2023
(https://arxiv.org/abs/2212.00490), replace the range of A: D + s A^+ (y - A D). A defocus has singular values near 0,
whose inverse is noise; here (A^T A + c^2)^-1 A^T takes the place of the pseudo-inverse, which leaves what A passes
with less than about c to the prior. As their section on noise asks, the correction is scaled down, s = sigma /
sigma_n, where the state has less noise than the capture would bring in.

Needs no gradient of the network. Exact for a capture without noise, photos of independent pixels and c = 0. It copies
the capture's noise and cannot weigh pixels: noise must be of one level, and the blur linear.
"""

import torch
from torch import Tensor

from diffusion import Denoiser
from samplers.guidance.likelihood import ForwardModel, GuidanceError, GuidedDenoiser

__all__ = ["RangeNullGuidance"]


class RangeNullGuidance(GuidedDenoiser):
    """D + s (A^T A + c^2)^-1 A^T (y - A D).

    Args:
        denoiser: Estimates E[x_0 | x_t].
        model: The blur; linear.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units, the same in all pixels.
        cutoff: c, singular values of A below which the prior has its way.
        iterations: Bound of the solver's iterations.

    Raises:
        GuidanceError: If the noise differs from pixel to pixel, or the blur is not linear.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        model: ForwardModel,
        y: Tensor,
        noise_std: float | Tensor,
        *,
        cutoff: float = 0.1,
        iterations: int = 16,
    ) -> None:
        super().__init__(denoiser, model, y, noise_std)
        self.cutoff, self.iterations = cutoff, iterations
        if not (self.likelihood.weight == 1).all():
            raise GuidanceError(
                "guidance range-null: expected the same noise in all pixels, got noise that differs; set model_error=0 "
                "or choose proximal, pigdm, moment-matching or dps"
            )
        if not hasattr(model, "adjoint"):
            raise GuidanceError(
                "guidance range-null: expected a linear blur, as of light=srgb, got one that is not; choose proximal, "
                "pigdm, moment-matching or dps"
            )

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate = self.denoiser(x_t, t)
        noise_variance = self.likelihood.noise_variance
        increment = self.increment(estimate, noise_variance.new_tensor(self.cutoff**2), self.iterations)
        scale = torch.clamp(self.sde.sigma_ve(t) / noise_variance.sqrt(), max=1)
        return estimate + scale * increment
