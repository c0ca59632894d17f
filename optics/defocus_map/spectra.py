"""Local spectra of a photo, and how likely they are under each blur radius.

In a window of a defocused photo, the power spectrum of the gradients is expected to be

    V(f) = a |H_r(f)|^2 S(f) + s^2 N(f)

with the power-law spectrum S of sharp photos at an unknown amplitude a, the lens' transfer function H_r,
white noise of standard deviation s, and N what differencing makes of white noise. Periodogram values are
exponentially distributed about V, independently but for the window. Marginalising over a (all orders of
magnitude alike) leaves the likelihood of r alone: the sharp image never has to be known. The zeros of
H_r are what tells one radius from another.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.measured_psf import MeasuredPSF
from optics.psf import defocus_psf

__all__ = ["gradient_spectra", "local_log_evidence", "local_log_likelihood", "luma"]

_DECAY = 2.2  # sharp photos: power falls as frequency^-2.2
_INTRINSIC_STD = 0.4  # pixels; lens, sensor and demosaicking soften photos that pass for sharp
_LOWEST_FREQUENCY = 0.045  # cycles per pixel; below it the content of one window is no stationary process
_AMPLITUDES = (1e-10, 1.0, 22)
_CORRELATION = 2.25  # neighbouring frequencies of a Hann window count this many times
_CHUNK = 4096  # windows at once: some 100 MB
_FINE = 4  # transfer functions are sampled this much finer than a window's spectrum


def luma(y: Tensor) -> Tensor:
    """Brightness: (1, C, H, W) in [0, 1] -> (1, 1, H, W); Rec. 601 weights for 3 channels, else their mean."""
    if y.shape[1] == 3:
        return (y * y.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return y.mean(1, keepdim=True)


def local_log_likelihood(
    brightness: Tensor, radii: tuple[float, ...], noise_std: float, softness: float, window: int, stride: int,
    psf: MeasuredPSF | None = None,
) -> Tensor:
    """Log marginal likelihood of every radius in overlapping windows, up to a constant per window, at most 0.

    Arguments and shape are those of `local_log_evidence`.
    """
    volume = local_log_evidence(brightness, radii, noise_std, softness, window, stride, psf)
    return volume - volume.amax(1, keepdim=True)


def local_log_evidence(
    brightness: Tensor, radii: tuple[float, ...], noise_std: float, softness: float, window: int, stride: int,
    psf: MeasuredPSF | None = None,
) -> Tensor:
    """Log marginal likelihood of every radius in overlapping windows, comparable between radii and PSFs.

    Args:
        brightness: Grey photo in [0, 1], shape (1, 1, H, W), of any size.
        radii: K candidate blur radii in pixels.
        noise_std: Noise of the grey photo, positive; understating it invents blur, overstating costs little.
        softness: PSF shape, see `optics.psf`.
        window: Side of the windows in pixels.
        stride: Distance of the windows' centres in pixels; divides the window's side.
        psf: Measured PSFs in place of the round ones; those in the middle of the field.

    Returns:
        Log-likelihood up to a constant per window, the same for every radius and PSF, shape
        (1, K, ceil(H / stride), ceil(W / stride)). Cell (i, j) is centred on the square of stride pixels that begins
        at (i, j) stride.
    """
    rows, columns = (math.ceil(length / stride) for length in brightness.shape[-2:])
    photo = _surround(brightness, (window - stride) // 2, rows * stride, columns * stride)[0, 0]
    signal, noise, kept = (term.to(photo) for term in _expected_power(radii, softness, window, psf))
    power = signal + noise_std**2 * noise  # (K A, frequencies)
    precision, log_power = power.reciprocal().T.contiguous(), power.log().sum(-1)
    kept = kept.bool()
    volume = photo.new_empty(len(radii), rows, columns)
    step = max(_CHUNK // columns, 1)
    for row in range(0, rows, step):
        count = min(step, rows - row)
        strip = photo[row * stride : (row + count - 1) * stride + window + 1]
        spectra = gradient_spectra(strip, window, stride)[..., kept]  # (count, columns, frequencies)
        score = -(spectra @ precision + log_power) / _CORRELATION
        score = torch.logsumexp(score.unflatten(-1, (len(radii), -1)), -1)
        volume[:, row : row + count] = score.permute(2, 0, 1)
    return volume[None]


def _surround(photo: Tensor, before: int, height: int, width: int) -> Tensor:
    """Reflects a photo about its borders, as often as needed, so that windows over height x width pixels fit."""
    index = []
    for length, wanted in zip(photo.shape[-2:], (height, width), strict=True):
        position = torch.arange(-before, wanted + before + 1, device=photo.device)
        period = max(2 * length - 2, 1)
        position = position % period
        index.append(torch.minimum(position, (period - position) % period) if length > 1 else position * 0)
    return photo[..., index[0][:, None], index[1]]


def gradient_spectra(strip: Tensor, window: int, stride: int) -> Tensor:
    """Power spectra of the two gradients, summed: (h, w) -> (rows, columns, window, window // 2 + 1)."""
    taper = torch.hann_window(window, dtype=strip.dtype, device=strip.device)
    taper = torch.outer(taper, taper)
    taper = taper / taper.square().sum().sqrt()
    power = 0
    for gradient in (strip[:-1, 1:] - strip[:-1, :-1], strip[1:, :-1] - strip[:-1, :-1]):
        patches = gradient.unfold(0, window, stride).unfold(1, window, stride)
        spectrum = torch.fft.rfft2(patches * taper)
        power = power + spectrum.real.square() + spectrum.imag.square()
    return power


# A photo of unknown lens and file asks for some 18 of them, of a few megabytes each.
@lru_cache(maxsize=32)
def _expected_power(
    radii: tuple[float, ...], softness: float, window: int, psf: MeasuredPSF | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected spectra: of the signal (K A, frequencies), of unit noise (frequencies,), and which are used (h, w)."""
    fine = _FINE * window
    f = torch.fft.fftfreq(fine, dtype=torch.float64)
    squared = f[:, None].square() + f.square()
    differencing = 4 - 2 * torch.cos(2 * math.pi * f[:, None]) - 2 * torch.cos(2 * math.pi * f)
    taper = torch.hann_window(window, dtype=torch.float64)
    leakage = torch.fft.fft2(torch.outer(taper, taper), s=(fine, fine)).abs().square()
    leakage = torch.fft.fft2(leakage / leakage.sum())

    def seen(power: Tensor) -> Tensor:
        spread = torch.fft.ifft2(torch.fft.fft2(power) * leakage).real
        return spread[::_FINE, ::_FINE][:, : window // 2 + 1]

    rows = torch.fft.fftfreq(window, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(window, dtype=torch.float64)
    # A real signal's spectrum repeats itself in the first and last column.
    once = ((columns > 0) & (columns < 0.5)) | (rows >= 0)
    kept = once & ((rows.square() + columns.square()).sqrt() >= _LOWEST_FREQUENCY)
    sharp = squared.clamp(min=1e-4) ** (-_DECAY / 2) * torch.exp(-squared * (2 * math.pi * _INTRINSIC_STD) ** 2)
    psfs = [defocus_psf(radius, softness) if psf is None else psf.kernel(radius) for radius in radii]
    blurred = [seen(_transfer_power(kernel, fine) * sharp * differencing) for kernel in psfs]
    low, high, count = _AMPLITUDES
    amplitudes = torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64)
    signal = amplitudes[:, None] * torch.stack(blurred)[:, None, kept]
    return signal.flatten(0, 1).float(), seen(differencing)[kept].float(), kept


def _transfer_power(psf: Tensor, side: int) -> Tensor:
    """Squared transfer function of a square PSF of any size at the side x side frequencies i / side, exactly."""
    # exp(-2 pi i k x / side) has the period `side` in x: a PSF that is wider, as measured ones may be, is folded.
    wider = -psf.shape[-1] % side
    psf = F.pad(psf, (0, wider, 0, wider)).unflatten(0, (-1, side)).unflatten(-1, (-1, side)).sum((0, 2))
    return torch.fft.fft2(psf).abs().square()
