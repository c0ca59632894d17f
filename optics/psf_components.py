"""Few kernels from which all PSFs of a range of radii are made: principal components of a bank.

    h_k = mean + sum_j c_kj u_j

What is left out is measured by what it does to photos: the kernels' spectra are weighted by the spectrum of a photo,
whose power falls with the square of frequency. Fine detail of a PSF, which needs many components, meets little in
photos that it could change. Every u_j sums to 0, so that the PSFs sum to what they summed to.

Low-rank models of blur that varies: Denis et al., "Fast Approximations of Shift-Variant Blur", IJCV 2015
(https://doi.org/10.1007/s11263-015-0817-x).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PSFComponents", "photo_power", "psf_components"]

_SLOWEST = 1 / 64  # cycles per pixel; below it the power of photos is taken to be level


@dataclass(frozen=True)
class PSFComponents:
    """A bank of K PSFs as R components.

    Attributes:
        spectra: Of the mean and of u_1 to u_R, shape (1 + R, h, w // 2 + 1).
        coefficients: c_kj, shape (R, K).
    """

    spectra: Tensor
    coefficients: Tensor


def photo_power(height: int, width: int) -> Tensor:
    """Expected power spectrum of a photo of variance 1, as `torch.fft.rfft2` lays it out.

    Returns:
        Weights that sum to 1, those of frequencies that stand for two included; float64, (height, width // 2 + 1).
    """
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    power = 1 / (rows[:, None].square() + columns.square() + _SLOWEST**2)
    power[:, 1 : (width + 1) // 2] *= 2
    power[0, 0] = 0
    return power / power.sum()


def psf_components(transfer_functions: Tensor, width: int, tolerance: float) -> PSFComponents:
    """The fewest components that make a bank of PSFs to a tolerance.

    Args:
        transfer_functions: Spectra of K PSFs that each sum to 1, real or complex, shape (K, h, width // 2 + 1).
        width: Of the pictures.
        tolerance: Largest error of any of the PSFs: standard deviation of the change in the blurred photo, as a share
            of the sharp photo's. 0 takes all components.
    """
    count, height = transfer_functions.shape[:2]
    mean = transfer_functions.mean(0)
    rest = transfer_functions - mean
    weighted = (rest * photo_power(height, width).sqrt().to(mean.device)).flatten(1)
    weighted = weighted.to(torch.complex128 if weighted.is_complex() else torch.float64)
    # The eigenvectors of the PSFs' inner products are their coefficients, their components those times the PSFs.
    energies, vectors = torch.linalg.eigh((weighted @ weighted.mH).real)
    energies, vectors = energies.flip(0).clamp(min=0), vectors.flip(1)
    # Squared errors of the PSFs by the number of components that are kept: 0 to K - 1, for centred PSFs span no more.
    left = (vectors.square() * energies).flip(1).cumsum(1).flip(1).amax(0)
    kept = min(int((left > tolerance**2).sum()), count - 1)
    coefficients = vectors[:, :kept].T
    components = torch.einsum("rk,khw->rhw", coefficients.to(rest.dtype), rest)
    return PSFComponents(torch.cat([mean[None], components]), coefficients.float())
