"""The training loss by noise level: which part of the diffusion a network still learns."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["LOSS_BINS", "LossByNoise"]

_EDGES = (0.02, 0.05, 0.1, 0.2, 0.5)

LOSS_BINS = tuple(
    f"loss_by_sigma/{low}-{high}" for low, high in zip((0, *_EDGES), (*_EDGES, "inf"), strict=True)
)  # fmt: skip
"""Names in the log; a bin holds low <= sigma < high, [-1, 1] units."""


class LossByNoise:
    """Means of the loss over the samples of each bin of noise levels, over all processes.

    Samples are kept on their device until `collect`, which alone talks to other processes. What is
    collected and not yet logged belongs to a checkpoint.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Tensor]] = []
        self.forget()

    def add(self, sigma: Tensor, losses: Tensor) -> None:
        """Adds samples: noise levels in [-1, 1] units and losses, both of shape (B,)."""
        self._pending.append((sigma.detach(), losses.detach()))

    def collect(self, sum_over_processes: Callable[[Tensor], Tensor]) -> None:
        """Sorts the added samples into bins; every process must call it at the same step.

        Args:
            sum_over_processes: Adds up a tensor of shape (2, bins) over the processes.
        """
        if not self._pending:
            return
        sigma, losses = (torch.cat(values).float() for values in zip(*self._pending, strict=True))
        self._pending = []
        edges = torch.tensor(_EDGES, device=sigma.device)
        # Masks and not scattered sums, whose order differs from run to run on GPUs.
        bins = torch.arange(len(LOSS_BINS), device=sigma.device)[:, None]
        member = (torch.bucketize(sigma, edges, right=True) == bins).float()  # (bins, B)
        sums = sum_over_processes(torch.stack([(member * losses).sum(1), member.sum(1)])).tolist()
        self._sums = [total + new for total, new in zip(self._sums, sums[0], strict=True)]
        self._counts = [total + new for total, new in zip(self._counts, sums[1], strict=True)]

    def means(self) -> dict[str, float]:
        """Mean losses by the names of `LOSS_BINS`, without the bins that no sample fell into."""
        return {
            name: total / count
            for name, total, count in zip(LOSS_BINS, self._sums, self._counts, strict=True) if count
        }  # fmt: skip

    def forget(self) -> None:
        """Starts new means."""
        self._sums, self._counts = [0.0] * len(LOSS_BINS), [0.0] * len(LOSS_BINS)

    def state_dict(self) -> dict:
        """What a checkpoint holds."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: dict) -> None:
        """Takes over what a checkpoint holds."""
        self._sums, self._counts = list(state["sums"]), list(state["counts"])
