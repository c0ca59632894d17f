"""Conditioning of a score network on the latent prior: FiLM of its residual blocks by what the prior says.

    h            = SiLU(W_2 SiLU(W_1 mean_n LN(mixer(z))_n))         z: tokens of the prior, (B, N, D)
    (ds, db)_k   = V_k h + v_k                                       of residual block k, V_k = v_k = 0 at first
    F_k          = (1 + s_k(sigma) + ds_k) * F_k + b_k(sigma) + db_k

Scale and shift of features by another network are of

    Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018,
    https://arxiv.org/abs/1709.07871

and beginning at zero, so that a trained network is changed by nothing before training, of

    Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models (ControlNet), ICCV 2023,
    https://arxiv.org/abs/2302.05543

The modulation is that of a whole photo and of all noise levels: it is computed once, every tile of the photo sees
the same, and nothing reaches farther than before. It has weights of its own and leaves those of both networks as
they are, so that without it the score network is the unconditional one.
"""

from collections.abc import Sequence

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from diffusion.latent_prior.encoder import MixerBlock
from diffusion.latent_prior.swin_diff import SwinDiff
from diffusion.score_network import ScoreNetwork, block_widths

__all__ = ["LatentFiLM", "ModulatedNetwork"]


class LatentFiLM(ModelMixin, ConfigMixin):
    """From the tokens of a latent prior to modulations of a score network; zeros at first.

    Args:
        channels: Width of each level of the score network.
        blocks: Residual blocks of each level there, one number or a list.
        tokens: N of the prior.
        latent: D of the prior.
        width: Numbers that the prior is brought to.

    Raises:
        ValueError: If a size is not positive, or `blocks` does not fit `channels`.
    """

    @register_to_config
    def __init__(
        self, channels: Sequence[int] = (48, 96, 160), blocks: int | Sequence[int] = 2, tokens: int = 16,
        latent: int = 64, width: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("channels", min(channels)), ("tokens", tokens), ("latent", latent), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.mixer = MixerBlock(tokens, latent)
        self.norm = nn.LayerNorm(latent)
        self.layers = nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.heads = nn.ModuleList(nn.Linear(width, 2 * width_of) for width_of in block_widths(channels, blocks))
        for head in self.heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @classmethod
    def between(cls, prior: SwinDiff, network: ScoreNetwork, width: int = 128) -> "LatentFiLM":
        """A fresh one from a latent prior to a score network."""
        tokens, latent = prior.prior_shape
        sizes = {"channels": tuple(network.config.channels), "blocks": network.depths, "tokens": tokens}
        # By name: what comes by its place alone, diffusers notes as a default.
        return cls(**sizes, latent=latent, width=width)

    def check_fits(self, prior: SwinDiff | None, network: ScoreNetwork) -> None:
        """Finds out whether this belongs between these two.

        Raises:
            ValueError: If it was made for others, or there is no latent prior that says something of a capture.
        """
        if prior is None:
            raise ValueError("conditioning: expected a latent_prior beside it, got none")
        made_for = self.config.tokens, self.config.latent
        if made_for != prior.prior_shape:
            raise ValueError(f"conditioning: expected a latent_prior of tokens {made_for}, got {prior.prior_shape}")
        widths = block_widths(self.config.channels, self.config.blocks)
        if widths != network.widths:
            raise ValueError(f"conditioning: expected a score_network of blocks {widths}, got {network.widths}")
        if prior.config.stage != 2:
            raise ValueError(
                f"conditioning: expected a latent_prior of stage 2, which knows captures, got one of stage "
                f"{prior.config.stage}"
            )

    def forward(self, prior: Tensor) -> tuple[Tensor, ...]:
        """The modulations of each residual block: (B, N, D) -> a (B, 2 C) for each, as `ScoreNetwork` takes them."""
        pooled = self.norm(self.mixer(prior)).mean(1)  # (B, D)
        h = self.layers(pooled)
        return tuple(head(h) for head in self.heads)


class ModulatedNetwork(nn.Module):
    """A score network under fixed modulations: for tiles and denoisers a score network like any other.

    Args:
        network: The score network.
        modulations: Of the photos that are to be denoised, one of each residual block, see `ScoreNetwork`.
    """

    def __init__(self, network: ScoreNetwork, modulations: Sequence[Tensor]) -> None:
        super().__init__()
        self.network = network
        self.modulations = tuple(modulations)

    @property
    def stride(self) -> int:
        """That of the score network."""
        return self.network.stride

    @property
    def receptive_field(self) -> int:
        """That of the score network: what the modulations say is the same at each pixel."""
        return self.network.receptive_field

    def forward(self, x: Tensor, sigma: Tensor, asked: Tensor | None = None) -> Tensor:
        """Denoises as the score network does: (B, 3, H, W), scalar or (B,), (H, W) or None -> (B, 3, H, W)."""
        return self.network(x, sigma, self.modulations, asked)
