"""Small pieces of work on a CPU side by side: PyTorch's threads each take a piece, rather than share every operation.

What is done to a block of the defocus operator is too small to be shared well.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

__all__ = ["side_by_side"]

Item, Result = TypeVar("Item"), TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Gives the results of work on each item, in their order, as `map` does, by as many threads as PyTorch has.

    Until the last result is taken PyTorch has one thread in the calling one. Where gradients are enabled, which belongs
    to a thread, nothing is done side by side.

    Args:
        work: Must not depend on the order of the items.
        items: What it is done on.
    """
    threads = torch.get_num_threads()
    if min(threads, len(items)) < 2 or torch.is_grad_enabled():
        yield from map(work, items)
        return
    # That of threads that begin to compute while it is set, too.
    torch.set_num_threads(1)
    try:
        yield from _pool(threads).map(torch.no_grad()(work), items)
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "block")


# A process that was forked has the pool and not its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
