"""How a training patch is cut from a photo and becomes a sample with its noise."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from photos import PhotoError
from train.data_config import DataConfig
from train.patch_quality import accepted

__all__ = ["cut_patch", "draw_patch", "noise_quantile", "training_sample"]

_TRIES = 24


def cut_patch(photo: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Cuts a random square, shrunk by a random factor.

    Args:
        photo: 8-bit values, shape (H, W, 3), no smaller than a patch.
        config: Side of a patch P, and how much it is shrunk.
        rng: Source of all that is random.

    Returns:
        8-bit values, shape (P, P, 3).
    """
    height, width = photo.shape[:2]
    side = config.patch
    scale = 1.0 if rng.random() < config.full_size else rng.uniform(config.min_scale, 1.0)
    # The window to cut, no larger than the photo.
    window = min(round(side / scale), height, width)
    top, left = int(rng.integers(height - window + 1)), int(rng.integers(width - window + 1))
    patch = photo[top : top + window, left : left + window]
    if window != side:
        patch = np.asarray(Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC))
    return patch


def draw_patch(
    draw_photo: Callable[[np.random.Generator], np.ndarray], config: DataConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draws photos and patches until one is neither flat nor out of focus; after 24 tries the last is taken.

    Args:
        draw_photo: Gives a photo, shape (H, W, 3), 8-bit; a photo that cannot be decoded counts as a try.
        config: How to cut, what to reject, and the share of rejected patches that is kept.
        rng: Source of all that is random.

    Returns:
        8-bit values, shape (P, P, 3).

    Raises:
        PhotoError: If no photo that was drawn can be decoded.
    """
    patch = failure = None
    for _ in range(_TRIES):
        try:
            photo = draw_photo(rng)
        except PhotoError as error:
            failure = error
            continue
        patch = cut_patch(photo, config, rng)
        if accepted(patch, config.min_contrast, config.max_smoothness) or rng.random() < config.keep_rejected:
            return patch
    if patch is None:
        raise failure
    return patch


def training_sample(patch: np.ndarray, number: int, batch: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """Turns or mirrors a patch at random, spreads its values, and adds what the training step needs.

    Args:
        patch: 8-bit values, shape (P, P, 3).
        number: Number of the sample in the run.
        batch: Samples of one optimizer step, over all processes.
        rng: Source of all that is random.

    Returns:
        `x`: the patch in [-1, 1], shape (3, P, P); `noise`: standard normal, shape (3, P, P); `quantile`: the noise
        level's quantile in (0, 1), shape (), stratified over the samples of one optimizer step.
    """
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    patch = np.rot90(patch[:, ::-1] if flip else patch, turns).transpose(2, 0, 1)
    # 8-bit values are intervals, not points: spread them so that the density has no atoms.
    x = (patch + (rng.random(patch.shape, dtype=np.float32) - np.float32(0.5))) / np.float32(127.5) - np.float32(1)
    noise = rng.standard_normal(patch.shape, dtype=np.float32)
    return {
        "x": torch.from_numpy(np.ascontiguousarray(x)), "noise": torch.from_numpy(noise),
        "quantile": noise_quantile(number, batch, rng),
    }  # fmt: skip


def noise_quantile(number: int, batch: int, rng: np.random.Generator) -> Tensor:
    """Quantile of a sample's noise level in (0, 1), shape (), stratified over the samples of one optimizer step."""
    return torch.tensor((number % batch + rng.uniform(1e-6, 1 - 1e-6)) / batch, dtype=torch.float32)
