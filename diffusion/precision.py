"""The precision of networks: single, or bfloat16 for convolutions and attention, where the device computes in it."""

import torch
from torch import nn

__all__ = [
    "PRECISIONS", "check_precision", "chosen_precision", "computes_in_bf16", "mixed_precision", "single_is_single",
]  # fmt: skip

PRECISIONS = ("auto", "fp32", "bf16")


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device is faster in bfloat16; elsewhere it would only be less exact.

    Of processors those with matrix units for it (AMX), and those whose vector units multiply it twice as fast. Intel's
    have the instructions, but without AMX, which virtual machines often hide, their convolutions take longer in
    bfloat16 than in single precision.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    known = torch.cpu.get_capabilities()
    intel = str(known.get("cpu_name", "")).startswith("Intel")
    return bool(known.get("amx_bf16") or (known.get("avx512_bf16") and not intel))


def check_precision(precision: str) -> None:
    """Refuses what is none.

    Raises:
        ValueError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, got {precision!r}")


def chosen_precision(precision: str, device: torch.device) -> str:
    """What a precision means on a device: `fp32` or `bf16`, which `auto` is where `computes_in_bf16`."""
    if precision != "auto":
        return precision
    return "bf16" if computes_in_bf16(device) else "fp32"


def single_is_single() -> None:
    """From now on convolutions in single precision are just that: cuDNN would take TensorFloat-32, of 10 bits, for it.

    Commands call it, so that a GPU's figures are a CPU's; the setting is that of the process.
    """
    torch.backends.cudnn.allow_tf32 = False


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
    return torch.autocast(device, torch.bfloat16, enabled=chosen_precision(precision, parameter.device) == "bf16")
