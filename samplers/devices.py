"""Devices by their names in PyTorch, tried: a name alone does not say that this machine has it."""

import re

import torch

from diffusion.precision import single_is_single

__all__ = ["tried_device"]


def tried_device(name: str) -> torch.device:
    """The device of a name, once a number has been there; single precision is exact on it from now on.

    Args:
        name: As `cpu`, `cuda` or `cuda:1`.

    Raises:
        ValueError: If this machine has no such device, or PyTorch cannot use it.
    """
    single_is_single()
    try:
        torch.zeros(1, device=name).item()
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # The first sentence: PyTorch goes on with all that it knows.
        reason = re.split(r"\.\s|\n", str(error), maxsplit=1)[0]
        raise ValueError(f"{name}: expected a device of this machine, got an error: {reason}") from None
