"""How much memory a restoration takes, how much is free, and the tiles that fit.

The figures were measured on the shipped pipeline, on a CPU in single precision: the networks take up to 115 bytes for
each pixel that they see at once, which is 2.4 bytes for each channel of the finest level; all else, the data step
foremost, takes up to 150 bytes for each pixel of a photo of 12 or 24 megapixels. Both are rounded up. They choose the
first tile; where they are too small for a device, the tiles are halved as memory runs out.
"""

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from samplers.control_groups import memory_left
from samplers.launch import Launch

__all__ = ["SMALLEST_TILE", "fitting_tile", "free_bytes", "peak_bytes", "release_freed"]

SMALLEST_TILE = 32
_PER_CHANNEL, _PER_PIXEL = 3, 160
_LITTLE = 0.1  # of what the photo takes; tiles that take less are not made smaller, for their halos take time
_SHARE = 0.8  # of free memory that is planned with


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device, in bytes; None where that cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch holds without using it is free for us.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    known = [value for value in (_available(), memory_left()) if value is not None]
    # The processes of a launcher share a machine's memory, and begin at once.
    return min(known) // Launch.of().local_world if known else None


def release_freed() -> None:
    """Gives the system back what was freed, where the C library is GNU's, which else keeps it for the next tile.

    After a network's tiles that is about half a gigabyte, beside which the data step is to find room.
    """
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _c_library() -> ctypes.CDLL | None:
    """The C library of this process if it has `malloc_trim`."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):
        return None


def peak_bytes(height: int, width: int, tile: int, network: nn.Module | None = None) -> int:
    """Estimate of the memory that restoring a photo takes, beyond what is held before.

    Args:
        height: Of the photo in pixels.
        width: Of the photo in pixels.
        tile: Side of the network's tiles in pixels.
        network: The score network; None for a method without.
    """
    return _PER_PIXEL * height * width + (0 if network is None else _tile_bytes(height, width, tile, network))


def fitting_tile(tile: int, height: int, width: int, network: nn.Module, free: int | None) -> int:
    """The largest of the tiles tile, tile / 2, tile / 4 ... that fits into memory.

    Args:
        tile: Side of the largest tile in pixels.
        height: Of the photo in pixels.
        width: Of the photo in pixels.
        network: The score network.
        free: Free memory in bytes; None for unknown, which lets the largest through.

    Returns:
        A side of at least `SMALLEST_TILE`. Where nothing fits, the first that takes a tenth of what the photo takes.
    """
    little = _LITTLE * peak_bytes(height, width, tile)
    while (
        free is not None
        and tile > SMALLEST_TILE
        and peak_bytes(height, width, tile, network) > _SHARE * free
        and _tile_bytes(height, width, tile, network) > little
    ):
        tile = max(SMALLEST_TILE, tile // 2)
    return tile


def _tile_bytes(height: int, width: int, tile: int, network: nn.Module) -> int:
    halo = 2 * network.receptive_field
    window = min(tile + halo, height + halo) * min(tile + halo, width + halo)
    return _PER_CHANNEL * network.config.channels[0] * window


def _available() -> int | None:
    """Free main memory, with caches that the system gives up."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
