"""What the latent prior says of a capture, for those who use it: the sampler's guidance and the score network."""

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion import ScoreNetwork
from diffusion.latent_prior import LatentFiLM, ModulatedNetwork, SwinDiff
from diffusion.precision import mixed_precision
from optics import DefocusOperator
from restorers.swin_diff import SwinDiffRestorer
from samplers.guidance import SecondEstimate
from samplers.memory import release_freed
from samplers.settings import SamplerSettings

__all__ = ["LatentGuide"]


class LatentGuide:
    """The latent prior of one restoration, asked once for all that use it.

    Args:
        latent_prior: Restores captures without a model of the blur; None does without.
        conditioning: Tells the score network what it says; None tells it nothing.
        settings: Which of both is wanted.

    Raises:
        ValueError: If what the settings ask for is missing.
    """

    def __init__(
        self, latent_prior: SwinDiff | None, conditioning: LatentFiLM | None, settings: SamplerSettings
    ) -> None:
        for setting, name, part in (
            ("latent_prior", "latent_prior", latent_prior), ("condition", "conditioning", conditioning)
        ):  # fmt: skip
            if getattr(settings, setting) == "on" and part is None:
                raise ValueError(f"{setting}=on: expected a pipeline with a {name}, got one without")
        self.latent_prior, self.conditioning, self.settings = latent_prior, conditioning, settings
        self.regresses = latent_prior is not None and settings.takes_second_estimate
        self.conditions = conditioning is not None and settings.condition != "off"

    def prior(self, y: Tensor, generator: torch.Generator) -> Tensor | None:
        """Tokens (1, N, D) of a capture in [-1, 1], shape (1, 3, H, W); None where nothing uses them."""
        if not (self.regresses or self.conditions):
            return None
        # Conditioning alone takes none of the sampler's noise: on or off, that is the same.
        return self._restorer().prior(y, generator if self.regresses else _apart(generator))

    def network(self, score_network: ScoreNetwork, prior: Tensor | None) -> ScoreNetwork | ModulatedNetwork:
        """The score network, told what the prior says where the settings ask for it."""
        if not self.conditions:
            return score_network
        with mixed_precision(self.conditioning, self.settings.precision):
            return ModulatedNetwork(score_network, self.conditioning(prior))

    def second_estimate(
        self, y: Tensor, prior: Tensor | None, operator: DefocusOperator, asked: Tensor
    ) -> SecondEstimate | None:
        """What the regression makes of a capture in [-1, 1], on the operator's canvas; None where it is not used.

        Where it is not asked, bool (H, W), the capture takes its place.

        Raises:
            FloatingPointError: If it is not finite.
        """
        if not self.regresses:
            return None
        estimate = self._restorer().regress(y, prior=prior, asked=asked)
        release_freed()
        if not (torch.isfinite(estimate.x).all() and torch.isfinite(estimate.variance).all()):
            raise FloatingPointError(
                "got an undefined or infinite value from the latent prior: check its weights, or use precision=fp32"
            )
        precision = 1 / (self.settings.regression_variance * estimate.variance)
        # Of the margin, which the capture has never seen, it says nothing.
        precision = F.pad(precision, 4 * [operator.margin])
        return SecondEstimate(operator.extend(estimate.x.clamp(-1, 1)), precision, self.settings.latent_prior_fade)

    def _restorer(self) -> SwinDiffRestorer:
        return SwinDiffRestorer(self.latent_prior, self.settings.tile, self.settings.precision)


def _apart(generator: torch.Generator) -> torch.Generator:
    """A generator that follows from the state of another, gives other numbers, and leaves it where it is."""
    copy = torch.Generator(generator.device)
    copy.set_state(generator.get_state())
    return copy.manual_seed(int(torch.randint(2**62, (), generator=copy, device=generator.device)))
