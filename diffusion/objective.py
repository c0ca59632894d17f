"""Denoising score matching: what the score network is trained on.

    L = E lambda(sigma) ||D(x_0 + sigma z; sigma) - x_0||^2

(Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural Computation 2011).
`diffusion.weighting` holds the noise levels and lambda. With a learned uncertainty u the loss becomes

    L = E [ lambda(sigma) / exp(u(sigma)) ||D - x_0||^2 + u(sigma) ]

(Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR 2024,
https://arxiv.org/abs/2312.02696, section 2.2): the best u is the logarithm of the weighted error, so
that each noise level pulls on the network with the same strength, whatever error remains there.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion.score_network import NoiseEmbedding
from diffusion.weighting import Weighting

__all__ = ["DenoisingScoreMatching", "Uncertainty", "denoising_error"]


def denoising_error(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Mean squared denoising error of each photo.

    Args:
        network: Denoiser (x_t, sigma) -> E[x_0 | x_t].
        x: Sharp photos in [-1, 1], shape (B, 3, H, W).
        noise: Standard normal noise, shape (B, 3, H, W).
        sigma: Noise levels in [-1, 1] units, shape (B,).

    Returns:
        Errors, shape (B,), in squared [-1, 1] units.
    """
    estimate = network(x + sigma[:, None, None, None] * noise, sigma)
    return (estimate - x).square().mean(dim=(1, 2, 3))


class Uncertainty(nn.Module):
    """A learned function u of the noise level: the logarithm of the error to be expected; 0 at first.

    Args:
        channels: Width of the noise-level embedding.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.embedding = NoiseEmbedding(channels)
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, sigma: Tensor) -> Tensor:
        """Maps noise levels in [-1, 1] units to u; (B,) -> (B,)."""
        # In full precision: the loss is read off u.
        with torch.autocast(sigma.device.type, enabled=False):
            return self.embedding(sigma) @ self.weight + self.bias


class DenoisingScoreMatching(nn.Module):
    """Network and loss as one module, so that data parallelism averages the gradients of all that learns.

    Args:
        network: Denoiser (x_t, sigma) -> E[x_0 | x_t].
        weighting: Noise levels and their weights.
        uncertainty: Learns an uncertainty of each noise level; None for none.
    """

    def __init__(self, network: nn.Module, weighting: Weighting, uncertainty: Uncertainty | None = None) -> None:
        super().__init__()
        self.network = network
        self.weighting = weighting
        self.uncertainty = uncertainty
        self._compiled: Callable[[Tensor, Tensor], Tensor] | None = None

    def compile_network(self, backend: str = "inductor") -> None:
        """Compiles the network for this loss; called on its own, it stays as it is.

        Args:
            backend: Of torch.compile. The default needs a C++ compiler on the CPU.
        """
        self._compiled = torch.compile(self.network.forward, backend=backend)

    def forward(self, x: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and mean squared denoising errors of photos.

        Args:
            x: Sharp photos in [-1, 1], shape (B, 3, H, W).
            noise: Standard normal noise, shape (B, 3, H, W).
            sigma: Noise levels in [-1, 1] units, shape (B,), from the weighting.

        Returns:
            Losses, shape (B,); with EDM weighting about 1 for an untrained network, at every noise level. And the
            errors without weight, shape (B,), detached.
        """
        error = denoising_error(self._compiled or self.network, x, noise, sigma)
        loss = self.weighting.weight(sigma) * error
        if self.uncertainty is not None:
            u = self.uncertainty(sigma)
            loss = loss * torch.exp(-u) + u
        return loss, error.detach()
