"""Decoupled annealing posterior sampling (DAPS): a photo is drawn at every noise level, and noised anew.

Zhang et al., "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR 2025
(https://arxiv.org/abs/2407.01521). At each level: estimate x_0 from x_t by a few steps of the probability-flow ODE;
draw x_0 from N(estimate, v I) times the likelihood; noise it to the next level. Successive states do not hang
together, so that an error made early can be left again.

The paper draws by Langevin dynamics, in 100 steps that do not mix over the singular values of a defocus. For a linear
blur the density is Gaussian and a draw is the minimiser of a perturbed least-squares problem, by conjugate gradients
(Papandreou and Yuille, "Gaussian Sampling by Local Perturbations", NIPS 2010); another blur is linearised at the
estimate.

Needs no gradient of the network; takes noise that differs from pixel to pixel, and linear light. What it asks of the
denoiser is the prior; the capture it meets itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.guidance.likelihood import GuidedDenoiser, prior_variance
from samplers.reverse_process import Callback, Evaluations, draw_noise

__all__ = ["DAPSSampler"]


@dataclass(frozen=True)
class DAPSSampler:
    """Draws from the posterior by decoupled annealing.

    Attributes:
        sigmas: Decreasing noise levels (VE units), shape (N,).
        ode_steps: Evaluations at each level but the last, which has one; 1 takes E[x_0 | x_t] for the estimate, more
            an ODE's end.
        strength: lambda of `prior_variance`; smaller trusts the capture more.
        photo_std: s_d in [-1, 1] units.
        iterations: Bound of the solver's iterations.
        temperature: Scale of all noise that is drawn; 1 for a sample of the posterior.
        sample: Whether the result is a draw at the last level, or the mean there.
    """

    sigmas: Tensor
    ode_steps: int = 1
    strength: float = 1.0
    photo_std: float = 0.5
    iterations: int = 16
    temperature: float = 1.0
    sample: bool = True

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser."""
        return (len(self.sigmas) - 1) * self.ode_steps + 1

    def __call__(
        self,
        denoiser: GuidedDenoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Samples; as `PredictorCorrectorSampler`, but for a denoiser that has a capture."""
        sde, levels = denoiser.sde, self.sigmas.to(x_t.device)
        evaluate = Evaluations(denoiser, self.evaluations, callback)
        scales = sde.marginal(sde.time_of(levels))[0]
        for index, sigma in enumerate(levels):
            estimate = self._estimate(evaluate, x_t, sigma)
            last = index + 1 == len(levels)
            x = estimate + self._increment(denoiser, estimate, sigma, generator, self.sample or not last)
            if not last:
                x_t = scales[index + 1] * (x + self.temperature * levels[index + 1] * draw_noise(x, generator))
        return x

    def _estimate(self, evaluate: Evaluations, x_t: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x_t], or where the ODE leads from x_t in Euler steps down to the last level."""
        sde, high, low = evaluate.denoiser.sde, float(sigma), float(self.sigmas[-1])
        # From the last level there is nowhere to go.
        descent = torch.linspace(high, low, self.ode_steps + 1, dtype=torch.float32)[:-1]
        levels = descent.tolist() if high > low else [high]
        u = x_t / sde.marginal(sde.time_of(sigma))[0]
        for index, level in enumerate(levels):
            t = sde.time_of(sigma.new_tensor(level))
            estimate = evaluate(sde.marginal(t)[0] * u, t, level)
            if index + 1 < len(levels):
                kept = levels[index + 1] / level
                u = kept * u + (1 - kept) * estimate
        return estimate

    def _increment(
        self, denoiser: GuidedDenoiser, estimate: Tensor, sigma: Tensor, generator: torch.Generator | None, draw: bool
    ) -> Tensor:
        """x_0 - estimate, drawn from the Gaussian of estimate and capture, or its mean."""
        data = denoiser.likelihood
        variance = prior_variance(sigma, self.strength, self.photo_std)
        residual, derivative = data.linearize(estimate)
        b = data.weight * residual
        if draw:
            # W times noise of covariance sigma_n^2 W^-1.
            b = b + self.temperature * (data.noise_variance * data.weight).sqrt() * draw_noise(residual, generator)
        b = derivative.adjoint(b)
        if draw:
            shift = self.temperature * draw_noise(estimate, generator)
            b = b + data.noise_variance / variance.sqrt() * shift
        return data.solve(derivative, data.noise_variance / variance, torch.zeros_like(b), b, self.iterations)
