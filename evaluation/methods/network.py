"""The score network as the compared methods see it: loaded in one way, every evaluation counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    import torch

    from diffusion import SDE
    from evaluation.settings import BenchmarkConfig

__all__ = ["CountedNetwork", "UnitRangeDenoiser", "load_network"]


class CountedNetwork(nn.Module):
    """Passes everything on to a network and counts the calls.

    Args:
        network: Maps (x, sigma) to E[x_0 | x = x_0 + sigma z], as `samplers.tiling.TiledNetwork`: the tiles of a
            photo are one evaluation.

    Attributes:
        evaluations: Calls so far.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.evaluations = 0

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.evaluations += 1
        return self.network(x, sigma)


class UnitRangeDenoiser(nn.Module):
    """A network of photos in [-1, 1] as a denoiser of photos in [0, 1], the range of other libraries.

    Args:
        network: Maps (x, sigma), x of shape (B, 3, H, W) and sigma in [-1, 1] units, to an estimate.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoises (B, 3, H, W) in [0, 1] with noise of standard deviation sigma, scalar, in the same units."""
        return (self.network(2 * x - 1, 2 * sigma) + 1) / 2


def load_network(config: BenchmarkConfig, device: torch.device) -> tuple[CountedNetwork, SDE]:
    """The score network of the weights under test, and the SDE it is saved with.

    Raises:
        WeightsError: If the weights cannot be used.
    """
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.tiling import TiledNetwork

    pipeline = DefocusDeblurPipeline.from_pretrained(config.weights).to(device)
    # Gradients are asked for with respect to the state alone.
    network = TiledNetwork(pipeline.score_network.requires_grad_(False))
    return CountedNetwork(network), pipeline.sde
