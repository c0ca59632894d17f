"""What a score network is judged by during training: held-out photos denoised, photos dreamt up."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

__all__ = ["DENOISING_SIGMAS", "denoising_psnr", "held_out_crops"]

DENOISING_SIGMAS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4)
"""Noise levels of the denoising panel, [-1, 1] units."""


def held_out_crops(files: list[Path], side: int = 128) -> Tensor:
    """Centre crops of photos in [-1, 1], shape (B, 3, side, side); smaller photos are enlarged."""
    crops = []
    for file in files:
        with Image.open(file) as image:
            photo = image.convert("RGB")
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
