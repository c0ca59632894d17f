"""What every sampler shares: the state at the start, its noise, and the evaluations of the denoiser.

A sampler descends a grid of noise levels sigma / alpha (VE units) and ends with the denoised estimate at the
last one. A grid may also rise: then the state is noised forward, which is exact, and the descent starts anew
(see `samplers.restart`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffusion import SDE, Denoiser

__all__ = ["EvaluationCount", "Evaluations", "Sampler", "SamplerStep", "draw_noise", "forward_noise", "start_state"]


@dataclass(frozen=True)
class SamplerStep:
    """What a callback sees after each evaluation of the denoiser.

    Attributes:
        index: Number of evaluations done.
        total: Number of evaluations of the whole run.
        sigma: Noise level (VE units) of the evaluation.
        x_t: State, shape (B, C, H, W).
        estimate: Denoised estimate, same shape.
        residual: Root mean square of y - A D in standard deviations of the capture's noise, where D is what the
            prior alone estimates; None without a guide.
    """

    index: int
    total: int
    sigma: float
    x_t: Tensor
    estimate: Tensor
    residual: Tensor | None = None


Callback = Callable[[SamplerStep], None]


class Sampler(Protocol):
    """A descent from noise to photo; every one takes every denoiser, guided or not."""

    sigmas: Tensor

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser in a run that is not stopped early."""

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """The photo that a state at the first noise level becomes, shape (B, C, H, W)."""


class Evaluations:
    """Evaluates a denoiser, reports each evaluation and stops the run at the first value that is not finite.

    Args:
        denoiser: Estimates E[x_0 | x_t], or E[x_0 | x_t, y].
        total: Evaluations of the whole run.
        callback: Called after each.
        stop_change: See `settled`.
    """

    def __init__(
        self, denoiser: Denoiser, total: int, callback: Callback | None = None, stop_change: float = 0.0
    ) -> None:
        self.denoiser, self.total, self.callback, self.stop_change = denoiser, total, callback, stop_change
        self.done = 0
        self._change: Tensor | None = None
        self._last: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor, sigma: float) -> Tensor:
        """The estimate at a state x_t, shape (B, C, H, W), of time t and noise level sigma.

        Raises:
            FloatingPointError: If state or estimate hold an undefined or infinite value; names where and why.
        """
        # Guides by gradient switch gradients on for themselves; nobody asks for one of the whole run.
        with torch.no_grad():
            estimate = self.denoiser(x_t, t)
        self.done += 1
        if not torch.isfinite(estimate).all():
            place = f"evaluation {self.done} of {self.total}, at noise level {sigma:.3g}"
            raise FloatingPointError(f"got an undefined or infinite value in {place}: {self._cause(x_t, t)}")
        if self.stop_change > 0:
            self._change = None if self._last is None else (estimate - self._last).square().mean().sqrt()
            self._last = estimate
        if self.callback is not None:
            residual = getattr(self.denoiser, "residual", None)
            self.callback(SamplerStep(self.done, self.total, sigma, x_t, estimate, residual))
        return estimate

    @property
    def settled(self) -> bool:
        """Whether the last two estimates differ by at most `stop_change`, root mean square in [-1, 1] units."""
        return self._change is not None and bool(self._change <= self.stop_change)

    def _cause(self, x_t: Tensor, t: Tensor) -> str:
        if not torch.isfinite(x_t).all():
            return "the sampler's step before it diverged; use more steps or a smaller weight of the capture"
        prior = getattr(self.denoiser, "denoiser", None)
        if prior is not None and torch.isfinite(prior(x_t, t)).all():
            return "the data step diverged; check the noise of the capture and the defocus map"
        return "the network overflowed; check the weights, or run it with precision=fp32"


class EvaluationCount:
    """A callback that counts evaluations, and passes them on."""

    def __init__(self, callback: Callback | None = None) -> None:
        self.count, self._callback = 0, callback

    def __call__(self, step: SamplerStep) -> None:
        # Not the step's own index, for one of several runs may end early.
        self.count += 1
        if self._callback is not None:
            self._callback(step)


def start_state(
    sde: SDE, x: Tensor, sigma: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
) -> Tensor:
    """A state at a noise level (VE units) that starts from a photo: alpha (x + temperature sigma z), shape of x."""
    alpha, noise_scale = sde.marginal(sde.time_of(sigma.to(x.device)))
    return alpha * x + temperature * noise_scale * draw_noise(x, generator)


def draw_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of a photo's shape, the same on every device for a CPU generator."""
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def forward_noise(sde: SDE, x_s: Tensor, s: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Draws x_t from p(x_t | x_s) for s < t: (alpha_t / alpha_s) x_s + b noise, shape of x_s."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = sde.marginal(s), sde.marginal(t)
    a = alpha_t / alpha_s
    return a * x_s + (sigma_t.square() - (a * sigma_s).square()).sqrt() * noise
