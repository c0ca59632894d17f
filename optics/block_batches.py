"""Blocks of a kind computed at once, for devices where many small kernels cost more than few large ones.

Blocks of one size whose transforms have one size are stacked: each step of `optics.blocks.BlockMaps` is one kernel for
all of them, and sees as far as the one of the widest PSF needs. Everything that both maps take of the radii is made at
once and kept on the device, about 8 bytes for each pixel and component: a GPU has the memory. Products thus copy
nothing to the device and read nothing back, so that they can be captured in a CUDA graph.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from optics.blocks import Block, BlockMaps

__all__ = ["BlockBatch", "block_batches"]

_VALUES = 1 << 23  # of the transforms of a channel: they fill any GPU, and each array of three channels takes 100 MB


def block_batches(blocks: list[Block], device: torch.device, size: int | None = None) -> list["BlockBatch"]:
    """Stacks blocks of a kind.

    Args:
        blocks: All of a capture, on the CPU.
        device: Where pictures are.
        size: Largest number in a batch; None for as many as have 2^23 values in their transforms, of each channel.
    """
    kinds: dict[tuple, list[Block]] = {}
    for block in blocks:
        kinds.setdefault((block.size, block.shape, block.blurs), []).append(block)
    batches = []
    for (_, (height, width), _), alike in kinds.items():
        count = size or max(1, _VALUES // (height * width))
        batches += [BlockBatch(alike[start : start + count], device) for start in range(0, len(alike), count)]
    return batches


class BlockBatch(BlockMaps):
    """Blocks of one size, all blurred or all sharp, whose transforms have one size.

    Args:
        blocks: On the CPU.
        device: Where pictures are.
    """

    def __init__(self, blocks: list[Block], device: torch.device) -> None:
        first = blocks[0]
        self.shape, self.blurs = first.shape, first.blurs
        # The transforms have room for it, as they have for that block, and so have canvases.
        self.reach = max(block.reach for block in blocks)
        self.has_sharp = any(block.has_sharp for block in blocks)
        parts = [list(block.parts()) if self.blurs else [] for block in blocks]
        # Those of many components come first, so that the last components are those of the first blocks alone.
        order = sorted(range(len(blocks)), key=lambda index: -len(parts[index]))
        blocks, parts = [blocks[index] for index in order], [parts[index] for index in order]
        self._parts = [tuple(values.to(device) for values in part) for part in _stacked(parts)]
        windows = [block.window(self.reach) for block in blocks]
        self.capture = _index([block.capture[1:] for block in blocks], device)
        self.canvas = _index(windows, device)
        self._turns = [
            (torch.tensor(turn, device=device), _index([windows[index] for index in turn], device))
            for turn in _turns(windows)
        ]

    def parts(self) -> list[tuple[Tensor, Tensor]]:
        return self._parts

    def blurred(self) -> Tensor:
        return self._parts[0][0]

    def add(self, canvas: Tensor, values: Tensor) -> None:
        for turn, window in self._turns:
            canvas[window] += values[:, :, turn]


def _stacked(parts: list[list[tuple[Tensor, Tensor]]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts of blocks in falling order of their number, as `BlockMaps.parts` gives them."""
    for index in range(len(parts[0])):
        present = [own[index] for own in parts if index < len(own)]
        yield tuple(torch.stack(values) for values in zip(*present, strict=True))


def _index(windows: list[tuple[slice, slice]], device: torch.device) -> tuple:
    """Index of N windows of one size, rows and columns each, which makes (B, C, N, h, w) of (B, C, H, W)."""
    rows, columns = (
        torch.stack([torch.arange(span.start, span.stop) for span in spans]).to(device)
        for spans in zip(*windows, strict=True)
    )
    return ..., rows[:, :, None], columns[:, None, :]


def _turns(windows: list[tuple[slice, slice]]) -> list[list[int]]:
    """The windows, by their numbers, in groups within which none overlap.

    What is added to one place at once is added in any order on a GPU. In turns, sums are the same every time.
    """
    turns: list[list[int]] = []
    for number, window in enumerate(windows):
        free = (turn for turn in turns if not any(_overlap(window, windows[other]) for other in turn))
        turn = next(free, None)
        if turn is None:
            turns.append(turn := [])
        turn.append(number)
    return turns


def _overlap(one: tuple[slice, slice], other: tuple[slice, slice]) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
