"""The optimizer of a training: Muon for convolutions, AdamW for all else."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from train.config import OptimConfig
from train.muon import Muon

__all__ = ["MuonAdamW", "optimizer_for"]

_LEAST_SIDE = 16


def optimizer_for(parameters: Iterable[nn.Parameter], optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over all that learns."""
    adamw = {"lr": optim.lr, "betas": tuple(optim.betas), "weight_decay": optim.weight_decay}
    return MuonAdamW(parameters, **adamw) if optim.optimizer == "muon" else torch.optim.AdamW(parameters, **adamw)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for weights of convolutions that are wide as matrices, 16 or more either way, AdamW for the others.

    A narrow matrix, as where pictures leave a network, has too few directions to be made equal. A linear layer of an
    embedding sees one vector for each sample: its gradient has no more directions than the batch has samples, and what
    would be made equal to them is rounding.

    Args:
        parameters: All that learns.
        lr: Learning rate of both.
        betas: Of AdamW.
        weight_decay: Of both, decoupled.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        wide = [one for one in parameters if _is_wide(one)]
        others = [one for one in parameters if not _is_wide(one)]
        self._parts: list[torch.optim.Optimizer] = []
        if wide:
            self._parts.append(Muon(wide, lr=lr, weight_decay=weight_decay))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay))
        self._share_groups()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step of both; a parameter without gradient stays."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict:
        """What a checkpoint holds: the states of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over what a checkpoint holds.

        Raises:
            ValueError: If it is of another optimizer or of other parameters.
        """
        parts = state_dict.get("parts")
        if parts is None or len(parts) != len(self._parts):
            raise ValueError("expected the state of Muon and AdamW, got that of another optimizer")
        for part, state in zip(self._parts, parts, strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        # The schedule of the learning rate writes into these.
        self.param_groups = [group for part in self._parts for group in part.param_groups]


def _is_wide(parameter: Tensor) -> bool:
    return parameter.dim() == 4 and min(len(parameter), parameter[0].numel()) >= _LEAST_SIDE
