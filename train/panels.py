"""What a score network is judged by during training: held-out photos denoised, photos dreamt up."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from diffusion import VESDE
from samplers.prior_samples import draw
from train.sharp_photos import read_rgb

__all__ = [
    "DENOISING_SIGMAS", "denoising_pictures", "denoising_psnr", "ema_gap", "held_out_crops", "picture_grid",
    "sample_pictures",
]  # fmt: skip

DENOISING_SIGMAS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4)
"""Noise levels of the denoising panel, [-1, 1] units."""


def held_out_crops(files: list[Path], side: int = 128) -> Tensor:
    """Centre crops of photos in [-1, 1], shape (B, 3, side, side); smaller photos are enlarged."""
    crops = []
    for file in files:
        photo = Image.fromarray(read_rgb(file))
        shortest = min(photo.size)
        if shortest < side:
            factor = side / shortest
            photo = photo.resize((max(side, round(photo.width * factor)), max(side, round(photo.height * factor))))
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        pixels = np.asarray(photo.crop((left, top, left + side, top + side)), dtype=np.float32)
        crops.append(torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(crops)


@torch.no_grad()
def denoising_psnr(network: nn.Module, x: Tensor, seed: int = 0) -> dict[str, float]:
    """Mean PSNR in dB of denoised photos at each of `DENOISING_SIGMAS`, with fixed noise.

    Args:
        network: Maps (x_t, sigma) to an estimate of x.
        x: Sharp photos in [-1, 1], shape (B, 3, H, W).
        seed: Seed of the noise.
    """
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    values = {}
    for sigma in DENOISING_SIGMAS:
        estimate = network(x + sigma * noise, torch.tensor(sigma, device=x.device))
        # The peak-to-peak range of [-1, 1] is 2.
        mse = (estimate - x).square().mean(dim=(1, 2, 3))
        values[f"denoising_psnr/{sigma}"] = float((10 * torch.log10(4 / mse)).mean())
    return values


def ema_gap(average: dict[str, float], raw: dict[str, float]) -> dict[str, float]:
    """Log entries of raw weights and of what their average gains, from `denoising_psnr` of both, in dB."""
    entries = {}
    for name, value in raw.items():
        panel, sigma = name.split("/")
        entries |= {f"{panel}_raw/{sigma}": value, f"{panel}_ema_gain/{sigma}": average[name] - value}
    return entries


@torch.no_grad()
def denoising_pictures(network: nn.Module, x: Tensor, sigma: float = 0.4, seed: int = 0) -> np.ndarray:
    """Photos with fixed noise, each beside its denoised version.

    Args:
        network: Maps (x_t, sigma) to an estimate of x.
        x: Sharp photos in [-1, 1], shape (B, 3, H, W).
        sigma: Noise level, [-1, 1] units.
        seed: Seed of the noise.

    Returns:
        One picture, 8-bit, of two columns and B rows, shape (B H, 2 W, 3).
    """
    noisy = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    denoised = network(noisy, torch.tensor(sigma, device=x.device))
    return picture_grid(torch.stack([noisy, denoised], dim=1).flatten(0, 1), columns=2)


@torch.no_grad()
def sample_pictures(
    network: nn.Module, count: int = 16, side: int = 64, steps: int = 20, seed: int = 0, sigma_max: float = 3.0
) -> np.ndarray:
    """Draws photos from the prior by the predictor-corrector sampler, from the largest noise level downwards.

    Args:
        network: Maps (x_t, sigma) to an estimate of x, as `ScoreNetwork`.
        count: Number of photos.
        side: Side of a photo in pixels.
        steps: Noise levels of the sampler.
        seed: Seed of all noise.
        sigma_max: Largest noise level that the network knows, above 0.01, where the sampler ends; [-1, 1] units.

    Returns:
        One picture, 8-bit, as square as possible, shape (rows side, columns side, 3).
    """
    nothing = torch.zeros(count, 3, side, side, device=next(network.parameters()).device)
    generator = torch.Generator().manual_seed(seed)
    sde = VESDE(sigma_max=sigma_max)
    photos = draw(network, sde, "predictor-corrector", 2 * steps - 1, nothing, sigma_max, generator)
    return picture_grid(photos, columns=math.ceil(math.sqrt(count)))


def picture_grid(x: Tensor, columns: int) -> np.ndarray:
    """Lays photos in [-1, 1], shape (B, 3, H, W), out row by row; black where there are none left."""
    x = torch.cat([x, x.new_full((-len(x) % columns, *x.shape[1:]), -1.0)])
    x = x.reshape(-1, columns, *x.shape[1:]).permute(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    pixels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.reshape(x.shape[0] * x.shape[1], x.shape[2] * x.shape[3], 3).cpu().numpy()
