"""The mean of a regression and a sampler's result, and the details that averaging costs.

Two estimates u and v of one photo agree on its edges and differ in its finest details, so that their mean
z = (1 - a) u + a v has less of these than either. With h_t = t - mean of 5 x 5 px and S(t) the root mean square of h_t
over colours and 17 x 17 px, the result is

    z + (g - 1) h_z,    g = (((1 - a) S(u) + a S(v)) / S(z))^p,    1 <= g <= 1.5.

p = 0 keeps the mean, which has the least squared error; p = 1 gives back what averaging took, and more makes up for
what each of them, a mean of photos as well, had lost before. What looks more like a photo has more error: Blau and
Michaeli, "The Perception-Distortion Tradeoff", CVPR 2018 (https://arxiv.org/abs/1711.06077).
"""

import torch
from torch import Tensor

from diffusion.latent_prior.details import DETAIL_REACH, details_and_strength
from diffusion.windows import in_windows

__all__ = ["mixture"]

_FAINTEST = 1e-7  # variance of details in [0, 1] units beside which there are none
_MOST = 1.5  # g
_SIDE = 512  # pixels of a window


def mixture(regression: Tensor, sampled: Tensor, share: Tensor, detail: float) -> Tensor:
    """Mixes two estimates of a photo, with memory for windows of it.

    Args:
        regression: u in [0, 1], shape (1, C, H, W).
        sampled: v, same shape.
        share: a in [0, 1], shape (1, 1, H, W); where all nearby are 0 the result is u.
        detail: p, not negative.

    Returns:
        Values in [0, 1], shape (1, C, H, W).
    """
    if detail == 0:
        return torch.lerp(regression, sampled, share)

    def mixed(u: Tensor, v: Tensor, a: Tensor) -> Tensor:
        z = torch.lerp(u, v, a)
        details, strength = details_and_strength(z, _FAINTEST)
        parts = torch.lerp(*(details_and_strength(part, _FAINTEST)[1] for part in (u, v)), a)
        gain = (parts / strength).pow(detail).clamp(1, _MOST)
        return z.addcmul(gain - 1, details).clamp_(0, 1)

    return in_windows(mixed, (regression, 1), (sampled, 1), (share, 1), side=_SIDE, halo=DETAIL_REACH)
