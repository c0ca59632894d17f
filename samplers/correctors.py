"""Correctors: Markov chain steps that keep the time and improve the state's distribution.

All are Langevin dynamics, x + e score + sqrt(2 e) z, and differ in the step e. Several steps at each noise level with
`StillPredictor` between the levels are annealed Langevin dynamics.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffusion import SDE

__all__ = ["Corrector", "LangevinCorrector", "SNRCorrector"]


class Corrector(Protocol):
    """A step at time t that follows the score; `below` is the highest noise level (VE units) it is applied at."""

    below: float

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Moves x_t, whose denoised estimate is given; shapes (B, C, H, W)."""


@dataclass(frozen=True)
class LangevinCorrector:
    """One step of Langevin dynamics: x + e score + sqrt(2 e) z with e = 2 (q sigma)^2.

    Song et al. (https://arxiv.org/abs/2011.13456), algorithm 4, scale the step by the ratio of the norms
    of noise and score. For a score of the prior alone the expected ratio is sigma, which gives this
    step; under guidance, where the score shrinks as the capture takes over, the ratio would blow up.
    It is also the step of annealed Langevin dynamics, Song and Ermon, NeurIPS 2019
    (https://arxiv.org/abs/1907.05600), algorithm 1: e proportional to the variance of the level.

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


@dataclass(frozen=True)
class SNRCorrector:
    """One step of Langevin dynamics whose size keeps the ratio of what pulls to what shakes.

        e = 2 (q |z| / |score|)^2

    Song et al. (https://arxiv.org/abs/2011.13456), algorithm 4, with norms over each photo: theirs, over the batch,
    make a result depend on its company. The factor of 1 - beta_i that algorithm 5 adds for VP is 1 in continuous time.
    Norms also depend on what share of a photo the data determine; see `LangevinCorrector`.

    Attributes: As of `LangevinCorrector`.
    """

    ratio: float = 0.16
    temperature: float = 1.0
    below: float = math.inf

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Moves x_t, whose denoised estimate is given, at time t; shapes (B, C, H, W)."""
        alpha, sigma = sde.marginal(t)
        score = (alpha * estimate - x_t) / sigma.square()
        pull, shake = (v.flatten(1).norm(dim=1)[:, None, None, None] for v in (score, noise))
        # Without a pull there is nothing to balance: the state stays.
        step = torch.where(pull > 0, 2 * (self.ratio * shake / pull).square(), 0)
        return x_t + step * score + self.temperature * torch.sqrt(2 * step) * noise
