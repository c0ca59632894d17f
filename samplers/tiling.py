"""Tiles: a network sees a large photo piece by piece, with the result of the whole, and what is sharp not at all."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.precision import check_precision, mixed_precision
from diffusion.tiles import tiles
from samplers.memory import release_freed

__all__ = ["Known", "TiledNetwork", "near_blur"]

_CONTEXT, _CELL = 32, 16  # pixels


@dataclass(frozen=True)
class Known:
    """What is known of a photo without a network.

    Attributes:
        asked: Where nothing is known and the network has to be asked, bool, shape (H, W).
        x: The photo elsewhere, shape (B, 3, H, W) or one that broadcasts to it.
    """

    asked: Tensor
    x: Tensor


def near_blur(radius_map: Tensor, reach: int) -> Tensor:
    """Where a restoration needs an estimate: what is blurred, what blur mixes with it, and some context.

    Beyond, captures stay as they were taken, so that a restoration of what is far away would be thrown away.

    Args:
        radius_map: Blur radius in pixels, shape (1, 1, H, W).
        reach: Pixels from the centre of the largest PSF to its edge.

    Returns:
        Bool, shape (H, W): all within `reach` and 32 pixels of a blurred pixel, and a little more, for it is made of
        cells of 16 pixels.
    """
    height, width = radius_map.shape[-2:]
    cells = F.max_pool2d((radius_map > 0).float(), _CELL, ceil_mode=True)
    around = -(-(reach + _CONTEXT) // _CELL)
    for kernel, padding in (((2 * around + 1, 1), (around, 0)), ((1, 2 * around + 1), (0, around))):
        cells = F.max_pool2d(cells, kernel, 1, padding)
    pixels = (cells[0, 0] > 0).repeat_interleave(_CELL, 0).repeat_interleave(_CELL, 1)
    return pixels[:height, :width]


class TiledNetwork(nn.Module):
    """Evaluates a score network tile by tile; the state may live on another device than the network.

    Tiles start at multiples of the network's stride and carry a halo of its receptive field, so that
    each kept pixel is computed from exactly what the whole photo would have shown it: nothing is
    blended, for there is nothing to hide.

    Args:
        network: Has `stride` and `receptive_field` and takes (x, sigma, asked), as `diffusion.ScoreNetwork`.
        tile: Side of the kept part of a tile in pixels, rounded up to a multiple of the stride.
        precision: `fp32`, `bf16` or `auto`, see `diffusion.precision`.
        known: What takes the place of an estimate where there is one, whatever the tiles; None for nowhere.

    Raises:
        ValueError: If tile is not positive or precision unknown.
    """

    def __init__(
        self, network: nn.Module, tile: int = 1024, precision: str = "fp32", known: Known | None = None
    ) -> None:
        super().__init__()
        if tile < 1:
            raise ValueError(f"a tile must have at least 1 pixel, got {tile}")
        check_precision(precision)
        self.network = network
        self.tile = -(-tile // network.stride) * network.stride
        self.precision = precision
        self.known = known

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoises as the network does: (B, 3, H, W), scalar or (B,) -> (B, 3, H, W)."""
        device, network, known = next(self.network.parameters()).device, self.network, self.known
        result = torch.empty_like(x) if known is None else known.x.expand_as(x).clone()
        asked = None if known is None else known.asked
        with mixed_precision(network, self.precision):
            for part in tiles(*x.shape[-2:], self.tile, network.receptive_field, asked, network.stride):
                window = x[..., *part.read].to(device, memory_format=torch.channels_last)
                part.put(network(window, sigma.to(device), asked=part.wanted(asked)), result, asked)
        if max(x.shape[-2:]) > self.tile:
            release_freed()
        return result
