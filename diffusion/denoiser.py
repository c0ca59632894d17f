"""Denoisers: estimates of the clean photo from the state of a diffusion.

A denoiser D maps (x_t, t) to E[x_0 | x_t]; the score of the marginal density follows from it:

    score(x_t, t) = (alpha D(x_t, t) - x_t) / sigma^2

(Tweedie's formula; Efron, "Tweedie's Formula and Selection Bias", JASA 2011.) A denoiser that also
knows a measurement y, and estimates E[x_0 | x_t, y], is a denoiser all the same: samplers take either.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from diffusion.sde import SDE

__all__ = ["Denoiser", "ScoreDenoiser"]


class Denoiser(nn.Module, ABC):
    """Estimates E[x_0 | x_t] for the SDE it belongs to."""

    sde: SDE

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Estimates the clean photo.

        Args:
            x_t: States of the diffusion, shape (B, C, H, W).
            t: Time in [0, 1], scalar.

        Returns:
            E[x_0 | x_t] in [-1, 1] units, shape (B, C, H, W).
        """

    def score(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Gradient of the log density of x_t, shape (B, C, H, W)."""
        alpha, sigma = self.sde.marginal(t)
        return (alpha * self(x_t, t) - x_t) / sigma.square()


class ScoreDenoiser(Denoiser):
    """A network trained on VE noise, serving any SDE by change of variables.

    With x_t = alpha x_0 + sigma z, the rescaled state x_t / alpha is a photo with noise of standard
    deviation sigma / alpha: exactly what the network was trained on.

    Args:
        network: Maps (x, sigma) to E[x_0 | x = x_0 + sigma z], as `ScoreNetwork`, or a tiled one.
        sde: The diffusion that x_t belongs to.
    """

    def __init__(self, network: nn.Module, sde: SDE) -> None:
        super().__init__()
        self.network = network
        self.sde = sde

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.marginal(torch.as_tensor(t, device=x_t.device))
        return self.network(x_t / alpha, sigma / alpha)
