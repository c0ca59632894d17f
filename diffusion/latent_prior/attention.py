"""Attention of the regression Transformer: dual within windows, and from pixels to the tokens of the prior.

Dual-dimension self-attention looks along space with one half of its channels and along channels with the
other, both within windows of w x w pixels that do not overlap:

    space     softmax(q k^T / sqrt(d) + b) v      w^2 x w^2 weights for each head, b a bias of the offset
    channels  softmax(t q^T k) v^T                d x d weights for each head, q and k of unit length, t learnt

so that its cost is linear in the number of pixels. That attention runs over both dimensions is of

    Liang et al., Swin-Diff, Complex & Intelligent Systems 11, article 170, 2025,
    https://doi.org/10.1007/s40747-025-01789-w

whose abstract says no more. The halves and that channels are compared within windows too, rather than over
the photo, are our choice, as are windows that are never shifted: convolutions between the attentions join
them, and a part of a photo whose origin lies on the grid of the windows has the same windows as the whole.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.pixel_norm import PixelNorm

__all__ = ["CrossAttention", "DualAttention", "merge_windows", "partition_windows"]


def partition_windows(x: Tensor, window: int) -> Tensor:
    """Cuts features into windows: (B, C, H, W) -> (B n, w^2, C) with n = H W / w^2; w divides H and W."""
    batch, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def merge_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `partition_windows`: (B n, w^2, C) -> (B, C, H, W), channels last in memory."""
    window = round(windows.shape[1] ** 0.5)
    x = windows.reshape(-1, height // window, width // window, window, window, windows.shape[2])
    return x.transpose(2, 3).reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


class DualAttention(nn.Module):
    """Self-attention over space and over channels within windows; the identity at first.

    Args:
        channels: Width, a multiple of twice the head's.
        window: Side of the windows in pixels of the features.
        head: Width of a head.
        channel_attention: Whether half the heads look along channels; if not, all look along space.

    Raises:
        ValueError: If the width does not divide.
    """

    def __init__(self, channels: int, window: int, head: int = 16, *, channel_attention: bool = True) -> None:
        super().__init__()
        if channels % (2 * head):
            raise ValueError(f"channels must be multiples of {2 * head} where there is attention, got {channels}")
        self.window, self.head = window, head
        heads = channels // head
        self.channel_heads = heads // 2 if channel_attention else 0
        self.space_heads = heads - self.channel_heads
        self.norm = PixelNorm()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.space_heads))
        if self.channel_heads:
            self.log_temperature = nn.Parameter(torch.zeros(self.channel_heads, 1, 1))
        self.merge = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.merge.weight)
        nn.init.zeros_(self.merge.bias)
        self.register_buffer("offsets", _offsets(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Adds attention: (B, C, H, W) -> (B, C, H, W); the window divides H and W."""
        height, width = x.shape[-2:]
        qkv = partition_windows(self.qkv(self.norm(x)), self.window)  # (B n, w^2, 3 C)
        q, k, v = qkv.unflatten(2, (3, -1, self.head)).permute(2, 0, 3, 1, 4)  # (B n, heads, w^2, d) each
        split = self.space_heads
        attended = [self._along_space(*(part[:, :split] for part in (q, k, v)))]
        if self.channel_heads:
            attended.append(self._along_channels(*(part[:, split:] for part in (q, k, v))))
        joined = torch.cat(attended, dim=1).transpose(1, 2).flatten(2)  # (B n, w^2, C)
        return x + self.merge(merge_windows(joined, height, width))

    def _along_space(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = self.bias[self.offsets].permute(2, 0, 1)  # (heads, w^2, w^2)
        return F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype)[None].expand(len(q), -1, -1, -1))

    def _along_channels(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # The d x d products are divided by the lengths, for they are fewer than the pixels' values.
        weights = (q.transpose(-1, -2) @ k).float() / (_length(q).transpose(-1, -2) * _length(k))
        weights = (weights * self.log_temperature.exp()).softmax(-1)  # (B n, heads, d, d)
        return v @ weights.to(v.dtype).transpose(-1, -2)


class CrossAttention(nn.Module):
    """What pixels take from tokens: x + sum_n softmax_n(q(x) k_n^T / sqrt(d)) v_n; the identity at first.

    q k^T = x (W_q^T k^T): the tokens, which are few, are brought to the width of the pixels rather than each
    pixel to that of the heads.

    Args:
        channels: Width of the pixels' features.
        latent: Width of the tokens.
        heads: Number of heads.
    """

    def __init__(self, channels: int, latent: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.latent = heads, latent
        self.norm = PixelNorm()
        self.key = nn.Linear(latent, heads * channels, bias=False)
        self.value = nn.Linear(latent, heads * channels, bias=False)
        nn.init.zeros_(self.value.weight)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Adds what the tokens say: (B, C, H, W), (B, N, D) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        keys, values = (
            project(tokens).unflatten(2, (self.heads, channels)).transpose(1, 2).flatten(1, 2)
            for project in (self.key, self.value)
        )  # (B, heads N, C) each
        pixels = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)  # (B, H W, C)
        weights = (pixels.to(keys.dtype) @ keys.transpose(1, 2)) * channels**-0.5  # (B, H W, heads N)
        weights = weights.unflatten(2, (self.heads, -1)).softmax(-1).flatten(2)
        taken = weights.to(values.dtype) @ values
        return x + taken.transpose(1, 2).unflatten(2, (height, width))


def _length(x: Tensor) -> Tensor:
    """Of each channel of a window, as of F.normalize: (B n, heads, w^2, d) -> (B n, heads, 1, d), float32."""
    return x.float().square().sum(-2, keepdim=True).sqrt().clamp(min=1e-12)


def _offsets(window: int) -> Tensor:
    """Number of the offset between two pixels of a window, int64 (w^2, w^2)."""
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    rows, columns = places[:, :, None] - places[:, None] + window - 1
    return rows * (2 * window - 1) + columns
