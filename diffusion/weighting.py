"""Which noise levels a score network is trained at, and what each of them counts.

A weighting maps a uniform number in (0, 1) to a noise level sigma / alpha, [-1, 1] units, and gives the
factor lambda of the squared error ||D(x_0 + sigma z; sigma) - x_0||^2 there, D being the denoiser:

- `EDMWeighting`: log-normal noise levels, and lambda such that every level has a regression target of
  unit variance (Karras et al., https://arxiv.org/abs/2206.00364, table 1);
- `LikelihoodWeighting`: lambda = g(t)^2 on the score, which bounds the likelihood under an SDE (Song et
  al., "Maximum Likelihood Training of Score-Based Diffusion Models", NeurIPS 2021,
  https://arxiv.org/abs/2101.09258).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from diffusion.sde import SDE, VESDE, VPSDE, SubVPSDE

__all__ = ["EDMWeighting", "LikelihoodWeighting", "NoiseLevels", "ObjectiveConfig", "Weighting", "weighting_of"]


@dataclass(frozen=True)
class NoiseLevels:
    """Log-normal distribution of training noise levels; likelihood weighting uses its range alone.

    Attributes:
        log_mean: Mean of ln(sigma).
        log_std: Standard deviation of ln(sigma).
        sigma_min: Smallest noise level; smaller draws are clipped to it. [-1, 1] units.
        sigma_max: Largest noise level. [-1, 1] units.
    """

    log_mean: float = -2.0
    log_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 3.0

    def __post_init__(self) -> None:
        # Negated, so that NaN is refused too.
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                "noise.sigma_min and sigma_max must satisfy 0 < min < max < infinity, got "
                f"{self.sigma_min} and {self.sigma_max}"
            )
        if not math.isfinite(self.log_mean):
            raise ValueError(f"noise.log_mean must be a finite number, got {self.log_mean}")
        if not 0 < self.log_std < math.inf:
            raise ValueError(f"noise.log_std must be positive and finite, got {self.log_std}")

    def __call__(self, quantile: Tensor) -> Tensor:
        """Maps uniform numbers in (0, 1) to noise levels, monotonically; shape (B,) -> (B,)."""
        normal = torch.special.ndtri(quantile.double()).to(quantile.dtype)
        return torch.exp(self.log_mean + self.log_std * normal).clamp(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What training minimises.

    Attributes:
        weighting: `edm`; `uncertainty`, the same divided by a learned uncertainty of each noise level; or
            `likelihood`.
        sde: `ve`, `vp` or `sub-vp`: whose likelihood.
        times: How the times of the likelihood are drawn: `importance`, with density g^2 / sigma^2, or `uniform`.
    """

    weighting: str = "edm"
    sde: str = "ve"
    times: str = "importance"

    def __post_init__(self) -> None:
        choices = {
            "weighting": ("edm", "uncertainty", "likelihood"), "sde": ("ve", "vp", "sub-vp"),
            "times": ("importance", "uniform"),
        }  # fmt: skip
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise ValueError(f"objective.{key} must be one of {', '.join(known)}, got {getattr(self, key)}")
        if self.weighting != "likelihood" and (self.sde, self.times) != ("ve", "importance"):
            raise ValueError(
                f"objective.sde and objective.times belong to objective.weighting=likelihood, got {self.weighting}"
            )


class Weighting(Protocol):
    """Noise levels of training and the factor of the squared error at each."""

    def noise_level(self, quantile: Tensor) -> Tensor:
        """Maps uniform numbers in (0, 1) to noise levels in [-1, 1] units; (B,) -> (B,)."""

    def weight(self, sigma: Tensor) -> Tensor:
        """The factor lambda at noise levels; (B,) -> (B,)."""


@dataclass(frozen=True)
class EDMWeighting:
    """Log-normal noise levels, lambda = (sigma^2 + s_d^2) / (sigma s_d)^2.

    Args:
        levels: Distribution of the noise levels.
        sigma_data: Pixel standard deviation s_d of photos.
    """

    levels: NoiseLevels
    sigma_data: float

    def noise_level(self, quantile: Tensor) -> Tensor:
        return self.levels(quantile)

    def weight(self, sigma: Tensor) -> Tensor:
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()


@dataclass(frozen=True)
class LikelihoodWeighting:
    """The bound 1/2 int g^2 E ||score error||^2 dt on the negative log-likelihood, as an expectation.

    The score error is alpha (D - x_0) / sigma^2, so that a uniform time has lambda = g^2 alpha^2 / sigma^4.
    Drawing t with density proportional to g^2 / sigma^2 instead leaves lambda = alpha^2 / sigma^2, which varies
    far less. Since g^2 / sigma^2 dt = 2 d ln(sigma / alpha) for every linear SDE, those are
    log-uniform noise levels, whichever SDE it is. Both have the same mean; it is the bound, without terms
    that do not depend on the network, in nats per value and divided by ln(sigma_max / sigma_min).

    Args:
        sde: The SDE whose likelihood is bounded.
        sigma_min: Smallest noise level sigma / alpha, [-1, 1] units.
        sigma_max: Largest noise level.
        importance: Whether times are drawn with density proportional to g^2 / sigma^2, or else uniformly.
    """

    sde: SDE
    sigma_min: float
    sigma_max: float
    importance: bool = True

    def __post_init__(self) -> None:
        if self._times[1] > 1 + 1e-9:
            end = float(self.sde.sigma_ve(torch.ones((), dtype=torch.float64)))
            raise ValueError(f"sigma_max must be at most {end:.4g}, where the SDE ends, got {self.sigma_max}")

    @cached_property
    def _times(self) -> tuple[float, float]:
        first, last = self.sde.time_of(torch.tensor([self.sigma_min, self.sigma_max], dtype=torch.float64))
        return float(first), float(last)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    @property
    def normaliser(self) -> float:
        """Mean of g^2 / sigma^2 over the times, by which lambda at uniform times is divided."""
        first, last = self._times
        return 2 * self._log_ratio / (last - first)

    def noise_level(self, quantile: Tensor) -> Tensor:
        quantile = quantile.double()
        if self.importance:
            sigma = self.sigma_min * torch.exp(self._log_ratio * quantile)
        else:
            first, last = self._times
            sigma = self.sde.sigma_ve(first + (last - first) * quantile)
        return sigma.float()

    def weight(self, sigma: Tensor) -> Tensor:
        if self.importance:
            return sigma.pow(-2)
        t = self.sde.time_of(sigma)
        alpha, _ = self.sde.marginal(t)
        return (self.sde.diffusion(t) / (alpha * sigma.square())).square() / self.normaliser


def weighting_of(objective: ObjectiveConfig, noise: NoiseLevels, sigma_data: float) -> Weighting:
    """The weighting that the settings describe; that of `uncertainty` is `edm` before it is learned."""
    if objective.weighting != "likelihood":
        return EDMWeighting(noise, sigma_data)
    sde = {"ve": lambda: VESDE(noise.sigma_min, noise.sigma_max), "vp": VPSDE, "sub-vp": SubVPSDE}[objective.sde]()
    return LikelihoodWeighting(sde, noise.sigma_min, noise.sigma_max, objective.times == "importance")
