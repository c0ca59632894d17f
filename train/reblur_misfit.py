"""Maps without labels, where the sharp photo is known: what it looks like when it is blurred by the map.

The network gives each cell probabilities p_k of the radii r_k. The sharp photo x, blurred by their mixture,

    y'(p) = sum_k p_k(p) (h_k * x)(p),

is compared with the capture y. Given the bank h_k, y' is linear in the probabilities and its misfit convex: for a
capture y = h_j * x the certain radius r_j leaves none. No radius has to be known, but a pair of photos; and since
several mixtures of PSFs can resemble one PSF, means of the distributions can be trusted further than their widths.

The kernels may be learnt along with the network, for a lens that is neither a disk nor known:

    h_k = (1 - a_k) disk_k + a_k gaussian_k,    a_k in (0, 1)

Both have the standard deviation r_k / 2, so that a radius keeps its meaning whatever shape is found; kernels that were
free could take any radius for any other.

References:
    Zhai et al., Learnable Blur Kernel for Single-Image Defocus Deblurring in the Wild, AAAI 2023, arXiv 2211.14017:
    a map learnt by re-blurring, there one radius per pixel, from dual-pixel views, and kernels of whole radii that are
    free in each of their values, learnt in turns of some epochs with the network.
"""

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F

from optics.defocus_map.network import CELL
from optics.psf import psf_bank, psf_reach

__all__ = ["ReblurMisfit"]

_SCALE = 0.01  # of full range: a misfit of so much is one nat
_ROUNDING = 1e-3  # of full range; below it the misfit is quadratic
_NEARLY_A_DISK = -3.0  # logit of a share of 0.05, from which the gradient still leads away


class ReblurMisfit(nn.Module):
    """Mean absolute misfit between captures and re-blurred photos, in hundredths of full range.

    Up to a constant, that is the negative log-likelihood of a value of y under Laplace noise of scale 0.01: pairs
    differ by more than noise, and what the model leaves unexplained has long tails.

    Args:
        radii: K candidate radii in pixels, increasing.
        softness: PSF shape, see `optics.psf`, where it is not learnt.
        learned: Whether the shape of each kernel is learnt, beginning near the disk.

    Attributes:
        shape: Logits of the shares a_k, shape (K,), where they are learnt.
    """

    def __init__(self, radii: tuple[float, ...], softness: float = 0.0, learned: bool = False) -> None:
        super().__init__()
        bank = psf_bank(torch.tensor(radii, dtype=torch.float64), 1.0 if learned else softness)
        # Not part of checkpoints.
        self.register_buffer("bank", bank, persistent=False)
        self.shape = None
        if learned:
            disks = psf_bank(torch.tensor(radii, dtype=torch.float64))
            disks = F.pad(disks, 4 * [psf_reach(radii[-1], 1.0) - psf_reach(radii[-1])])
            self.register_buffer("disks", disks, persistent=False)
            self.shape = nn.Parameter(torch.full((len(radii),), _NEARLY_A_DISK))

    @property
    def margin(self) -> int:
        """Pixels at the border of a photo about whose blur it says too little."""
        return self.bank.shape[-1] // 2

    @property
    def kernels(self) -> Tensor:
        """The PSFs, shape (K, 2 margin + 1, 2 margin + 1); they sum to 1."""
        if self.shape is None:
            return self.bank
        return torch.lerp(self.disks, self.bank, self.shape.sigmoid().to(self.bank)[:, None, None])

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
        for index, psf in enumerate(self.kernels.to(x)):
            # What wraps round the border stays within the margins.
            kernel = F.pad(psf, (0, size[1] - psf.shape[1], 0, size[0] - psf.shape[0]))
            transfer = torch.fft.rfft2(kernel.roll((-self.margin, -self.margin), (0, 1)))
            blurred = torch.fft.irfft2(spectrum * transfer, s=size)[..., rows, columns]
            result = result + share[:, index : index + 1, rows, columns] * blurred
        return result
