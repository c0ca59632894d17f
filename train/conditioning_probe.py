"""What a conditioning in training is worth: captures of held-out photos, denoised with it and without."""

import numpy as np
import torch
from torch import Tensor

from diffusion import ScoreNetwork
from diffusion.latent_prior import LatentFiLM, ModulatedNetwork, SwinDiff
from train.panels import denoising_psnr, picture_grid
from train.simulated_pairs import SimulatedPairs, whole_pairs

__all__ = ["ConditioningProbe"]

_SHOWN_SIGMA = 0.4  # of the pictures


class ConditioningProbe:
    """A few whole captures whose sharp photos are known, with their priors.

    Args:
        pairs: Those of held-out photos.
        count: Number of captures, at least 2.
        network: The score network.
        prior: The latent prior, on the same device.
    """

    def __init__(self, pairs: SimulatedPairs, count: int, network: ScoreNetwork, prior: SwinDiff) -> None:
        device = next(network.parameters()).device
        self.network = network
        self.x, self.y = (one.to(device) for one in whole_pairs(pairs, count))
        with torch.no_grad():
            self.tokens = torch.cat([prior.drawn_prior(prior.capture_encoder(y[None]), 1) for y in self.y])
        self._plain = denoising_psnr(network, self.x)

    @torch.no_grad()
    def figures(self, conditioning: LatentFiLM) -> dict[str, float]:
        """Mean PSNR in dB of the denoised sharp photos at each noise level, by their names in the log.

        Returns:
            `denoising_psnr` of the score network alone, the same for the whole run; `conditioning_gain` over it; and
            `conditioning_gain_other`, with the prior of another capture: what of the gain needs no prior of this one.
        """
        figures = dict(self._plain)
        for name, tokens in (("", self.tokens), ("_other", self.tokens.roll(1, 0))):
            psnr = denoising_psnr(ModulatedNetwork(self.network, conditioning(tokens)), self.x)
            gains = {key.partition("/")[2]: value - self._plain[key] for key, value in psnr.items()}
            figures |= {f"conditioning_gain{name}/{sigma}": gain for sigma, gain in gains.items()}
        return figures

    @torch.no_grad()
    def pictures(self, conditioning: LatentFiLM, count: int) -> np.ndarray:
        """One picture, 8-bit: a row each of capture, noisy photo, denoised without and with it; (count S, 4 S, 3)."""
        x, y = self.x[:count], self.y[:count]
        sigma = torch.tensor(_SHOWN_SIGMA, device=x.device)
        noisy = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        modulated = ModulatedNetwork(self.network, conditioning(self.tokens[:count]))
        columns: list[Tensor] = [y, noisy, self.network(noisy, sigma), modulated(noisy, sigma)]
        return picture_grid(torch.stack(columns, dim=1).flatten(0, 1), columns=4)
