"""The latent prior: blind regression of sharp photos, guided by a compact prior that is drawn by diffusion."""

from diffusion.latent_prior.attention import CrossAttention, DualAttention
from diffusion.latent_prior.backbone import RegressionTransformer
from diffusion.latent_prior.conditioning import LatentFiLM, ModulatedNetwork
from diffusion.latent_prior.encoder import LatentEncoder
from diffusion.latent_prior.latent_diffusion import LatentDiffusion
from diffusion.latent_prior.swin_diff import Regression, SwinDiff

__all__ = [
    "CrossAttention", "DualAttention", "LatentDiffusion", "LatentEncoder", "LatentFiLM", "ModulatedNetwork",
    "Regression", "RegressionTransformer", "SwinDiff",
]  # fmt: skip
