"""Pictures in the forms that pipelines of diffusers take and give: PIL images, NumPy arrays, tensors, and lists."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

__all__ = ["OUTPUT_TYPES", "as_captures", "as_output", "generators_for"]

OUTPUT_TYPES = ("pil", "pt", "np")

Picture = Image.Image | np.ndarray | Tensor


def as_captures(image: Picture | Sequence[Picture]) -> list[Tensor]:
    """Pictures of any form as captures.

    Args:
        image: PIL images in grey or RGB, which are turned upright by their EXIF orientation; arrays (H, W), (H, W, 3)
            or (B, H, W, 3), of unsigned integers or in [0, 1]; tensors (3, H, W) or (B, 3, H, W) in [0, 1]; or a list
            of any of these.

    Returns:
        Captures, float32, shape (1, 3, H, W) each.

    Raises:
        ValueError: If there is none, or one is of another kind.
    """
    if isinstance(image, (list, tuple)):
        captures = [capture for one in image for capture in as_captures(one)]
    elif isinstance(image, Image.Image):
        captures = [_of_array(_of_pil(image))]
    elif isinstance(image, np.ndarray):
        captures = [_of_array(one) for one in (image if image.ndim == 4 else image[None])]
    elif isinstance(image, Tensor) and image.dim() in (3, 4) and image.shape[-3] == 3 and image.is_floating_point():
        captures = list((image if image.dim() == 4 else image[None]).float().split(1))
    else:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image must be PIL images, arrays (H, W, 3), tensors (3, H, W), or a list of them, got {got}")
    if not captures:
        raise ValueError("image must hold at least one picture, got none")
    return captures


def as_output(images: Sequence[Tensor], output_type: str) -> list[Image.Image] | Tensor | np.ndarray | list:
    """Restored pictures in the form that was asked for.

    Args:
        images: Pictures in [0, 1], shape (1, 3, H, W) each.
        output_type: `pil` for a list of 8-bit images; `pt` for a tensor (B, 3, H, W) and `np` for an array (B, H, W, 3)
            in [0, 1], or lists of them where the sizes differ.
    """
    if output_type == "pt":
        return torch.cat(list(images)) if len({image.shape for image in images}) == 1 else list(images)
    arrays = [image[0].permute(1, 2, 0).float().cpu().numpy() for image in images]
    if output_type == "np":
        return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays
    return [Image.fromarray(np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)) for array in arrays]


def generators_for(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[torch.Generator | None]:
    """A generator for each picture; copies of a single one, so that company changes no result.

    Raises:
        ValueError: If there is a list of another length, or something else than generators.
    """
    several = isinstance(generator, (list, tuple))
    for one in generator if several else [generator]:
        if one is not None and not isinstance(one, torch.Generator):
            raise ValueError(f"generator must be a torch.Generator, a list of them or None, got {one!r}")
    if several:
        if len(generator) != count:
            raise ValueError(f"generator must be one or a list of {count} like the images, got {len(generator)}")
        return list(generator)
    if generator is None or count == 1:
        return [generator] * count
    copies = [torch.Generator(generator.device) for _ in range(count)]
    for copy in copies:
        copy.set_state(generator.get_state())
    return copies


def _of_pil(image: Image.Image) -> np.ndarray:
    # The way it is meant to be seen; the arrays that results are made of have no room for the tag.
    image = ImageOps.exif_transpose(image)
    if image.mode in ("1", "P"):
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB", "I;16"):
        raise ValueError(f"image must be a grey or RGB image, got one in {image.mode}; please convert it")
    return np.asarray(image)


def _of_array(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind not in "uf":
        raise ValueError(
            f"image must be an array (H, W, 3) of unsigned integers or floats, got {array.shape} of {array.dtype}"
        )
    values = array.astype(np.float32)
    if array.dtype.kind == "u":
        values /= np.float32(np.iinfo(array.dtype).max)
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()
