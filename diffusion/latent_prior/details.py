"""What a network is shown of a picture: its colours, and its details enlarged.

Blur and what it took away show in the finest details, however faint; arithmetic in bfloat16, which
resolves 1 / 256 of a value, loses them beside the colours. With h = y - mean of 5 x 5 px and s its root mean
square over colours and 17 x 17 px, a network sees

    y,  h / 0.1,  h / s,  log s

computed in float32. That is our choice; networks of pairs are given the colours alone.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["DETAIL_CHANNELS", "DETAIL_REACH", "colours_and_details", "details_and_strength"]

DETAIL_CHANNELS = 10
"""Channels of one RGB picture."""

_DETAIL, _AROUND = 5, 17  # pixels; windows of h and of s
_SCALE = 0.1  # [-1, 1] units
_FAINTEST = 1e-5  # variance of h below which it is not made larger

DETAIL_REACH = (_DETAIL - 1) // 2 + (_AROUND - 1) // 2
"""Pixels beyond which nothing has a say in a pixel."""


def colours_and_details(y: Tensor) -> Tensor:
    """Pictures in [-1, 1] with their details, in values about one: (B, 3, H, W) -> (B, 10, H, W), float32."""
    y = y.float()
    details, strength = details_and_strength(y, _FAINTEST)
    return torch.cat([y, details / _SCALE, details / strength, strength.log() / 3 + 1], dim=1)


def details_and_strength(y: Tensor, faintest: float) -> tuple[Tensor, Tensor]:
    """Details h of pictures and their strength s: (B, C, H, W) -> (B, C, H, W) and (B, 1, H, W).

    `faintest` is a variance that is added to the square of s.
    """
    details = y - _window_mean(y, _DETAIL)
    return details, (_window_mean(details.square().mean(1, keepdim=True), _AROUND) + faintest).sqrt()


def _window_mean(x: Tensor, side: int) -> Tensor:
    """Means over windows of an odd side, cut off at the border."""
    for axis in (-1, -2):
        x = _sums(x, side, axis) / _sums(x.new_ones(x.shape[axis]), side, -1).view(-1, *[1] * (-1 - axis))
    return x


def _sums(x: Tensor, side: int, axis: int) -> Tensor:
    """Sums over `side` neighbours along an axis, with zeros beyond the border."""
    length = x.shape[axis]
    border = [0, 0] * (-1 - axis) + [side // 2, side // 2]
    run, count, start, total = F.pad(x, border), 1, 0, None
    # A window is a row of runs of 1, 2, 4 ... neighbours, each of two of the one before: 17 takes 5 sums.
    while True:
        if side & count:
            part = run.narrow(axis, start, length)
            total, start = part if total is None else total + part, start + count
        if start == side:
            return total
        left = run.shape[axis] - count
        run, count = run.narrow(axis, 0, left) + run.narrow(axis, count, left), 2 * count
