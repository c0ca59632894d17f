"""The optimizer of a training: Muon for convolutions, AdamW for all else.

Muon follows the momentum of a matrix's gradient with all its singular values brought near 1, so that directions which
the loss says little about are learnt as fast as those it shouts about:

    M <- mu M + G,   theta <- theta - 0.2 sqrt(max(m, n)) lr U V^T,   U S V^T = G + mu M

(Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon/; U V^T by five Newton-Schulz iterations; the factor, by which steps are as
large as AdamW's and both take one learning rate, is that of Liu et al., "Muon is Scalable for LLM Training",
https://arxiv.org/abs/2502.16982). The weights of a convolution are the matrix (first dimension, all else).

torch.optim.Muon takes matrices alone; here they stand in for the weights and share their memory.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from train.config import OptimConfig

__all__ = ["MuonAdamW", "optimizer_for"]

_LEAST_SIDE = 16
_MOMENTUM = 0.95


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
        self._weights = [one for one in parameters if _is_wide(one)]
        others = [one for one in parameters if not _is_wide(one)]
        self._matrices = [_matrix(one.detach()).requires_grad_() for one in self._weights]
        self._parts: list[torch.optim.Optimizer] = []
        if self._matrices:
            options = {"momentum": _MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
            self._parts.append(torch.optim.Muon(self._matrices, lr=lr, weight_decay=weight_decay, **options))
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
        self._renew_matrices()
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad, like=weight)
        for part in self._parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight in self._weights:
            if set_to_none:
                weight.grad = None
            elif weight.grad is not None:
                weight.grad.zero_()

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
        self._renew_matrices()
        for part, state in zip(self._parts, parts, strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _renew_matrices(self) -> None:
        # A network that was moved since has its weights elsewhere.
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.data = _matrix(weight.data)

    def _share_groups(self) -> None:
        # The schedule of the learning rate writes into these.
        self.param_groups = [group for part in self._parts for group in part.param_groups]


def _is_wide(parameter: Tensor) -> bool:
    return parameter.dim() == 4 and min(len(parameter), parameter[0].numel()) >= _LEAST_SIDE


def _matrix(values: Tensor, like: Tensor | None = None) -> Tensor:
    """Values of shape (O, I, h, w) as a matrix (O, I h w): a view of weights, whatever their memory format.

    The order of the columns is that of the memory of `like`, of the values themselves if None.
    """
    channels_last = (values if like is None else like).is_contiguous(memory_format=torch.channels_last)
    ordered = values.permute(0, 2, 3, 1) if channels_last else values
    return ordered.view(len(values), -1) if like is None else ordered.reshape(len(values), -1)
