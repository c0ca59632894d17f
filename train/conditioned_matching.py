"""Denoising score matching of a conditioned score network, of which the conditioning alone learns.

    L = E lambda(sigma) ||D(x + sigma n; sigma, z) - x||^2

with z the prior that is drawn from what the capture of x says.
"""

from torch import Tensor, nn

from diffusion import DenoisingScoreMatching, ScoreNetwork
from diffusion.latent_prior import LatentFiLM, ModulatedNetwork
from diffusion.weighting import Weighting

__all__ = ["ConditionedScoreMatching"]


class ConditionedScoreMatching(nn.Module):
    """Conditioning and loss as one module, so that data parallelism sees all that learns, and nothing else.

    Args:
        conditioning: What learns.
        network: The score network; its gradients are switched off. It is no submodule: neither optimizer nor
            checkpoints know it, and the script takes it to its device.
        weighting: Noise levels and their weights.
    """

    def __init__(self, conditioning: LatentFiLM, network: ScoreNetwork, weighting: Weighting) -> None:
        super().__init__()
        self.conditioning, self.weighting = conditioning, weighting
        self._given = (network.requires_grad_(False),)

    def forward(self, x: Tensor, prior: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Losses of photos, shape (B,).

        Args:
            x: Sharp photos in [-1, 1], shape (B, 3, H, W).
            prior: Tokens of their captures, shape (B, N, D).
            noise: Standard normal noise, shape (B, 3, H, W).
            sigma: Noise levels in [-1, 1] units, shape (B,), from the weighting.
        """
        (network,) = self._given
        modulated = ModulatedNetwork(network, self.conditioning(prior))
        losses, _ = DenoisingScoreMatching(modulated, self.weighting)(x, noise, sigma)
        return losses
