"""Tiles: a network sees a large photo piece by piece, with the result of seeing it whole."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diffusion.precision import check_precision, mixed_precision
from samplers.memory import release_freed

__all__ = ["TiledNetwork", "tile_windows"]


def tile_windows(length: int, tile: int, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cuts one dimension into tiles.

    Yields:
        The part to read, the part of what was read to keep, and where to put it.
    """
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        first, last = max(start - halo, 0), min(stop + halo, length)
        yield slice(first, last), slice(start - first, stop - first), slice(start, stop)


class TiledNetwork(nn.Module):
    """Evaluates a score network tile by tile; the state may live on another device than the network.

    Tiles start at multiples of the network's stride and carry a halo of its receptive field, so that
    each kept pixel is computed from exactly what the whole photo would have shown it: nothing is
    blended, for there is nothing to hide.

    Args:
        network: A network with `stride` and `receptive_field`, as `diffusion.ScoreNetwork`.
        tile: Side of the kept part of a tile in pixels, rounded up to a multiple of the stride.
        precision: `fp32`, `bf16` or `auto`, see `diffusion.precision`.

    Raises:
        ValueError: If tile is not positive or precision unknown.
    """

    def __init__(self, network: nn.Module, tile: int = 1024, precision: str = "fp32") -> None:
        super().__init__()
        if tile < 1:
            raise ValueError(f"a tile must have at least 1 pixel, got {tile}")
        check_precision(precision)
        self.network = network
        self.tile = -(-tile // network.stride) * network.stride
        self.precision = precision

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoises as the network does: (B, 3, H, W), scalar or (B,) -> (B, 3, H, W)."""
        device = next(self.network.parameters()).device
        halo = self.network.receptive_field
        result = torch.empty_like(x)
        with mixed_precision(self.network, self.precision):
            for rows, kept_rows, to_rows in tile_windows(x.shape[-2], self.tile, halo):
                for columns, kept_columns, to_columns in tile_windows(x.shape[-1], self.tile, halo):
                    window = x[..., rows, columns].to(device, memory_format=torch.channels_last)
                    estimate = self.network(window, sigma.to(device))
                    result[..., to_rows, to_columns] = estimate[..., kept_rows, kept_columns].to(x.device)
        if max(x.shape[-2:]) > self.tile:
            del window, estimate
            release_freed()
        return result
