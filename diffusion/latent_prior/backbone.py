"""The regression Transformer: a U-shaped network from a capture and the tokens of its prior to the sharp photo.

    x_bar = y + s F(y, z),   log b = G(features of F)

s is a constant, and b the expected absolute error of x_bar at each pixel. A Transformer with dual-dimension
self-attention into which the prior is fused at every level is of Swin-Diff; cross-attention from pixels to
tokens and, at the coarsest level, scale and shift (FiLM) are as in HI-Diff, see
`diffusion/latent_prior/encoder.py`. Ours are: pixels unshuffled by 2, so that there are no features of full size;
3x3 convolutions in place of feed-forward layers of 1x1, which suits processors without a graphics card and
makes windows overlap in effect; scale and shift at all levels; a residual that starts small; and the error b.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.latent_prior.attention import CrossAttention, DualAttention
from diffusion.latent_prior.details import DETAIL_CHANNELS, DETAIL_REACH, colours_and_details
from diffusion.pixel_norm import PixelNorm
from diffusion.windows import through_levels

__all__ = ["Fusion", "RegressionTransformer", "TokenHierarchy"]

_LEAST_LOG_SCALE, _LARGEST_LOG_SCALE = -7.0, 1.0
_FIRST_LOG_SCALE = -3.0  # [-1, 1] units
_RESIDUAL_STD = 0.1  # [-1, 1] units; what blur takes from a photo is that small, and so are the first steps then


class TokenHierarchy(nn.Module):
    """Fewer tokens for coarser levels: 16 for the finest, 4 for those below, 1 for the coarsest.

    Args:
        tokens: Number of tokens of the prior.
        latent: Their width.
        levels: Number of levels, at least 2.
    """

    def __init__(self, tokens: int, latent: int, levels: int) -> None:
        super().__init__()
        counts = [tokens] + [max(tokens // 4, 1)] * (levels - 2) + [1]
        self.over_tokens = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(counts))
        self.over_channels = nn.ModuleList(nn.Linear(latent, latent) for _ in counts[1:])

    def forward(self, z: Tensor) -> list[Tensor]:
        """(B, N, D) -> one (B, N_l, D) for each level, from the finest."""
        levels = [z]
        for tokens, channels in zip(self.over_tokens, self.over_channels, strict=True):
            levels.append(channels(F.gelu(tokens(levels[-1].transpose(1, 2)).transpose(1, 2))))
        return levels


class Fusion(nn.Module):
    """Brings the prior into features: cross-attention to the level's tokens, then FiLM by all; the identity at first.

    Args:
        channels: Width of the features.
        latent: Width of the tokens.
        attends: Whether there is cross-attention; with a single token it would be a shift.
    """

    def __init__(self, channels: int, latent: int, *, attends: bool) -> None:
        super().__init__()
        self.attention = CrossAttention(channels, latent) if attends else None
        self.film = nn.Linear(latent, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, tokens: Tensor, summary: Tensor) -> Tensor:
        """(B, C, H, W), tokens (B, N_l, D), summary (B, 1, D) -> (B, C, H, W)."""
        if self.attention is not None:
            x = self.attention(x, tokens)
        scale, shift = self.film(summary[:, 0])[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift.to(x.dtype), x, 1 + scale.to(x.dtype))


class TransformerBlock(nn.Module):
    """Dual attention where there is a window, then two 3x3 convolutions with a skip; the identity at first."""

    def __init__(self, channels: int, window: int, *, channel_attention: bool) -> None:
        super().__init__()
        self.attention = DualAttention(channels, window, channel_attention=channel_attention) if window else None
        self.norm = PixelNorm()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.attention is not None:
            x = self.attention(x)
        return self.conv_out(F.silu(self.conv_in(self.norm(x)))).add_(x)


class RegressionTransformer(nn.Module):
    """Restores a capture with the help of a prior.

    Args:
        channels: Width of each level, from half resolution downwards; each level halves the size.
        blocks: Blocks of each level in the encoder and again in the decoder; the coarsest has them once.
        windows: Side of the attention windows of each level in its own pixels; 0 for no attention there.
        tokens: Number of tokens of the prior.
        latent: Their width.
        channel_attention: Whether half of the attention runs over channels.
    """

    def __init__(
        self, channels: Sequence[int], blocks: Sequence[int], windows: Sequence[int], tokens: int, latent: int,
        *, channel_attention: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels, self.depths, self.windows = tuple(channels), tuple(blocks), tuple(windows)
        # Set by the model that owns this network.
        self.checkpointing = None

        def level(width: int, depth: int, window: int) -> nn.ModuleList:
            # Attention once, after the convolutions before it have made the features: each has reach, and costs.
            return nn.ModuleList(
                TransformerBlock(width, window * (index == depth - 1), channel_attention=channel_attention)
                for index in range(depth)
            )

        def fusions(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                Fusion(width, latent, attends=index < len(channels) - 1) for index, width in enumerate(channels[:count])
            )

        sizes = list(zip(channels, blocks, windows, strict=True))
        self.hierarchy = TokenHierarchy(tokens, latent, len(channels))
        self.stem = nn.Conv2d(4 * DETAIL_CHANNELS, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(level(*size) for size in sizes)
        self.encoder_fusion = fusions(len(channels))
        self.decoder = nn.ModuleList(level(*size) for size in sizes[:-1])
        self.decoder_fusion = fusions(len(channels) - 1)
        pairs = list(zip(channels[:-1], channels[1:], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.head = nn.Conv2d(channels[0], 12, 3, padding=1)
        self.error = nn.Sequential(nn.Conv2d(channels[0], 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 4, 1))
        for layer in (self.head, self.error[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def grid(self) -> int:
        """Side in pixels of the blocks that parts of a photo must start at: strides and windows fit in it."""
        sides = [2 ** (level + 1) * max(window, 1) for level, window in enumerate(self.windows)]
        return math.lcm(*sides)

    @property
    def reach(self) -> int:
        """Distance in pixels beyond which a pixel cannot influence another, but for the prior; a multiple of `grid`."""
        # Details, stem and heads, then two convolutions a block and all of a window; strided 2x2 layers add a pixel.
        reach = DETAIL_REACH + 2 * 3 + 2 ** len(self.channels) - 1
        for level, (depth, window) in enumerate(zip(self.depths, self.windows, strict=True)):
            passes = 1 if level == len(self.channels) - 1 else 2
            reach += passes * (2 * depth + max(window - 1, 0)) * 2 ** (level + 1)
        return math.ceil(reach / self.grid) * self.grid

    def forward(self, y: Tensor, z: Tensor, asked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Restores captures.

        Args:
            y: Captures in [-1, 1], shape (B, 3, H, W); any H and W.
            z: Priors, shape (B, N, D).
            asked: Where an estimate is wanted, bool, shape (H, W), somewhere at least; elsewhere it is undefined. None
                for everywhere.

        Returns:
            Estimates of the sharp photos, shape (B, 3, H, W), and the logarithm of their expected absolute error,
            shape (B, 1, H, W), both float32 and in [-1, 1] units. The error does not learn through the estimate.
        """
        height, width = y.shape[-2:]
        tokens = self.hierarchy(z)
        # Edge values beyond the border: reflection would need photos larger than the padding.
        padded = F.pad(colours_and_details(y), (0, -width % self.grid, 0, -height % self.grid), mode="replicate")

        def level(
            index: int, blocks: nn.ModuleList, fusion: Fusion, enter: Callable[..., Tensor]
        ) -> Callable[..., Tensor]:
            def layers(*windows: Tensor) -> Tensor:
                h = self._through(blocks, fusion(enter(*windows), tokens[index], tokens[-1]))
                # Detached: the estimate stays where its own loss has its least value.
                return torch.cat([self.head(h), self.error(h.detach())], dim=1) if blocks is self.decoder[0] else h

            return layers

        parts = zip(self.encoder, self.encoder_fusion, [self._enter, *self.down], strict=True)
        down = [level(index, *part) for index, part in enumerate(parts)]
        up = [
            level(index, self.decoder[index], self.decoder_fusion[index], self._join(index))
            for index in reversed(range(len(self.decoder)))
        ]
        halos = [self._halo(index) for index in range(len(self.depths))]
        h = through_levels(padded, down, up, self.grid, halos, asked)
        residual, log_scale = (F.pixel_shuffle(part, 2)[..., :height, :width].float() for part in h.split((12, 4), 1))
        log_scale = log_scale + _FIRST_LOG_SCALE
        return y.float() + _RESIDUAL_STD * residual, log_scale.clamp(_LEAST_LOG_SCALE, _LARGEST_LOG_SCALE)

    def _enter(self, padded: Tensor) -> Tensor:
        return self.stem(F.pixel_unshuffle(padded, 2).contiguous(memory_format=torch.channels_last))

    def _join(self, level: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda coarse, skip: self.up[level](coarse) + skip

    def _halo(self, level: int) -> int:
        """Reach of a level's layers in its own pixels, whole windows and even; stem or heads add one to the finest."""
        window = self.windows[level]
        reach, unit = 2 * self.depths[level] + max(window - 1, 0) + (level == 0), math.lcm(max(window, 1), 2)
        return math.ceil(reach / unit) * unit

    def _through(self, blocks: nn.ModuleList, h: Tensor) -> Tensor:
        recompute = self.checkpointing if torch.is_grad_enabled() else None
        for block in blocks:
            h = recompute(block, h) if recompute else block(h)
        return h
