"""Predictors: one step of the reverse SDE, from time t down to s < t.

A predictor gets the state x_t and the denoiser's estimate of the clean photo at t (with or without a
capture in mind), and draws a state at s. They follow Song et al., "Score-Based Generative Modeling
through Stochastic Differential Equations", ICLR 2021 (https://arxiv.org/abs/2011.13456), appendices
E and F, written for any marginals (alpha, sigma).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion import SDE

__all__ = [
    "AncestralPredictor", "EulerMaruyamaPredictor", "Predictor", "ProbabilityFlowPredictor",
    "ReverseDiffusionPredictor", "StillPredictor",
]  # fmt: skip

Predictor = Callable[[SDE, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(sde, x_t, estimate, t, s, noise) -> x_s, all photos of shape (B, C, H, W)."""


@dataclass(frozen=True)
class AncestralPredictor:
    """Draws x_s from p(x_s | x_t, x_0 = estimate), or a variant with more or less new noise.

        x_s = alpha_s x_0 + sigma_s (sqrt(1 - zeta) eps + tau sqrt(zeta) z),  eps = (x_t - alpha_t x_0) / sigma_t

    Ancestral sampling has zeta = 1 - (noise-to-signal ratio at s / at t)^2 and tau = 1.

    Attributes:
        renoise: zeta in [0, 1]: 0 keeps the noise (the probability-flow ODE, DDIM), 1 replaces all of
            it; None is ancestral sampling.
        temperature: tau, scale of the new noise. The estimate is not exact: its own error is part of the
            noise that the denoiser finds at s, and below 1 leaves room for it.
    """

    renoise: float | None = None
    temperature: float = 1.0

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        if self.renoise is None:
            zeta = 1 - (sde.sigma_ve(s) / sde.sigma_ve(t)).square()
        else:
            zeta = torch.as_tensor(self.renoise)
        noise = self.temperature * zeta.sqrt() * noise
        if self.renoise != 1:
            noise += (1 - zeta).sqrt() * (x_t - alpha_t * estimate) / sigma_t
        return noise.mul_(sigma_s).add_(alpha_s * estimate)


@dataclass(frozen=True)
class ReverseDiffusionPredictor:
    """Discretises the reverse SDE as the forward SDE is discretised.

    The forward step s -> t is x_t = a x_s + b z with a = alpha_t / alpha_s, b^2 = sigma_t^2 - a^2 sigma_s^2;
    the reverse step is x_s = (2 - a) x_t + b^2 score + tau b z.

    Attributes:
        temperature: tau, scale of the noise; 1 for the reverse SDE.
    """

    temperature: float = 1.0

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        a = alpha_t / alpha_s
        variance = sigma_t.square() - (a * sigma_s).square()
        score = (alpha_t * estimate - x_t) / sigma_t.square()
        return (2 - a) * x_t + variance * score + self.temperature * variance.sqrt() * noise


@dataclass(frozen=True)
class EulerMaruyamaPredictor:
    """Discretises the reverse SDE in time: x_s = x_t - (t - s) (f - g^2 score) + tau g sqrt(t - s) z.

    Attributes:
        temperature: tau, scale of the noise; 1 for the reverse SDE.
    """

    temperature: float = 1.0

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        g, step = sde.diffusion(t), t - s
        slope = sde.drift(x_t, t) - g.square() * _score(sde, x_t, estimate, t)
        return x_t - step * slope + self.temperature * g * step.sqrt() * noise


@dataclass(frozen=True)
class ProbabilityFlowPredictor:
    """Discretises the probability-flow ODE in time: x_s = x_t - (t - s) (f - g^2 score / 2), without noise."""

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        slope = sde.drift(x_t, t) - sde.diffusion(t).square() * _score(sde, x_t, estimate, t) / 2
        return x_t - (t - s) * slope


@dataclass(frozen=True)
class StillPredictor:
    """Leaves the rescaled state x_t / alpha as it is: all the work is the corrector's.

    Annealed Langevin dynamics: the noise of the higher level stands until corrections have removed it.
    """

    def __call__(self, sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        return sde.marginal(s)[0] / sde.marginal(t)[0] * x_t


def _score(sde: SDE, x_t: Tensor, estimate: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = sde.marginal(t)
    return (alpha * estimate - x_t) / sigma.square()
