"""The score network: a convolution-only U-Net that estimates a photo from its noisy version.

Notation: `x` is a noisy photo in [-1, 1] units with x = x_0 + sigma z, `sigma` its noise standard
deviation, `sigma_data` the pixel standard deviation of photos. The network F is wrapped in the
preconditioning of Karras et al., "Elucidating the Design Space of Diffusion-Based Generative
Models", NeurIPS 2022 (https://arxiv.org/abs/2206.00364), table 1:

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)

Every layer is a convolution or acts on one pixel, so that the value at a pixel depends on its
receptive field alone: a photo may be cut into tiles, with a margin of `receptive_field`, and the
result is that of the whole photo. Without gradients a photo goes through level by level, each level in windows
with a margin of its own layers' reach.
"""

import math
from collections.abc import Callable, Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.pixel_norm import PixelNorm
from diffusion.windows import through_levels

__all__ = ["ScoreNetwork", "block_counts", "block_widths"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a modulation (FiLM), with a skip connection.

    Scale and shift follow the noise level; what else is to have a say is added to both.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = PixelNorm()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor, embedding: Tensor, modulation: Tensor | None = None) -> Tensor:
        film = self.film(embedding)
        if modulation is not None:
            # In the precision of the block's own, so that zeros change no bit under autocast either.
            film = film + modulation.to(film)
        scale, shift = film.chunk(2, dim=1)
        if len(film) == 1 and not torch.is_grad_enabled():
            h = F.silu(self._modulated_conv_in(self.norm(x), scale[0], shift[0]), inplace=True)
        else:
            h = self.conv_in(self.norm(x))
            h = F.silu(torch.addcmul(shift[:, :, None, None], h, 1 + scale[:, :, None, None]))
        return self.conv_out(h).add_(x)

    def _modulated_conv_in(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(1 + scale) times the first convolution plus shift, both in its weights: a pass over the features less."""
        conv = self.conv_in
        gain, shift = 1 + scale.to(conv.weight), shift.to(conv.weight)
        weight, bias = gain[:, None, None, None] * conv.weight, torch.addcmul(shift, gain, conv.bias)
        return F.conv2d(x, weight, bias, padding=conv.padding)


class NoiseEmbedding(nn.Module):
    """Sinusoids of c_noise = ln(sigma) / 4 followed by two linear layers: (B,) -> (B, channels)."""

    def __init__(self, channels: int, num_frequencies: int = 32) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0.0, math.log(64.0), num_frequencies))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * num_frequencies, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()
        )

    def forward(self, sigma: Tensor) -> Tensor:
        angles = (sigma.float().log() / 4)[:, None] * self.frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))


class ScoreNetwork(ModelMixin, ConfigMixin):
    """Estimates E[x_0 | x_0 + sigma z] of photos.

    Args:
        channels: Width of each level, from half resolution downwards; each level halves the size.
        blocks: Residual blocks of each level, in the encoder and again in the decoder; one number for all levels
            or a list of one for each.
        embedding: Width of the noise-level embedding.
        sigma_data: Pixel standard deviation of the training photos in [-1, 1] units.
        sigma_max: Largest noise level of the training in [-1, 1] units; it has no say in what the network computes.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (48, 96, 160),
        blocks: int | tuple[int, ...] = 2,
        embedding: int = 128,
        sigma_data: float = 0.5,
        sigma_max: float = 3.0,
    ) -> None:
        super().__init__()
        # Set by enable_gradient_checkpointing of diffusers: memory for time while training.
        self.gradient_checkpointing = False
        depths = block_counts(channels, blocks)
        self.noise_embedding = NoiseEmbedding(embedding)
        self.stem = nn.Conv2d(12, channels[0], 3, padding=1)

        def level(width: int, depth: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(width, embedding) for _ in range(depth))

        levels = list(zip(channels, depths, strict=True))
        self.encoder = nn.ModuleList(level(width, depth) for width, depth in levels[:-1])
        self.middle = level(*levels[-1])
        self.decoder = nn.ModuleList(level(width, depth) for width, depth in levels[:-1])
        pairs = list(zip(channels[:-1], channels[1:], strict=True))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.head = nn.Conv2d(channels[0], 12, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def depths(self) -> tuple[int, ...]:
        """Residual blocks of each level, from half resolution downwards."""
        return block_counts(self.config.channels, self.config.blocks)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each residual block, in the order in which a photo passes them."""
        return block_widths(self.config.channels, self.config.blocks)

    @property
    def stride(self) -> int:
        """Side of the blocks of pixels that the coarsest level sees as one; tiles start at its multiples."""
        return 2 ** len(self.config.channels)

    @property
    def receptive_field(self) -> int:
        """Distance in pixels beyond which a pixel cannot influence another, a multiple of `stride`."""
        # Stem and head, then two convolutions a block; strided 2x2 layers add the width of one coarse pixel.
        reach = 2 * 2 + self.stride - 1
        for level, depth in enumerate(self.depths):
            passes = 1 if level == len(self.depths) - 1 else 2
            reach += 2 * depth * passes * 2 ** (level + 1)
        return math.ceil(reach / self.stride) * self.stride

    def forward(
        self, x: Tensor, sigma: Tensor, modulations: Sequence[Tensor] | None = None, asked: Tensor | None = None
    ) -> Tensor:
        """Denoises photos.

        Args:
            x: Noisy photos in [-1, 1] units, shape (B, 3, H, W); any H and W.
            sigma: Noise standard deviations in the same units, shape (B,) or scalar; positive.
            modulations: What is added to scale and shift of each residual block, a (B, 2 C) or (1, 2 C) for each C
                of `widths`; None adds nothing.
            asked: Where an estimate is wanted, bool, shape (H, W), somewhere at least; elsewhere it is undefined. None
                for everywhere.

        Returns:
            Estimates of the noise-free photos in [-1, 1] units, shape (B, 3, H, W), in the dtype of x.

        Raises:
            ValueError: If there are not as many modulations as residual blocks.
        """
        if modulations is not None and len(modulations) != len(self.widths):
            raise ValueError(f"modulations must be {len(self.widths)}, one a residual block, got {len(modulations)}")
        sigma = sigma.to(x).expand(x.shape[0])
        variance = sigma[:, None, None, None].square()
        sigma_data = self.config.sigma_data
        total = variance + sigma_data**2
        residual = self._backbone(x / total.sqrt(), sigma, modulations, asked)
        return x * (sigma_data**2 / total) + residual.to(x.dtype) * (variance.sqrt() * sigma_data / total.sqrt())

    def _backbone(
        self, x: Tensor, sigma: Tensor, modulations: Sequence[Tensor] | None, asked: Tensor | None
    ) -> Tensor:
        height, width = x.shape[-2:]
        # Edge values beyond the border: reflection would need photos larger than the padding.
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        embedding = self.noise_embedding(sigma).to(x.dtype)
        in_turn = iter(modulations or [None] * len(self.widths))
        last = self.decoder[0] if self.decoder else self.middle

        def level(blocks: nn.ModuleList, enter: Callable[..., Tensor]) -> Callable[..., Tensor]:
            turn = [next(in_turn) for _ in blocks]

            def layers(*windows: Tensor) -> Tensor:
                h = enter(*windows)
                for block, modulation in zip(blocks, turn, strict=True):
                    h = self._apply_block(block, h, embedding, modulation)
                return self.head(h) if blocks is last else h

            return layers

        down = [level(*pair) for pair in zip([*self.encoder, self.middle], [self._enter, *self.down], strict=True)]
        up = [level(self.decoder[index], self._join(index)) for index in reversed(range(len(self.decoder)))]
        halos = [self._halo(index) for index in range(len(self.depths))]
        h = through_levels(x, down, up, self.stride, halos, asked)
        return F.pixel_shuffle(h, 2)[..., :height, :width]

    def _enter(self, x: Tensor) -> Tensor:
        return self.stem(F.pixel_unshuffle(x, 2))

    def _join(self, level: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda coarse, skip: self.up[level](coarse) + skip

    def _apply_block(self, block: nn.Module, *seen: Tensor | None) -> Tensor:
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        return self._gradient_checkpointing_func(block, *seen) if recompute else block(*seen)

    def _halo(self, level: int) -> int:
        """Reach of a level's convolutions in its own pixels, made even; stem or head add one to the finest."""
        return 2 * self.depths[level] + 2 * (level == 0)


def block_counts(channels: Sequence[int], blocks: int | Sequence[int]) -> tuple[int, ...]:
    """Residual blocks of each level from one number or a list.

    Raises:
        ValueError: If the list is not as long as `channels`, or a level has none.
    """
    counts = (blocks,) * len(channels) if isinstance(blocks, int) else tuple(blocks)
    if len(counts) != len(channels) or min(counts) < 1:
        raise ValueError(f"blocks must be a number or a list of {len(channels)}, at least 1 each, got {blocks}")
    return counts


def block_widths(channels: Sequence[int], blocks: int | Sequence[int]) -> tuple[int, ...]:
    """Channels of each residual block, in the order in which a photo passes them; arguments as of `block_counts`."""
    counts = block_counts(channels, blocks)
    *down, middle = [(width,) * count for width, count in zip(channels, counts, strict=True)]
    return sum([*down, middle, *reversed(down)], ())
