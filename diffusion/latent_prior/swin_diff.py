"""Swin-Diff without pairs: sharp photos from captures, guided by a prior that a small diffusion draws.

    stage 1    z = E_1(x, y),                      x_bar = F(y, z)       the prior sees the sharp photo
    stage 2    z = diffusion(noise; c = E_2(y)),   x_bar = F(y, z)       and must do without

Two stages, a compact latent prior by diffusion, and its hierarchical fusion into a Transformer that
regresses the sharp photo are of

    Liang et al., Swin-Diff, Complex & Intelligent Systems 11, article 170, 2025,
    https://doi.org/10.1007/s40747-025-01789-w

which trains on pairs of captures. Its sizes are not in the abstract; the parts say what they follow instead.
Ours is trained on sharp photos that `optics.simulation` takes captures of, never sees the map of the blur,
and gives the expected error of each pixel. In stage 1 the prior is left out of some samples (`train`), so that
such a network restores without one too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from diffusion.latent_prior.backbone import RegressionTransformer
from diffusion.latent_prior.encoder import PARTS, LatentEncoder
from diffusion.latent_prior.latent_diffusion import LatentDiffusion

__all__ = ["Regression", "SwinDiff"]

_TOKENS = PARTS**2


class Regression(NamedTuple):
    """What is regressed, float32 in [-1, 1] units.

    Attributes:
        x: Estimate of the sharp photo, shape (B, 3, H, W).
        log_scale: Logarithm of its expected absolute error, the scale of a Laplace distribution, (B, 1, H, W).
    """

    x: Tensor
    log_scale: Tensor

    @property
    def variance(self) -> Tensor:
        """Variance 2 b^2 of the Laplace distribution at each pixel, shape (B, 1, H, W)."""
        return 2 * (2 * self.log_scale).exp()


class SwinDiff(ModelMixin, ConfigMixin):
    """Restores captures blindly.

    Args:
        channels: Width of each level of the regression, from half resolution downwards; at least 2 levels.
        blocks: Blocks of each level.
        windows: Side of the attention windows of each level in its own pixels; 0 for no attention there.
        latent: Width of the tokens of the prior.
        encoder: Width of the encoders of the prior.
        steps: Steps of the latent diffusion.
        prior: `diffusion`, or `regression` where the prior is predicted in one step from no noise, to compare with.
        channel_attention: Whether half of the attention runs over channels, or all of it over space, to compare with.
        stage: 1 or 2, the training that the network has been through or is in.

    Raises:
        ValueError: If sizes do not fit one another, or a choice is unknown.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        channels: Sequence[int] = (48, 96, 128),
        blocks: Sequence[int] = (2, 4, 2),
        windows: Sequence[int] = (0, 8, 4),
        latent: int = 64,
        encoder: int = 48,
        steps: int = 8,
        prior: str = "diffusion",
        channel_attention: bool = True,
        stage: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"channels must be at least 2 positive widths, got {list(channels)}")
        for name, values, least in (("blocks", blocks, 1), ("windows", windows, 0)):
            if len(values) != len(channels) or min(values) < least:
                raise ValueError(
                    f"{name} must be {len(channels)} numbers, at least {least} each, got {list(values)}"
                )
        for name, value in (("latent", latent), ("encoder", encoder), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if prior not in ("diffusion", "regression"):
            raise ValueError(f"prior must be diffusion or regression, got {prior!r}")
        if stage not in (1, 2):
            raise ValueError(f"stage must be 1 or 2, got {stage}")
        self.gradient_checkpointing = False
        self.pair_encoder = LatentEncoder(2, encoder, latent)
        self.capture_encoder = LatentEncoder(1, encoder, latent)
        self.latent_diffusion = LatentDiffusion(_TOKENS, latent, steps)
        self.backbone = RegressionTransformer(
            channels, blocks, windows, _TOKENS, latent, channel_attention=channel_attention
        )

    @property
    def grid(self) -> int:
        """Side in pixels of the blocks that parts of a photo must start at."""
        return self.backbone.grid

    @property
    def receptive_field(self) -> int:
        """Distance in pixels beyond which a pixel has no say but through the prior, a multiple of `grid`."""
        return self.backbone.reach

    @property
    def prior_shape(self) -> tuple[int, int]:
        """Number of tokens of the prior, and their width."""
        return _TOKENS, self.config.latent

    def pair_prior(self, x: Tensor, y: Tensor) -> Tensor:
        """The prior of stage 1, of sharp photos and their captures in [-1, 1]: (B, 3, H, W) twice -> (B, N, D)."""
        return self.pair_encoder(torch.cat([x, y], dim=1))

    def prior(self, condition: Tensor, noise: Tensor) -> Tensor:
        """The prior of stage 2.

        Args:
            condition: What the captures say, `capture_encoder(y)`, shape (B, N, D).
            noise: Standard normal, of which the diffusion starts, same shape.
        """
        if self.config.prior == "regression":
            return self.latent_diffusion.predict(torch.zeros_like(noise), self.config.steps, condition)
        return self.latent_diffusion(noise, condition)

    def restore(self, y: Tensor, prior: Tensor, asked: Tensor | None = None) -> Regression:
        """Restores captures with given priors.

        Args:
            y: Captures in [-1, 1], shape (B, 3, H, W); any H and W.
            prior: Shape (B, N, D); zeros are no prior.
            asked: Where an estimate is wanted, bool, shape (H, W), somewhere at least; None for everywhere.
        """
        checkpointing = self._gradient_checkpointing_func if self.gradient_checkpointing else None
        self.backbone.checkpointing = checkpointing
        return Regression(*self.backbone(y, prior, asked))

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Regression:
        """Restores captures; without a prior in stage 1.

        Args:
            y: Captures in [-1, 1], shape (B, 3, H, W); any H and W.
            generator: Source of the noise that the prior starts from, one draw for all captures; seed 0 if None.
        """
        condition = None if self.config.stage == 1 else self.capture_encoder(y)
        return self.restore(y, self.drawn_prior(condition, len(y), generator))

    def drawn_prior(self, condition: Tensor | None, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Priors from noise, equal noise for all captures; zeros, which are no prior, without a condition.

        Args:
            condition: What the captures say, shape (B, N, D), or None.
            count: B.
            generator: Source of the noise; seed 0 if None.
        """
        weight = self.latent_diffusion.widen.weight
        if condition is None:
            return weight.new_zeros(count, *self.prior_shape)
        generator = generator or torch.Generator().manual_seed(0)
        noise = torch.randn(1, *self.prior_shape, generator=generator, device=generator.device, dtype=torch.float32)
        return self.prior(condition, noise.to(weight.device).expand(count, -1, -1))
