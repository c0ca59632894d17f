"""Solvers of the probability-flow ODE, and of the reverse SDE where they allow for noise, of order up to 3.

In the rescaled state u = x_t / alpha every SDE of the family is the same problem, with sigma the noise level in VE
units and lambda = -log sigma:

    du / d sigma = (u - D) / sigma,      du = (1 + eta) (D - u) d lambda + sqrt(2 eta) sigma dw

The first is the ODE, which the second becomes at eta = 0; its marginals are those of the forward SDE for any eta >= 0.
The state that a denoiser is asked for is x_t = alpha u. As everywhere, the result is the estimate at the last level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion import Denoiser
from samplers.predictor_corrector import count_evaluations
from samplers.reverse_process import Callback, Evaluations, draw_noise

__all__ = ["DPMSolver", "HeunSampler", "exponential_weights"]


@dataclass(frozen=True)
class HeunSampler:
    """Heun's method with churn, of order 2.

    Karras et al., NeurIPS 2022 (https://arxiv.org/abs/2206.00364), algorithm 2. Each step costs
    two evaluations: the slope at its end corrects that at its beginning. With churn, a step begins by adding noise, and
    goes down from the higher level.

    Attributes:
        sigmas: Noise levels (VE units), as of `PredictorCorrectorSampler`.
        churn: S_churn, the noise added over the whole run; a step raises its level by at most sqrt(2) and never above
            the first. 0 is the ODE.
        temperature: S_noise, scale of the noise of churn and restarts.
        stop_change: As of `PredictorCorrectorSampler`.
    """

    sigmas: Tensor
    churn: float = 0.0
    temperature: float = 1.0
    stop_change: float = 0.0

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser in a run that is not stopped early."""
        return 2 * count_evaluations(self.sigmas.tolist(), None) - 1

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Samples; arguments, result and errors as of `PredictorCorrectorSampler`."""
        at = _Rescaled(denoiser, self.evaluations, callback, self.stop_change, like=self.sigmas.to(x_t.device))
        sigmas = self.sigmas.tolist()
        raised = 1 + min(self.churn / (len(sigmas) - 1), math.sqrt(2) - 1)
        u = at.rescaled(x_t, sigmas[0])
        for high, low in zip(sigmas[:-1], sigmas[1:], strict=True):
            if low > high:
                u = _noised(u, high, low, self.temperature, generator)
                continue
            middle = min(high * raised, sigmas[0])
            if middle > high:
                u = _noised(u, high, middle, self.temperature, generator)
            estimate = at(u, middle)
            if at.settled:
                return estimate
            slope = (u - estimate) / middle
            euler = u + (low - middle) * slope
            u = u + (low - middle) * (slope + (euler - at(euler, low)) / low) / 2
        return at(u, sigmas[-1])


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++, multistep: Lu et al., https://arxiv.org/abs/2211.01095, sections 4.2 and 5; one evaluation a step.

    The linear part of the equation is solved exactly; in the integral that is left, the estimate is the polynomial in
    lambda through the last `order` of them (Adams-Bashforth in exponential form), integrated exactly. The paper's 2M
    and 3M truncate the same integrals at the same order. Order 1 without noise is DDIM, the Euler method for the ODE
    in sigma.

    Order 3 needs a first step better than Euler's: the second evaluation corrects it, at no cost. With noise (eta > 0)
    the moments of the state have at most order 2, for past estimates do not know the noise to come.

    Attributes:
        sigmas: Noise levels (VE units), as of `PredictorCorrectorSampler`.
        order: 1, 2 or 3.
        eta: Amount of noise: 0 for the ODE, 1 for the reverse SDE.
        temperature: Scale of that noise and of the noise of restarts.
        stop_change: As of `PredictorCorrectorSampler`.
    """

    sigmas: Tensor
    order: int = 2
    eta: float = 0.0
    temperature: float = 1.0
    stop_change: float = 0.0

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser in a run that is not stopped early."""
        return count_evaluations(self.sigmas.tolist(), None)

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Samples; arguments, result and errors as of `PredictorCorrectorSampler`."""
        at = _Rescaled(denoiser, self.evaluations, callback, self.stop_change, like=self.sigmas.to(x_t.device))
        sigmas = self.sigmas.tolist()
        u = at.rescaled(x_t, sigmas[0])
        known: list[tuple[float, Tensor]] = []
        for high, low in zip(sigmas[:-1], sigmas[1:], strict=True):
            if low > high:
                known, u = [], _noised(u, high, low, self.temperature, generator)
                continue
            estimate = at(u, high)
            if at.settled:
                return estimate
            if self.order == 3 and len(known) == 1:
                u = u + self._first_step_again(known[0], (high, estimate))
            known = [(high, estimate), *known[: self.order - 1]]
            kept, weights = exponential_weights([level for level, _ in known], low, 1 + self.eta)
            u = kept * u + sum(weight * past for weight, (_, past) in zip(weights, known, strict=True))
            if self.eta > 0:
                spread = low * math.sqrt(-math.expm1(2 * self.eta * math.log(low / high)))
                u = u + self.temperature * spread * draw_noise(u, generator)
        return at(u, sigmas[-1])

    def _first_step_again(self, before: tuple[float, Tensor], after: tuple[float, Tensor]) -> Tensor:
        """What the first step of a descent lacked: the same integral through the estimates at both of its ends."""
        (high, first), (low, second) = before, after
        _, (alone,) = exponential_weights([high], low, 1 + self.eta)
        _, weights = exponential_weights([high, low], low, 1 + self.eta)
        return (weights[0] - alone) * first + weights[1] * second


def exponential_weights(levels: Sequence[float], low: float, rate: float = 1.0) -> tuple[float, list[float]]:
    """What a step of du / d lambda = rate (D - u) keeps of u, and the weight of each known D.

    With h the step in lambda, k the rate, and the time v in [0, 1] of the step, the exact solution is

        u_s = exp(-k h) u_t + integral of k h exp(-k h (1 - v)) D(v) dv

    The weights integrate every polynomial D of a degree below their number exactly.

    Args:
        levels: Noise levels at which D is known, the first being that at which the step begins.
        low: Noise level at which it ends.
        rate: k.

    Returns:
        exp(-k h), and as many weights as levels.
    """
    step = math.log(levels[0] / low)
    moments = [-math.expm1(-rate * step)]
    for power in range(1, len(levels)):
        # By parts; the integral of k h exp(-k h (1 - v)) v^p.
        moments.append(1 - power / (rate * step) * moments[-1])
    nodes = torch.tensor([math.log(levels[0] / level) / step for level in levels], dtype=torch.float64)
    powers = nodes[None] ** torch.arange(len(levels), dtype=torch.float64)[:, None]
    weights = torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64))
    return math.exp(-rate * step), weights.tolist()


class _Rescaled:
    """Evaluates a denoiser at rescaled states u = x_t / alpha."""

    def __init__(
        self, denoiser: Denoiser, total: int, callback: Callback | None, stop_change: float, like: Tensor
    ) -> None:
        self._evaluate, self._sde, self._like = Evaluations(denoiser, total, callback, stop_change), denoiser.sde, like

    def __call__(self, u: Tensor, sigma: float) -> Tensor:
        t = self._time(sigma)
        return self._evaluate(self._sde.marginal(t)[0] * u, t, sigma)

    def rescaled(self, x_t: Tensor, sigma: float) -> Tensor:
        return x_t / self._sde.marginal(self._time(sigma))[0]

    @property
    def settled(self) -> bool:
        return self._evaluate.settled

    def _time(self, sigma: float) -> Tensor:
        return self._sde.time_of(self._like.new_tensor(sigma))


def _noised(u: Tensor, low: float, high: float, temperature: float, generator: torch.Generator | None) -> Tensor:
    return u + temperature * math.sqrt(high**2 - low**2) * draw_noise(u, generator)
