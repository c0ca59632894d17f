"""PSNR, mean absolute error and structural similarity of pictures in [0, 1], per picture.

SSIM compares local means, variances and covariances in a window around every pixel,

    (2 m_x m_r + C1) (2 c_xr + C2) / ((m_x^2 + m_r^2 + C1) (v_x + v_r + C2)),    C1 = 0.01^2, C2 = 0.03^2,

and is averaged over the pixels whose window lies inside the picture, and over channels. Two windows are in
use, and their figures must not be mixed:

- `gaussian`: 11 pixels, standard deviation 1.5, population covariances, as in the paper. Equals scikit-image's
  `structural_similarity` with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`.
- `uniform`: 7 pixels of equal weight, sample covariances (divided by 48 instead of 49): scikit-image's default,
  and thus what the published figures of IFAN, DRBNet and Restormer are.

torchmetrics' `StructuralSimilarityIndexMeasure(data_range=1.0)` has the same Gaussian window and covariances, but
reflects the picture at its edges and averages over all pixels: it gives the `gaussian` figure of both pictures
padded by 5 reflected pixels, and its full image without a border of 5 pixels averages to ours. Its uniform window
has population covariances and is neither of the two.

References:
    Wang et al., Image quality assessment: from error visibility to structural similarity, TIP 2004.
"""

import numpy as np
from scipy import ndimage
from torch import Tensor

__all__ = ["mae", "psnr", "require_pair", "ssim"]

_C1, _C2 = 0.01**2, 0.03**2


def psnr(x: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1], shape (1, C, H, W), all pixels and channels together.

    Infinite if they are equal.

    Raises:
        ValueError: If the pictures differ in shape.
    """
    require_pair(x, reference)
    error = (x.double() - reference.double()).square().mean()
    return float(-10 * error.log10())


def mae(x: Tensor, reference: Tensor) -> float:
    """Mean absolute error of pictures in [0, 1], shape (1, C, H, W).

    Raises:
        ValueError: If the pictures differ in shape.
    """
    require_pair(x, reference)
    return float((x.double() - reference.double()).abs().mean())


def ssim(x: Tensor, reference: Tensor, window: str = "gaussian") -> float:
    """Structural similarity of pictures in [0, 1], shape (1, C, H, W).

    Args:
        x: Picture.
        reference: What it should be.
        window: `gaussian` or `uniform`, see the head of this module.

    Raises:
        ValueError: If the window is unknown, or the pictures differ in shape or are smaller than the window.
    """
    if window not in ("gaussian", "uniform"):
        raise ValueError(f"window must be gaussian or uniform, got {window!r}")
    require_pair(x, reference)
    weights = _gaussian(11, 1.5) if window == "gaussian" else np.full(7, 1 / 7)
    if min(x.shape[-2:]) < len(weights):
        raise ValueError(f"SSIM needs pictures of at least {len(weights)} pixels a side, got {tuple(x.shape)}")
    x, r = (picture[0].double().cpu().numpy() for picture in (x, reference))
    sample = 1.0 if window == "gaussian" else 49 / 48
    mean_x, mean_r = _window_mean(x, weights), _window_mean(r, weights)
    variance_x = sample * (_window_mean(x * x, weights) - mean_x**2)
    variance_r = sample * (_window_mean(r * r, weights) - mean_r**2)
    covariance = sample * (_window_mean(x * r, weights) - mean_x * mean_r)
    luminance = (2 * mean_x * mean_r + _C1) / (mean_x**2 + mean_r**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_r + _C2)
    return float((luminance * structure).mean())


def require_pair(x: Tensor, reference: Tensor) -> None:
    """Raises ValueError unless both are of one shape (1, C, H, W)."""
    if x.shape != reference.shape or x.dim() != 4 or len(x) != 1:
        raise ValueError(
            f"expected two pictures of one shape (1, C, H, W), got {tuple(x.shape)} and {tuple(reference.shape)}"
        )


def _gaussian(size: int, std: float) -> np.ndarray:
    weights = np.exp(-np.square(np.arange(size) - size // 2) / (2 * std**2))
    return weights / weights.sum()


def _window_mean(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean around each pixel whose window of k pixels lies inside: (C, H, W) -> (C, H - k + 1, W - k + 1)."""
    edge = len(weights) // 2
    # Torch convolves float64 several times slower.
    columns = ndimage.correlate1d(x, weights, axis=1)[:, edge : x.shape[1] - edge]
    return ndimage.correlate1d(columns, weights, axis=2)[:, :, edge : x.shape[2] - edge]
