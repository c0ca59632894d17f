"""The precision of networks: single, or bfloat16 for convolutions and attention, where the device computes in it."""

import torch
from torch import nn

__all__ = ["PRECISIONS", "check_precision", "computes_in_bf16", "mixed_precision"]

PRECISIONS = ("auto", "fp32", "bf16")


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is a device's own, and so faster; elsewhere it would only be less exact."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def check_precision(precision: str) -> None:
    """Refuses what is none.

    Raises:
        ValueError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, got {precision!r}")


def mixed_precision(network: nn.Module, precision: str) -> torch.autocast:
    """The context in which a network runs; one whose weights are in half precision always runs in it.

    Args:
        network: The network, on its device.
        precision: `fp32`, `bf16`, or `auto` for bfloat16 where `computes_in_bf16`.
    """
    parameter = next(network.parameters())
    device = parameter.device.type
    if parameter.dtype != torch.float32:
        # What is no convolution or attention stays single.
        return torch.autocast(device, parameter.dtype)
    enabled = precision == "bf16" or (precision == "auto" and computes_in_bf16(parameter.device))
    return torch.autocast(device, torch.bfloat16, enabled=enabled)
