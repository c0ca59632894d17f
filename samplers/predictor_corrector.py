"""The predictor-corrector sampler: integrates the reverse SDE along a grid of times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion import SDE, Denoiser
from samplers.correctors import LangevinCorrector
from samplers.predictors import AncestralPredictor, Predictor

__all__ = ["PredictorCorrectorSampler", "SamplerStep", "count_evaluations"]


@dataclass(frozen=True)
class SamplerStep:
    """What a callback sees after each evaluation of the denoiser.

    Attributes:
        index: Number of evaluations done.
        total: Number of evaluations of the whole run.
        sigma: Noise level (VE units) of the evaluation.
        x_t: State, shape (B, C, H, W).
        estimate: Denoised estimate, same shape.
    """

    index: int
    total: int
    sigma: float
    x_t: Tensor
    estimate: Tensor


def count_evaluations(sigmas: Sequence[float], corrector: LangevinCorrector | None) -> int:
    """Denoiser evaluations of a run: one per noise level and one per correction."""
    corrected = [s for s in list(sigmas)[1:] if corrector is not None and s <= corrector.below]
    return len(sigmas) + len(corrected)


@dataclass(frozen=True)
class PredictorCorrectorSampler:
    """Song et al., ICLR 2021 (https://arxiv.org/abs/2011.13456), algorithm 1, for any SDE and denoiser.

    At each time of the grid: estimate, predict the state at the next time, correct it there. At the last
    time the estimate itself is the result, which leaves no noise in it.

    Attributes:
        sigmas: Decreasing noise levels (VE units), as from `karras_grid`.
        predictor: Step to the next time.
        corrector: Step at the new time, or None.
    """

    sigmas: Tensor
    predictor: Predictor = AncestralPredictor()
    corrector: LangevinCorrector | None = None

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
    ) -> Tensor:
        """Samples.

        Args:
            denoiser: Estimates E[x_0 | x_t], or E[x_0 | x_t, y].
            x_t: State at the first noise level, shape (B, C, H, W); see `start_state`.
            generator: Source of every random number; drawn on its own device, for the whole photo at once.
            callback: Called after each evaluation.

        Returns:
            The denoised estimate at the last noise level, shape (B, C, H, W).
        """
        sde: SDE = denoiser.sde
        sigmas = self.sigmas.tolist()
        times = sde.time_of(self.sigmas.to(x_t.device))
        total = count_evaluations(sigmas, self.corrector)
        done = 0

        def estimate_at(index: int) -> Tensor:
            nonlocal done
            estimate = denoiser(x_t, times[index])
            done += 1
            if callback is not None:
                callback(SamplerStep(done, total, sigmas[index], x_t, estimate))
            return estimate

        estimate = estimate_at(0)
        for index in range(1, len(sigmas)):
            noise = draw_noise(x_t, generator)
            x_t = self.predictor(sde, x_t, estimate, times[index - 1], times[index], noise)
            if self.corrector is not None and sigmas[index] <= self.corrector.below:
                estimate = estimate_at(index)
                x_t = self.corrector(sde, x_t, estimate, times[index], draw_noise(x_t, generator))
            estimate = estimate_at(index)
        return estimate


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
