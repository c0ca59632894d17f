"""Maps without labels, where the sharp photo is known: what it looks like when it is blurred by the map.

The network gives each cell probabilities p_k of the radii r_k. The sharp photo x, blurred by their mixture,

    y'(p) = sum_k p_k(p) (h_k * x)(p),

is compared with the capture y. The bank h_k is fixed, so that y' is linear in the probabilities and its misfit convex:
for a capture y = h_j * x the certain radius r_j leaves none. No radius has to be known, but a pair of photos; and since
several mixtures of PSFs can resemble one PSF, means of the distributions can be trusted further than their widths.

References:
    Zhai et al., Learnable Blur Kernel for Single-Image Defocus Deblurring in the Wild, AAAI 2023, arXiv 2211.14017:
    a map learnt by re-blurring, there one radius per pixel between two kernels, from dual-pixel views.
"""

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F

from optics.defocus_map.network import CELL
from optics.psf import psf_bank

__all__ = ["ReblurMisfit"]

_SCALE = 0.01  # of full range: a misfit of so much is one nat
_ROUNDING = 1e-3  # of full range; below it the misfit is quadratic


class ReblurMisfit(nn.Module):
    """Mean absolute misfit between captures and re-blurred photos, in hundredths of full range.

    Up to a constant, that is the negative log-likelihood of a value of y under Laplace noise of scale 0.01: pairs
    differ by more than noise, and what the model leaves unexplained has long tails.

    Args:
        radii: K candidate radii in pixels, increasing.
        softness: PSF shape, see `optics.psf`.
    """

    def __init__(self, radii: tuple[float, ...], softness: float = 0.0) -> None:
        super().__init__()
        # Not part of checkpoints.
        self.register_buffer("bank", psf_bank(torch.tensor(radii, dtype=torch.float64), softness), persistent=False)

    @property
    def margin(self) -> int:
        """Pixels at the border of a photo about whose blur it says too little."""
        return self.bank.shape[-1] // 2

    def forward(self, probability: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """The misfit of each capture.

        Args:
            probability: Distributions over the radii of cells of 4 x 4 px, shape (B, K, H / 4, W / 4).
            y: Captures in [0, 1], shape (B, C, H, W), larger than their margins.
            x: The sharp photos, same shape.

        Returns:
            Means over the pixels within the margins, shape (B,).

        Raises:
            ValueError: If the captures are no larger than their margins.
        """
        if min(y.shape[-2:]) <= 2 * self.margin:
            raise ValueError(f"captures must be larger than 2 x {self.margin} pixels, got {tuple(y.shape)}")
        inner = slice(self.margin, -self.margin or None)
        difference = y[..., inner, inner] - self.reblurred(probability, x)
        misfit = (difference.square() + _ROUNDING**2).sqrt() - _ROUNDING
        return misfit.mean((1, 2, 3)) / _SCALE

    def reblurred(self, probability: Tensor, x: Tensor) -> Tensor:
        """Blurs photos, without the margins: (B, K, H / 4, W / 4), (B, C, H, W) -> (B, C, H - 2 m, W - 2 m)."""
        height, width = x.shape[-2:]
        rows, columns = (slice(self.margin, side - self.margin) for side in (height, width))
        share = F.interpolate(probability, scale_factor=CELL, mode="bilinear", align_corners=False)
        size = tuple(next_fast_len(side, real=True) for side in (height, width))
        spectrum = torch.fft.rfft2(x, s=size)
        result = 0
        for index, psf in enumerate(self.bank.to(x)):
            # What wraps round the border stays within the margins.
            kernel = F.pad(psf, (0, size[1] - psf.shape[1], 0, size[0] - psf.shape[0]))
            transfer = torch.fft.rfft2(kernel.roll((-self.margin, -self.margin), (0, 1)))
            blurred = torch.fft.irfft2(spectrum * transfer, s=size)[..., rows, columns]
            result = result + share[:, index : index + 1, rows, columns] * blurred
        return result
