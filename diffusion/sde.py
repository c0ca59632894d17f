"""Forward stochastic differential equations that turn a photo into noise.

    dx = f(x, t) dt + g(t) dw,   x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I),   t in [0, 1]

following Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations",
ICLR 2021 (https://arxiv.org/abs/2011.13456), section 3.4 and appendix B. Three members are defined by
their marginals: variance exploding (VE), variance preserving (VP) and sub-variance preserving
(sub-VP). Reverse SDE and probability-flow ODE derive from f, g and the score:

    dx = [f - g^2 score] dt + g dw (backwards in t),      dx = [f - g^2 score / 2] dt

What a denoiser sees is the noise-to-signal ratio sigma / alpha, called `sigma_ve` throughout: the
noise level of the VE process x_t / alpha. `time_of` inverts it, so that one grid of noise levels
serves every SDE.
"""

import math
from abc import abstractmethod

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

__all__ = ["SDE", "VESDE", "VPSDE", "SubVPSDE"]


class SDE(SchedulerMixin, ConfigMixin):
    """A linear forward SDE, saved with the pipeline as `scheduler_config.json`."""

    @abstractmethod
    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise scale (alpha, sigma) of x_t given x_0, each of the shape of t."""

    @abstractmethod
    def drift_rate(self, t: Tensor) -> Tensor:
        """The factor a(t) of the linear drift f(x, t) = a(t) x, of the shape of t."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """The diffusion coefficient g(t), of the shape of t."""

    @abstractmethod
    def time_of(self, sigma_ve: Tensor) -> Tensor:
        """The time at which sigma / alpha equals `sigma_ve`, of its shape; inverse of `sigma_ve`."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The drift f(x, t); x of shape (B, ...), t scalar or of shape (B,)."""
        return _broadcast(self.drift_rate(t), x) * x

    def sigma_ve(self, t: Tensor) -> Tensor:
        """The noise-to-signal ratio sigma / alpha, increasing in t, of the shape of t."""
        alpha, sigma = self.marginal(t)
        return sigma / alpha

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Draws x_t = alpha x_0 + sigma noise; x_0 of shape (B, ...), t scalar or of shape (B,)."""
        alpha, sigma = self.marginal(t)
        return _broadcast(alpha, x_0) * x_0 + _broadcast(sigma, x_0) * noise


class VESDE(SDE):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t.

    Args:
        sigma_min: Noise level at t = 0, in [-1, 1] units.
        sigma_max: Noise level at t = 1, in [-1, 1] units.
    """

    @register_to_config
    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 3.0) -> None:
        _require(0 < sigma_min < sigma_max, f"0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")

    @property
    def _log_ratio(self) -> float:
        return math.log(self.config.sigma_max / self.config.sigma_min)

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.config.sigma_min * torch.exp(self._log_ratio * t)

    def drift_rate(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        # g^2 = d sigma^2 / dt
        return self.marginal(t)[1] * math.sqrt(2 * self._log_ratio)

    def time_of(self, sigma_ve: Tensor) -> Tensor:
        return torch.log(sigma_ve / self.config.sigma_min) / self._log_ratio


class VPSDE(SDE):
    """Variance preserving: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), B(t) = integral of beta.

    Args:
        beta_min: beta(0) of the linear beta(t) = beta_min + t (beta_max - beta_min).
        beta_max: beta(1).
    """

    @register_to_config
    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        _require(0 < beta_min < beta_max, f"0 < beta_min < beta_max, got {beta_min} and {beta_max}")

    def _beta(self, t: Tensor) -> Tensor:
        return self.config.beta_min + t * (self.config.beta_max - self.config.beta_min)

    def _beta_integral(self, t: Tensor) -> Tensor:
        return self.config.beta_min * t + t.square() * (self.config.beta_max - self.config.beta_min) / 2

    def _time_of_beta_integral(self, integral: Tensor) -> Tensor:
        low, slope = self.config.beta_min, self.config.beta_max - self.config.beta_min
        # The positive root of slope t^2 / 2 + low t - integral, in the form that keeps small t exact.
        return 2 * integral / (low + torch.sqrt(low**2 + 2 * slope * integral))

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        integral = self._beta_integral(t)
        return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))

    def drift_rate(self, t: Tensor) -> Tensor:
        return -self._beta(t) / 2

    def diffusion(self, t: Tensor) -> Tensor:
        return self._beta(t).sqrt()

    def time_of(self, sigma_ve: Tensor) -> Tensor:
        # sigma^2 / alpha^2 = exp(B) - 1
        return self._time_of_beta_integral(torch.log1p(sigma_ve.square()))


class SubVPSDE(VPSDE):
    """Sub-variance preserving: alpha = exp(-B/2), sigma = 1 - exp(-B); arguments as in `VPSDE`."""

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        integral = self._beta_integral(t)
        return torch.exp(-integral / 2), -torch.expm1(-integral)

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(self._beta(t) * -torch.expm1(-2 * self._beta_integral(t)))

    def time_of(self, sigma_ve: Tensor) -> Tensor:
        # sigma / alpha = 2 sinh(B / 2)
        return self._time_of_beta_integral(2 * torch.asinh(sigma_ve / 2))


def _broadcast(scale: Tensor, x: Tensor) -> Tensor:
    return scale.to(x).reshape(-1, *[1] * (x.dim() - 1)) if scale.dim() else scale.to(x)


def _require(condition: bool, expectation: str) -> None:
    if not condition:
        raise ValueError(f"expected {expectation}")
