"""What the pipeline is called with, refused in one sentence where it cannot be meant."""

from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from optics import Lens, UnknownLens, check_radius_map
from samplers.settings import SamplerSettings

__all__ = ["as_map", "check_capture", "check_maps", "check_options", "check_precisions"]


def as_map(name: str, values: Tensor | np.ndarray | None, device: torch.device) -> Tensor | None:
    """A map as tensor.

    Args:
        name: What it is called, for errors.
        values: A tensor, which is left alone; an array of numbers, shape (H, W) or (1, 1, H, W); or None.
        device: Where arrays are moved to.

    Returns:
        The tensor; of an array float32, shape (1, 1, H, W); of None None.

    Raises:
        ValueError: If it is of another kind.
    """
    if values is None or isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        got = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ValueError(f"{name} must be a tensor or an array of numbers, got {got}")
    values = torch.from_numpy(np.array(values, dtype=np.float32, order="C")).to(device)
    return values[None, None] if values.dim() == 2 else values


def check_options(settings: SamplerSettings, lens: Lens | UnknownLens, noise_std: float | None) -> None:
    """Checks options of the pipeline, each by itself.

    Raises:
        ValueError: If one is of another kind or out of its range.
    """
    if not isinstance(settings, SamplerSettings):
        raise ValueError(f"settings must be SamplerSettings or None, got {type(settings).__name__}")
    if not isinstance(lens, (Lens, UnknownLens)):
        raise ValueError(f"lens must be a Lens or an UnknownLens of optics, got {lens!r}")
    if noise_std is not None and not (isinstance(noise_std, Real) and 0 < noise_std < 1):
        raise ValueError(f"noise_std must be a number above 0 and below 1, or None, got {noise_std!r}")


def check_capture(image: Tensor) -> None:
    """Checks a capture.

    Raises:
        ValueError: If it is no finite photo in [0, 1], shape (1, 3, H, W), of at least a pixel.
    """
    if image.dim() != 4 or image.shape[:2] != (1, 3):
        raise ValueError(f"image must have shape (1, 3, H, W), got {tuple(image.shape)}")
    if image.numel() == 0:
        raise ValueError(f"image must hold at least one pixel, got the shape {tuple(image.shape)}")
    if not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise ValueError("image must hold finite values in [0, 1]")


def check_maps(
    size: tuple[int, int], radius_map: Tensor | None, confidence: Tensor | None, map_estimator: str | None
) -> None:
    """Checks what is given of the blur radii.

    Args:
        size: Height and width of the capture.
        radius_map: Blur radii in pixels, shape (1, 1, H, W), or None.
        confidence: Of that map, same shape, or None.
        map_estimator: How a missing map is to be estimated, or None.

    Raises:
        ValueError: If a map is of another size or out of its range, or one of them would be ignored.
    """
    for name, values in (("radius_map", radius_map), ("confidence", confidence)):
        if values is not None and values.shape != (1, 1, *size):
            raise ValueError(f"{name} must have shape {(1, 1, *size)} like the image, got {tuple(values.shape)}")
    if radius_map is not None:
        check_radius_map(radius_map)
        if map_estimator is not None:
            raise ValueError(f"map_estimator must be None with a radius_map that is given, got {map_estimator!r}")
    if confidence is not None:
        if radius_map is None:
            raise ValueError("confidence must come with the radius_map that it belongs to, got no radius_map")
        least, most = (float(value) for value in confidence.aminmax())
        # Undefined confidence is either.
        if not 0 <= least <= most <= 1:
            raise ValueError(f"confidence must hold finite values in [0, 1], got {least:g} to {most:g}")


def check_precisions(**parts: object) -> None:
    """Checks that no network is in double precision, in which photos are not.

    Raises:
        ValueError: If one is; names it.
    """
    for name, part in parts.items():
        if isinstance(part, nn.Module) and any(values.dtype == torch.float64 for values in part.parameters()):
            raise ValueError(f"{name} must be in float32, bfloat16 or float16, got torch.float64")
