"""The defocus map network: a convolution-only U-Net that gives every cell a distribution over blur radii.

It sees the capture alone, no model of lens, light or file, and outputs log p(r_k | y) in cells of 4 x 4
pixels over the candidate radii of the evidence. Blur shows in the finest details, however faint: beside the
colours y it is given the details h = y - mean of 5 x 5 px, divided by their root mean square s over 17 x 17 px,
and log s. Every layer is a convolution or acts on one pixel, so that
the value of a cell depends on its receptive field alone: a photo may be cut into tiles, with a margin of
`receptive_field`, and the result is that of the whole photo.
"""

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from optics.defocus_map.posterior import candidate_radii

__all__ = ["CELL", "DefocusMapNetwork"]

CELL = 4
"""Side in pixels of the cells that get a distribution each."""

_DETAIL, _AROUND = 5, 17  # pixels; windows of h and of s
_FAINTEST = 1e-5  # variance of h below which it is not made larger


class PixelNorm(nn.Module):
    """Standardises the channels of each pixel on its own: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        # CUDA's autocast would make single precision of bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection; the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PixelNorm()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_in(self.norm(x)))).add_(x)


class DefocusMapNetwork(ModelMixin, ConfigMixin):
    """Estimates the distribution of the blur radius in every cell of a capture.

    Args:
        channels: Width of each level, from half resolution downwards; each level halves the size. At least 2.
        blocks: Residual blocks of each level on the way down; on the way up each level has one.
        largest_radius: Largest candidate radius in pixels.

    Raises:
        ValueError: If there are fewer than 2 levels, `blocks` is of another length or holds none, or the radius is
            not above 1.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 96, 128),
        blocks: tuple[int, ...] = (1, 2, 2, 1),
        largest_radius: float = 8.0,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"channels must be at least 2 positive widths, got {channels}")
        if len(blocks) != len(channels) or min(blocks) < 1:
            raise ValueError(f"blocks must be {len(channels)} numbers, at least 1 each, got {blocks}")
        if not 1 < largest_radius <= 16:
            raise ValueError(f"largest_radius must be above 1 and at most 16 px, got {largest_radius}")

        def level(width: int, depth: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(width) for _ in range(depth))

        self.stem = nn.Conv2d(28, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(level(*sizes) for sizes in zip(channels, blocks, strict=True))
        pairs = list(zip(channels[:-1], channels[1:], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        # Back up to the cells only: the second level has their resolution.
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs[1:])
        self.decoder = nn.ModuleList(level(width, 1) for width in channels[1:-1])
        self.norm = PixelNorm()
        self.head = nn.Conv2d(channels[1], len(self.radii), 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def radii(self) -> tuple[float, ...]:
        """Candidate radii in pixels, K increasing values from 0."""
        return candidate_radii(self.config.largest_radius)

    @property
    def stride(self) -> int:
        """Side of the blocks of pixels that the coarsest level sees as one; tiles start at its multiples."""
        return 2 ** len(self.config.channels)

    @property
    def receptive_field(self) -> int:
        """Distance in pixels beyond which a pixel cannot influence a cell, a multiple of `stride`."""
        # Details and stem, then two convolutions a block; strided 2x2 layers add the width of one coarse pixel.
        reach = (_DETAIL - 1) // 2 + (_AROUND - 1) // 2 + 2 + self.stride - 1
        levels = len(self.config.blocks)
        for level, depth in enumerate(self.config.blocks):
            upwards = 1 if 1 <= level < levels - 1 else 0
            reach += 2 * (depth + upwards) * 2 ** (level + 1)
        return math.ceil(reach / self.stride) * self.stride

    def forward(self, y: Tensor) -> Tensor:
        """Distributions of the radius.

        Args:
            y: Captures in [0, 1], shape (B, 3, H, W); any H and W.

        Returns:
            Log-probabilities that add up to 1 over K, float32, shape (B, K, ceil(H / 4), ceil(W / 4)).
        """
        rows, columns = (math.ceil(length / CELL) for length in y.shape[-2:])
        # Edge values beyond the border: reflection would need photos larger than the padding.
        y = F.pad(y, (0, -y.shape[-1] % self.stride, 0, -y.shape[-2] % self.stride), mode="replicate")
        h = self.stem(F.pixel_unshuffle(_colours_and_details(y), 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for index, blocks in enumerate(self.encoder):
            h = self._through(blocks, h if index == 0 else self.down[index - 1](h))
            skips.append(h)
        for blocks, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips[1:-1]), strict=True):
            h = self._through(blocks, up(h) + skip)
        return F.log_softmax(self.head(self.norm(h))[..., :rows, :columns].float(), dim=1)

    @torch.no_grad()
    def tiled(self, y: Tensor, tile: int = 1024) -> Tensor:
        """What `forward` gives, tile by tile, so that memory follows the tile.

        Args:
            y: Captures in [0, 1], shape (B, 3, H, W); may live on another device than the network.
            tile: Side of the tiles in pixels, rounded up to a multiple of the stride.

        Returns:
            As `forward`, on the device of y.
        """
        tile = -(-tile // self.stride) * self.stride
        device, halo = next(self.parameters()).device, self.receptive_field
        height, width = y.shape[-2:]
        result = y.new_empty(
            len(y), len(self.radii), math.ceil(height / CELL), math.ceil(width / CELL), dtype=torch.float32
        )
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                first, start = max(top - halo, 0), max(left - halo, 0)
                window = y[..., first : top + tile + halo, start : left + tile + halo].to(device)
                cells = self(window.to(self.dtype))[..., (top - first) // CELL :, (left - start) // CELL :]
                cells = cells[..., : tile // CELL, : tile // CELL]
                row, column = top // CELL, left // CELL
                result[..., row : row + cells.shape[-2], column : column + cells.shape[-1]] = cells.to(y.device)
        return result

    def _through(self, blocks: nn.ModuleList, h: Tensor) -> Tensor:
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in blocks:
            h = self._gradient_checkpointing_func(block, h) if recompute else block(h)
        return h


def _colours_and_details(y: Tensor) -> Tensor:
    """What the network sees of captures in [0, 1], in values about one: (B, 3, H, W) -> (B, 7, H, W)."""
    details = y - _window_mean(y, _DETAIL)
    strength = (_window_mean(details.square().mean(1, keepdim=True), _AROUND) + _FAINTEST).sqrt()
    return torch.cat([2 * y - 1, details / strength, strength.log() / 3 + 1], dim=1)


def _window_mean(x: Tensor, side: int) -> Tensor:
    """Means over windows, cut off at the border, row by row and then column by column."""
    for size in ((1, side), (side, 1)):
        x = F.avg_pool2d(x, size, 1, (size[0] // 2, size[1] // 2), count_include_pad=False)
    return x
