"""RED-diff: the photo is optimised, with the denoiser's opinion of it as regulariser.

Mardani et al., "A Variational Perspective on Solving Inverse Problems with Diffusion Models", ICLR 2024
(https://arxiv.org/abs/2305.04391): fit a Gaussian to the posterior whose spread vanishes. Its mean mu minimises

    ||W^1/2 (y - A mu)||^2 / 2 + lambda E_sigma[ weight(sigma) (what the network takes for noise in mu + sigma z) ]

by Adam, one noise level an iteration, from the highest to the lowest. With the paper's weight, the noise-to-signal
ratio, the gradient of the regulariser is lambda (mu - D(mu + sigma z)): the network's own gradient is not needed.

Takes noise that differs from pixel to pixel, and linear light. Returns a mode, not a sample; what it asks of the
denoiser is the prior, the capture it meets itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.guidance.likelihood import GuidedDenoiser
from samplers.reverse_process import Callback, Evaluations, draw_noise

__all__ = ["REDDiffSampler"]


@dataclass(frozen=True)
class REDDiffSampler:
    """Optimises a photo, starting from the denoised estimate of the state it is given.

    Attributes:
        sigmas: Decreasing noise levels (VE units), shape (N,): one iteration each.
        weight: lambda of the regulariser.
        learning_rate: Of Adam, in [-1, 1] units: a pixel moves by about as much in an iteration.
        temperature: Scale of the noise.
    """

    sigmas: Tensor
    weight: float = 0.25
    learning_rate: float = 0.03
    temperature: float = 1.0

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser."""
        return len(self.sigmas)

    def __call__(
        self,
        denoiser: GuidedDenoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Optimises; called as `PredictorCorrectorSampler`, but for a denoiser that has a capture."""
        sde, levels, data = denoiser.sde, self.sigmas.to(x_t.device), denoiser.likelihood
        evaluate = Evaluations(denoiser, self.evaluations, callback)
        times = sde.time_of(levels)
        scales = sde.marginal(times)[0]
        estimate = evaluate(x_t, times[0], float(levels[0]))
        mu = estimate.clone()
        optimizer = torch.optim.Adam([mu], lr=self.learning_rate, betas=(0.9, 0.99))
        for index, sigma in enumerate(levels):
            if index > 0:
                noisy = mu + self.temperature * sigma * draw_noise(mu, generator)
                estimate = evaluate(scales[index] * noisy, times[index], float(sigma))
            residual, derivative = data.linearize(mu)
            mu.grad = self.weight * (mu - estimate) - derivative.adjoint(data.weight * residual)
            optimizer.step()
        return mu
