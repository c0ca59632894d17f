"""Denoising score matching: what the score network is trained on.

    L = E lambda(sigma) ||D(x_0 + sigma z; sigma) - x_0||^2,   lambda = (sigma^2 + s_d^2) / (sigma s_d)^2

(Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural Computation 2011,
in the weighting of Karras et al., https://arxiv.org/abs/2206.00364, which gives every noise level a
unit-variance regression target.) The noise levels are log-normal, concentrated where restoration works.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NoiseLevels", "denoising_loss"]


@dataclass(frozen=True)
class NoiseLevels:
    """Log-normal distribution of training noise levels.

    Attributes:
        log_mean: Mean of ln(sigma).
        log_std: Standard deviation of ln(sigma).
        sigma_min: Smallest noise level; smaller draws are clipped to it. [-1, 1] units.
        sigma_max: Largest noise level. [-1, 1] units.
    """

    log_mean: float = -2.0
    log_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min and sigma_max must satisfy 0 < min < max, got {self.sigma_min} and {self.sigma_max}"
            )
        if self.log_std <= 0:
            raise ValueError(f"log_std must be positive, got {self.log_std}")

    def __call__(self, quantile: Tensor) -> Tensor:
        """Maps uniform numbers in (0, 1) to noise levels, monotonically; shape (B,) -> (B,)."""
        normal = torch.special.ndtri(quantile.double()).to(quantile.dtype)
        return torch.exp(self.log_mean + self.log_std * normal).clamp(self.sigma_min, self.sigma_max)


def denoising_loss(
    network: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, sigma: Tensor, sigma_data: float
) -> Tensor:
    """Weighted squared denoising error of each photo.

    Args:
        network: Denoiser (x_t, sigma) -> E[x_0 | x_t]; under data parallelism the wrapped module itself,
            for gradients are only averaged when its own forward is called.
        x: Sharp photos in [-1, 1], shape (B, 3, H, W).
        noise: Standard normal noise, shape (B, 3, H, W).
        sigma: Noise levels in [-1, 1] units, shape (B,).
        sigma_data: Pixel standard deviation of photos.

    Returns:
        Losses, shape (B,); about 1 for an untrained network, at every noise level.
    """
    scale = sigma[:, None, None, None]
    error = network(x + scale * noise, sigma) - x
    weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    return weight * error.square().mean(dim=(1, 2, 3))
