"""Swin-Diff as a restorer: blind, of any size, tile by tile with the result of the whole photo.

The network, its paper and what departs from it are in `diffusion/latent_prior/`. The prior is of the whole photo:
features are made tile by tile and averaged over its 4 x 4 parts at once, then the prior is drawn. Given the
prior, a pixel depends on its neighbourhood alone, and attention windows lie on a fixed grid; tiles start on that
grid and carry a halo of the network's reach, so that nothing is blended.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.latent_prior import Regression, SwinDiff
from diffusion.precision import check_precision, mixed_precision
from diffusion.tiles import Tile, tiles

__all__ = ["SwinDiffRestorer"]


@dataclass(frozen=True)
class SwinDiffRestorer:
    """Restores captures without a map or a model of the blur.

    Attributes:
        network: Its device does the work; photos may live elsewhere.
        tile: Side of the kept part of a tile in pixels, rounded up to the network's grid.
        precision: `fp32`, `bf16` or `auto`, see `diffusion.precision`.

    Raises:
        ValueError: If tile is not positive or precision unknown.
    """

    network: SwinDiff
    tile: int = 1024
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise ValueError(f"a tile must have at least 1 pixel, got {self.tile}")
        check_precision(self.precision)

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Restores a capture.

        Args:
            y: In [0, 1], shape (1, 3, H, W).
            generator: Source of the noise that the prior starts from; seed 0 if None.

        Returns:
            Photo in [0, 1], shape (1, 3, H, W).
        """
        return ((self.regress(2 * y - 1, generator).x + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def prior(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The prior of whole captures, (B, N, D) on the network's device; arguments as of `regress`."""
        network, device = self.network, next(self.network.parameters()).device
        with mixed_precision(network, self.precision):
            return network.drawn_prior(self._condition(y, device), len(y), generator)

    @torch.no_grad()
    def regress(
        self, y: Tensor, generator: torch.Generator | None = None, prior: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Regression:  # fmt: skip
        """The estimate and its expected error in the units of the network.

        Args:
            y: Captures in [-1, 1], shape (B, 3, H, W).
            generator: Source of the noise that the priors start from; seed 0 if None.
            prior: What `prior` gave, where it was asked for before; it is drawn if None.
            asked: Where an estimate is wanted, bool, shape (H, W); elsewhere it is the capture, with an error of 1.
                None for everywhere.
        """
        network, device = self.network, next(self.network.parameters()).device
        x, log_scale = y.clone(), torch.zeros_like(y[:, :1])
        prior = self.prior(y, generator) if prior is None else prior
        with mixed_precision(network, self.precision):
            for part in self._tiles(y, network.grid, network.receptive_field, asked):
                window = y[..., *part.read].to(device, memory_format=torch.channels_last)
                estimate = network.restore(window, prior, part.wanted(asked))
                for whole, result in zip((x, log_scale), estimate, strict=True):
                    part.put(result, whole, asked)
        return Regression(x, log_scale)

    def _condition(self, y: Tensor, device: torch.device) -> Tensor | None:
        """What the whole captures say, or None in stage 1."""
        if self.network.config.stage == 1:
            return None
        encoder, stride = self.network.capture_encoder, self.network.capture_encoder.stride
        features = None
        for tile in self._tiles(y, stride, encoder.reach):
            part = encoder.features(y[..., *tile.read].to(device, memory_format=torch.channels_last))
            if features is None:
                cells = (-(-length // stride) for length in y.shape[-2:])
                features = part.new_empty(len(y), part.shape[1], *cells)
            kept, place = (tuple(_cells(one, stride) for one in window) for window in (tile.kept, tile.place))
            features[..., *place] = part[..., *kept]
        return encoder.tokens(features)

    def _tiles(self, y: Tensor, grid: int, halo: int, asked: Tensor | None = None) -> Iterator[Tile]:
        return tiles(*y.shape[-2:], -(-self.tile // grid) * grid, halo, asked, grid)


def _cells(pixels: slice, stride: int) -> slice:
    """The cells of a range of pixels that starts on a cell and ends on one or with the photo."""
    return slice(pixels.start // stride, -(-pixels.stop // stride))
