"""Diffusion of the latent prior: a DDPM of few steps, drawn from by its means alone and unrolled.

Notation: z_0 is a prior of N tokens, z_t its version after t of T steps, c what the capture says.

    q(z_t | z_0)         = N(sqrt(abar_t) z_0, 1 - abar_t),      abar_t = prod_s<=t (1 - beta_s)
    E[z_t-1 | z_t, z_0]  = sqrt(abar_t-1) beta_t / (1 - abar_t) z_0
                           + sqrt(1 - beta_t) (1 - abar_t-1) / (1 - abar_t) z_t

The network predicts z_0 from (z_t, t, c), and z_t-1 is the mean above: with so few numbers to predict, noise
on the way is of no use, and the whole chain is differentiated. That a compact prior is diffused is of
Swin-Diff; beta rising linearly from 0.1 to 0.99, means without noise and the unrolled chain are of DiffIR
(Xia et al., ICCV 2023, https://arxiv.org/abs/2303.09472) and HI-Diff (Chen et al., NeurIPS 2023,
https://arxiv.org/abs/2305.12966), which use T from 4 to 16. Predicting z_0 is a choice of the latter.

References:
    Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, https://arxiv.org/abs/2006.11239.
"""

import math

import torch
from torch import Tensor, nn

from diffusion.latent_prior.encoder import MixerBlock

__all__ = ["LatentDiffusion"]

_BETA_FIRST, _BETA_LAST = 0.1, 0.99


class LatentDiffusion(nn.Module):
    """Draws priors from noise, given what a capture says.

    Args:
        tokens: Number of tokens.
        latent: Their width.
        steps: T, at least 1.
        blocks: Mixer blocks of the network.
    """

    def __init__(self, tokens: int, latent: int, steps: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.steps = steps
        # Numbers, not tensors: networks are also made without memory, to look at their shapes.
        rise = (_BETA_LAST - _BETA_FIRST) / max(steps - 1, 1)
        self.beta = tuple(_BETA_FIRST + rise * step for step in range(steps))
        self.abar = tuple(math.prod(1 - beta for beta in self.beta[:t]) for t in range(steps + 1))
        self.time = nn.Embedding(steps, latent)
        nn.init.normal_(self.time.weight, std=0.1)
        self.widen = nn.Linear(2 * latent, latent)
        self.blocks = nn.ModuleList(MixerBlock(tokens, latent) for _ in range(blocks))
        self.head = nn.Sequential(nn.LayerNorm(latent), nn.Linear(latent, latent))

    def noised(self, z: Tensor, t: int, noise: Tensor) -> Tensor:
        """z_t of priors z_0 and standard normal noise, all of shape (B, N, D); t from 0 to T."""
        return self.abar[t] ** 0.5 * z + (1 - self.abar[t]) ** 0.5 * noise

    def posterior_mean(self, z_t: Tensor, t: int, z_0: Tensor) -> Tensor:
        """E[z_t-1 | z_t, z_0], shape (B, N, D); t from 1 to T."""
        beta, abar, before = self.beta[t - 1], self.abar[t], self.abar[t - 1]
        return (before**0.5 * beta * z_0 + (1 - beta) ** 0.5 * (1 - before) * z_t) / (1 - abar)

    def predict(self, z_t: Tensor, t: int, condition: Tensor) -> Tensor:
        """The network's z_0 of z_t and of what the capture says, shape (B, N, D) each; t from 1 to T."""
        h = self.widen(torch.cat([z_t, condition], dim=2)) + self.time.weight[t - 1]
        for block in self.blocks:
            h = block(h)
        return self.head(h).float()

    def forward(self, z_T: Tensor, condition: Tensor) -> Tensor:  # noqa: N803 - T is the number of steps
        """Goes the whole chain from noise to a prior: (B, N, D), (B, N, D) -> (B, N, D)."""
        z_t = z_T
        for t in range(self.steps, 0, -1):
            z_t = self.posterior_mean(z_t, t, self.predict(z_t, t, condition))
        return z_t
