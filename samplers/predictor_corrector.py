"""The predictor-corrector sampler: integrates the reverse SDE along a grid of times."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion import SDE, Denoiser
from samplers.correctors import Corrector
from samplers.predictors import AncestralPredictor, Predictor
from samplers.reverse_process import Callback, Evaluations, SamplerStep, draw_noise, forward_noise, start_state

__all__ = ["PredictorCorrectorSampler", "SamplerStep", "count_evaluations", "draw_noise", "start_state"]


def count_evaluations(sigmas: Sequence[float], corrector: Corrector | None, corrections: int = 1) -> int:
    """Denoiser evaluations of a run: one per noise level that is left by a step, and one per correction."""
    levels = list(sigmas)
    descents = [later for level, later in zip(levels[:-1], levels[1:], strict=True) if later < level]
    corrected = [level for level in descents if corrector is not None and level <= corrector.below]
    return 1 + len(descents) + corrections * len(corrected)


@dataclass(frozen=True)
class PredictorCorrectorSampler:
    """Song et al., ICLR 2021 (https://arxiv.org/abs/2011.13456), algorithm 1, for any SDE and denoiser.

    At each time of the grid: estimate, predict the state at the next time, correct it there. At the last
    time the estimate itself is the result, which leaves no noise in it.

    Attributes:
        sigmas: Decreasing noise levels (VE units), as from `karras_grid`; rising where a descent is restarted.
        predictor: Step to the next time.
        corrector: Step at the new time, or None.
        corrections: Number of corrections at each time.
        temperature: Scale of the noise of restarts, see `AncestralPredictor`.
        extrapolate: Whether a prediction uses the estimate extrapolated to the middle of its step, from this level and
            the one before, linearly in log sigma: Lu et al., "DPM-Solver++" (https://arxiv.org/abs/2211.01095),
            algorithm 2. For the ancestral predictor that keeps its noise this is their solver of order 2.
        stop_change: The run ends where successive estimates differ by at most this much, root mean square in [-1, 1]
            units; 0 for never.
    """

    sigmas: Tensor
    predictor: Predictor = AncestralPredictor()
    corrector: Corrector | None = None
    corrections: int = 1
    temperature: float = 1.0
    extrapolate: bool = False
    stop_change: float = 0.0

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser in a run that is not stopped early."""
        return count_evaluations(self.sigmas.tolist(), self.corrector, self.corrections)

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        *,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Samples.

        Args:
            denoiser: Estimates E[x_0 | x_t], or E[x_0 | x_t, y].
            x_t: State at the first noise level, shape (B, C, H, W); see `start_state`.
            generator: Source of every random number; drawn on its own device, for the whole photo at once.
            callback: Called after each evaluation.

        Returns:
            The denoised estimate at the last noise level, shape (B, C, H, W).

        Raises:
            FloatingPointError: If a value is undefined or infinite.
        """
        sde: SDE = denoiser.sde
        sigmas = self.sigmas.tolist()
        times = sde.time_of(self.sigmas.to(x_t.device))
        evaluate = Evaluations(denoiser, self.evaluations, callback, self.stop_change)

        earlier, estimate = None, evaluate(x_t, times[0], sigmas[0])
        for index in range(1, len(sigmas)):
            t, s, sigma = times[index - 1], times[index], sigmas[index]
            # Nothing of a photo's size is given a name but what the next evaluation has to leave in memory.
            if sigma > sigmas[index - 1]:
                earlier, x_t = None, forward_noise(sde, x_t, t, s, self.temperature * draw_noise(x_t, generator))
            else:
                if earlier is not None:
                    earlier = self._midway(sigmas[index - 2 : index + 1], earlier, estimate)
                x_t = self.predictor(
                    sde, x_t, estimate if earlier is None else earlier, t, s, draw_noise(x_t, generator)
                )
                earlier = estimate if self.extrapolate else None
                del estimate
                for _ in range(self._corrections_at(sigma)):
                    x_t = self.corrector(sde, x_t, evaluate(x_t, s, sigma), s, draw_noise(x_t, generator))
            if index + 1 < len(sigmas) and sigmas[index + 1] > sigma:
                # Before a restart nobody asks for the estimate.
                continue
            estimate = evaluate(x_t, s, sigma)
            if evaluate.settled:
                break
        return estimate

    def _corrections_at(self, sigma: float) -> int:
        return self.corrections if self.corrector is not None and sigma <= self.corrector.below else 0

    @staticmethod
    def _midway(levels: Sequence[float], earlier: Tensor, estimate: Tensor) -> Tensor:
        before, here, after = torch.tensor(levels, dtype=torch.float64).log().tolist()
        return estimate + (here - after) / (2 * (before - here)) * (estimate - earlier)
