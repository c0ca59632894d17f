"""The latent encoder: what a few tokens say about a photo and its capture, or about a capture alone.

    z = E_1(x, y) in stage 1,   c = E_2(y) in stage 2,   both of N = 4 x 4 tokens of D numbers

A prior of few tokens from the sharp photo and the capture is of Swin-Diff; how its encoder looks is not said
in the abstract and follows the close relative

    Chen et al., Hierarchical Integration Diffusion Model for Realistic Image Deblurring, NeurIPS 2023,
    https://arxiv.org/abs/2305.12966

in the 4-fold unshuffling, the average over 4 x 4 parts of the photo and the MLP-Mixer after it. Details beside
the colours, features of half that resolution before the average, and tokens that are standardised, so that
noise of unit strength says nothing about them, are our choice.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.latent_prior.details import DETAIL_CHANNELS, DETAIL_REACH, colours_and_details

__all__ = ["PARTS", "LatentEncoder", "MixerBlock"]

PARTS = 4
"""Rows and columns of the parts of a photo that have a token each."""

_STRIDE = 8  # pixels; of the features that are averaged


class MixerBlock(nn.Module):
    """Two-layer perceptrons over the tokens and over their channels: (B, N, D) -> (B, N, D).

    References:
        Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, NeurIPS 2021.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm_tokens, self.norm_channels = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_tokens = nn.Sequential(nn.Linear(tokens, tokens), nn.GELU(), nn.Linear(tokens, tokens))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, z: Tensor) -> Tensor:
        z = z + self.over_tokens(self.norm_tokens(z).transpose(1, 2)).transpose(1, 2)
        return z + self.over_channels(self.norm_channels(z))


class LatentEncoder(nn.Module):
    """Brings pictures to N = 16 tokens.

    Args:
        pictures: Number of RGB pictures, side by side in the channels.
        width: Channels of the features.
        latent: Width of the tokens.
    """

    stride = _STRIDE
    # Two blocks before the stride and one after it, two convolutions each; rounded up to a multiple of the stride.
    reach = 8 * -(-(DETAIL_REACH + 4 * 4 + 8 * 2 + 8) // 8)
    """Pixels beyond which nothing has a say in a feature."""

    def __init__(self, pictures: int, width: int, latent: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(16 * DETAIL_CHANNELS * pictures, width, 1)
        self.fine = nn.ModuleList(_Residual(width) for _ in range(2))
        self.down = nn.Conv2d(width, width, 2, stride=2)
        self.coarse = _Residual(width)
        self.widen = nn.Linear(width, latent)
        self.mixer = MixerBlock(PARTS**2, latent)

    def features(self, pictures: Tensor) -> Tensor:
        """Features in cells of 8 x 8 px: (B, 3 P, H, W) in [-1, 1] -> (B, C, ceil(H / 8), ceil(W / 8))."""
        height, width = pictures.shape[-2:]
        pictures = torch.cat([colours_and_details(one) for one in pictures.split(3, dim=1)], dim=1)
        pictures = F.pad(pictures, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        h = F.relu(self.stem(F.pixel_unshuffle(pictures, 4)))
        for block in self.fine:
            h = block(h)
        return F.relu(self.coarse(self.down(h)))

    def tokens(self, features: Tensor) -> Tensor:
        """Standardised tokens of the features of a whole photo: (B, C, h, w) -> (B, N, D)."""
        parts = F.adaptive_avg_pool2d(features.float(), PARTS)
        z = self.mixer(self.widen(parts.flatten(2).transpose(1, 2)))
        return F.layer_norm(z.float(), z.shape[-1:])

    def forward(self, pictures: Tensor) -> Tensor:
        """Tokens of pictures: (B, 3 P, H, W) in [-1, 1] -> (B, N, D)."""
        return self.tokens(self.features(pictures))


class _Residual(nn.Module):
    """Two 3x3 convolutions with a skip connection; the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(F.relu(self.conv_in(x)))
