"""How much of a restoration to believe, where the blur was estimated.

With a wrong model of the blur a restoration x^ is wrong in ways that it does not show: it explains its own
capture y whatever the model. What is known beforehand is how certain the map is and how strong the blur. The
result is y + a (x^ - y), a latent prior's regression in place of y where there is one, and the share a that has
the least expected error is modelled as

    a = sigmoid(w_0 + w_r log r + w_c c),    r the blur radius, c the confidence of the map.

The weights are found on simulated captures by lenses, cameras and files that the model does not suppose
(`train/trust.py`); the residual of the capture and its contrast were no better judges.

A mean of the regression and the sampler has less error than either. The regression needs no map, so that the sampler's
best share falls with the confidence of the map, faster than by the model above. With s the regression's share where the
map is certain,

    a = (1 - s) c^6.

How the two are mixed is in `samplers.mixture`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["share_beside_regression", "trust_features", "trusted_share"]

_SMALLEST = 0.3  # pixels; nothing is restored below
_DOUBT = 6  # exponent of the confidence


def trust_features(radius_map: Tensor, confidence: Tensor) -> Tensor:
    """What the share depends on: (1, log r, c), shape (1, 3, H, W)."""
    radius = radius_map.clamp(min=_SMALLEST).log()
    return torch.cat([torch.ones_like(radius), radius, confidence.to(radius)], dim=1)


def trusted_share(radius_map: Tensor, confidence: Tensor, weights: Sequence[float]) -> Tensor:
    """The share of a restoration's change that is kept.

    Args:
        radius_map: Estimated blur radius in pixels, shape (1, 1, H, W).
        confidence: Of the map, in [0, 1], same shape.
        weights: w_0, w_r and w_c.

    Returns:
        Values in (0, 1), shape (1, 1, H, W).
    """
    features = trust_features(radius_map, confidence)
    return torch.sigmoid((features * features.new_tensor(weights)[:, None, None]).sum(1, keepdim=True))


def share_beside_regression(confidence: Tensor, regression_share: float) -> Tensor:
    """The sampler's share in a mean of its result and the regression.

    Args:
        confidence: Of the map, in [0, 1], shape (1, 1, H, W).
        regression_share: s, in [0, 1].

    Returns:
        Values in [0, 1], same shape.
    """
    return (1 - regression_share) * confidence**_DOUBT
