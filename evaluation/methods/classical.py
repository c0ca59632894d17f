"""Classical deconvolution with one PSF for the whole picture: scikit-image's methods, channel by channel.

They know no blur that varies: the PSF is the disk of the map's mean radius. Pictures are extended by reflection
by several times the PSF's reach before, and cropped after: the transforms wrap around, and what rings at the
wrapped edges dies out there. Where the mean radius is below half a pixel there is nothing to undo.

What could be chosen was chosen by the mean gain in PSNR over 12 simulated captures, 4 photos of BSDS500's
training split (every 60th) under the three radius maps of `evaluation.simulated`, with the true map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.methods import Method, MethodUnavailable, Restored

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from evaluation.captures import Capture
    from evaluation.settings import BenchmarkConfig

__all__ = ["richardson_lucy", "unsupervised_wiener", "wiener"]

LEAST_RADIUS = 0.5
"""Mean radius in pixels below which a capture is returned as it is: its disk is no larger than a pixel."""

_REACHES = 8
"""Width of the extension as a multiple of the PSF's reach; 4 lost 0.4 dB with Wiener's filter, 2 lost 1.3 dB."""

RICHARDSON_LUCY_ITERATIONS = 6
WIENER_BALANCE = 2000.0

# (channel, PSF, noise in [0, 1] units, random numbers) -> restored channel; arrays of shape (H, W) and (h, w).
Deconvolution = Callable[["np.ndarray", "np.ndarray", float, "np.random.Generator"], "np.ndarray"]


@dataclass(frozen=True)
class _Stationary:
    """Restores with the PSF of the mean radius."""

    deconvolve: Deconvolution
    takes_map = True

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        import numpy as np
        import torch

        from evaluation.methods.blur import blur_of
        from optics.psf import defocus_psf

        blur = blur_of(capture.y, radius_map)
        uniform = torch.full_like(blur.radius_map, blur.mean_radius)
        if blur.mean_radius < LEAST_RADIUS:
            return Restored(capture.y, uniform, 0)
        psf = defocus_psf(blur.mean_radius).numpy()
        width = _REACHES * (len(psf) // 2)
        extended = np.pad(capture.y[0].double().cpu().numpy(), ((0, 0), (width, width), (width, width)), "symmetric")
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        channels = [self.deconvolve(channel, psf, blur.noise_std, random) for channel in extended]
        restored = torch.from_numpy(np.stack(channels)[:, width:-width, width:-width]).clamp(0, 1)
        return Restored(restored[None].to(capture.y), uniform, 0)


def richardson_lucy(config: BenchmarkConfig, device: torch.device) -> Method:
    """Richardson-Lucy deconvolution, stopped early: the number of iterations is all the regularisation it has.

    Mean gain for 3, 5, 6, 8, 12 and 20 iterations: 0.03, 0.17, 0.18, 0.15, 0.02 and -0.32 dB; on captures of one
    radius alone, which its model fits, it grows to the end: 0.6 dB at 3, 1.1 at 6, 1.9 at 20, 2.0 at 30.

    Raises:
        MethodUnavailable: If scikit-image is not installed.
    """
    restoration = _restoration()
    return _Stationary(
        lambda y, psf, noise_std, random: restoration.richardson_lucy(y, psf, num_iter=RICHARDSON_LUCY_ITERATIONS)
    )


def wiener(config: BenchmarkConfig, device: torch.device) -> Method:
    """Wiener's filter with the Laplacian of scikit-image as the inverse of the picture's spectrum.

    The balance is `WIENER_BALANCE` times the noise's variance: the filter's optimum for a fixed spectrum.
    Mean gain for 100, 500, 1000, 2000, 4000 and 8000: -1.28, -0.06, 0.12, 0.18, 0.12 and -0.01 dB; on captures of
    one radius alone, which its model fits, 100 gains most: 1.85 dB, against 0.89 at 2000.

    Raises:
        MethodUnavailable: If scikit-image is not installed.
    """
    restoration = _restoration()
    return _Stationary(
        lambda y, psf, noise_std, random: restoration.wiener(y, psf, WIENER_BALANCE * noise_std**2)
    )


def unsupervised_wiener(config: BenchmarkConfig, device: torch.device) -> Method:
    """Wiener's filter whose noise and balance are sampled along with the picture (Orieux et al., JOSA A 2010).

    Nothing is chosen; it trusts its PSF, and loses where the blur varies.

    Raises:
        MethodUnavailable: If scikit-image is not installed.
    """
    restoration = _restoration()
    return _Stationary(
        lambda y, psf, noise_std, random: restoration.unsupervised_wiener(y, psf, rng=random)[0]
    )


def _restoration():
    try:
        from skimage import restoration
    except ImportError:
        raise MethodUnavailable("needs the package scikit-image: pip install 'scorefocus[peers]'") from None
    return restoration
