"""Correctors: Markov chain steps that keep the time and improve the state's distribution."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion import SDE

__all__ = ["LangevinCorrector"]


@dataclass(frozen=True)
class LangevinCorrector:
    """One step of Langevin dynamics: x + e score + sqrt(2 e) z with e = 2 (q sigma)^2.

    Song et al. (https://arxiv.org/abs/2011.13456), algorithm 4, scale the step by the ratio of the norms
    of noise and score. For a score of the prior alone the expected ratio is sigma, which gives this
    step; under guidance, where the score shrinks as the capture takes over, the ratio would blow up.

    Attributes:
        ratio: q, the signal-to-noise ratio of the step, positive.
        temperature: Scale of the noise, 1 for the exact distribution; see `AncestralPredictor`.
        below: Applied at noise levels (VE units) up to this one; higher ones are soon forgotten.
    """

    ratio: float = 0.16
    temperature: float = 1.0
    below: float = math.inf

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Moves x_t, whose denoised estimate is given, at time t; shapes (B, C, H, W)."""
        alpha, sigma = sde.marginal(t)
        score = (alpha * estimate - x_t) / sigma.square()
        step = 2 * (self.ratio * sigma).square()
        return x_t + step * score + self.temperature * torch.sqrt(2 * step) * noise
