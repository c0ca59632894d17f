"""Motion blur: whether a photo is blurred along a line rather than by a lens out of focus.

Motion by L pixels along the direction u multiplies the spectrum of every part of a photo by

    sinc(L f.u),

which leaves a band of frequencies across the motion and has zeros beside it. What a photo shows has directions too, but
other ones in other parts; and it leaves a wedge where motion leaves a band. So two explanations of the spectra of
windows are compared, with the likelihood of `optics.defocus_map.spectra`:

    motion    one L and u for all windows, and content without a direction,
    defocus   in each window a radius of its own, from 0, and content with or without a direction of its own,

the latter by spectra S(f) exp(k cos 2 (angle(f) - a)) / I_0(k). Amplitudes are integrated out in either. The score is
the mean log-odds of a window for the best L and u. What a window can say is bounded, for its content may fit neither.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from optics.defocus_map.posterior import check_capture
from optics.defocus_map.spectra import gradient_spectra, luma
from optics.noise import estimate_noise_std
from optics.psf import defocus_psf

__all__ = ["MotionBlur", "MotionDetector"]

_WINDOW, _STRIDE, _FINE = 64, 32, 2
_WINDOWS = 600  # at most, spread over the photo
_BAND = (0.045, 0.36)  # cycles per pixel: neither the one object that a window shows, nor noise alone
_DECAY, _INTRINSIC_STD = 2.2, 0.4  # of sharp photos, as in optics.defocus_map.spectra
_AMPLITUDES = (1e-8, 0.1, 38)
_CORRELATION = 2.25  # neighbouring frequencies of a Hann window count this many times
_RADII = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)
_LENGTHS = (9.5, 13.0, 17.0)  # each stands for a quarter more and less
_ANGLES = tuple(math.pi * step / 16 for step in range(16))
_DIRECTIONS, _DIRECTEDNESS = 6, 1.5
_WIDER = 20
_LEAST_NOISE, _NOISE_MARGIN, _LUMA_NOISE = 0.008, 1.15, 0.67


@dataclass(frozen=True)
class MotionBlur:
    """What was found.

    Attributes:
        score: Mean log-odds of motion against defocus in a window; minus infinity if the photo shows too little.
        length: Of the best motion, in pixels.
        angle: Its direction from the columns' axis to the rows', in [0, pi).
        found: Whether the photo looks like motion.
    """

    score: float
    length: float
    angle: float
    found: bool


@dataclass(frozen=True)
class MotionDetector:
    """Compares motion with defocus.

    The threshold lets 2 % of 120 photos of the training sets pass for motion, in focus and behind disks of 1 to 8 px.

    Attributes:
        threshold: Score from which a photo counts as blurred by motion.
        bound: Of a window's log-odds.
        least_contrast: Windows count whose gradients have at least so many times the power of the noise's.
        least_windows: Fewer windows than so many that count say nothing.
    """

    threshold: float = -0.5
    bound: float = 3.0
    least_contrast: float = 6.0
    least_windows: int = 6

    @torch.no_grad()
    def __call__(self, y: Tensor, noise_std: float | None = None) -> MotionBlur:
        """Looks at a capture.

        Args:
            y: Capture in [0, 1], shape (1, C, H, W), of any size; below 65 x 65 px it says nothing.
            noise_std: Noise of a channel in [0, 1] units; measured by `estimate_noise_std` if not given.

        Raises:
            ValueError: If y has another shape or is not finite.
        """
        check_capture(y)
        y, nothing = y.float(), MotionBlur(-math.inf, 0.0, 0.0, False)
        if min(y.shape[-2:]) <= _WINDOW:
            return nothing
        noise_std = max(estimate_noise_std(y) if noise_std is None else noise_std, _LEAST_NOISE)
        noise_std *= _NOISE_MARGIN * (_LUMA_NOISE if y.shape[1] == 3 else 1.0)
        defocus, motion, noise, kept = (term.to(y.device) for term in _expected_power())
        stride = max(_STRIDE, math.ceil(math.sqrt(y.shape[-2] * y.shape[-1] / _WINDOWS)))
        spectra = gradient_spectra(luma(y)[0, 0], _WINDOW, stride)[..., kept].flatten(0, 1)  # (windows, frequencies)
        spectra = spectra[(spectra / (noise_std**2 * noise)).mean(-1) >= self.least_contrast]
        if len(spectra) < self.least_windows:
            return nothing
        # All radii and directions alike before a window is seen.
        as_defocus = _log_evidence(spectra, defocus, noise_std**2 * noise).logsumexp(-1) - math.log(len(defocus))
        odds = _log_evidence(spectra, motion, noise_std**2 * noise) - as_defocus[:, None]
        score = float(odds.clamp(-self.bound, self.bound).mean(0).max())
        # Which motion: there, where all windows have reached the bound, it would be a draw.
        bound = _WIDER * self.bound
        length, angle = _motions()[int(odds.clamp(-bound, bound).mean(0).argmax())]
        return MotionBlur(score, length, angle, score >= self.threshold)


def _motions() -> list[tuple[float, float]]:
    return [(length, angle) for angle in _ANGLES for length in _LENGTHS]


def _log_evidence(spectra: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Log-likelihood of windows without their amplitude: (n, F), (M, F), (F,) -> (n, M), up to a constant."""
    low, high, count = _AMPLITUDES
    amplitudes = torch.logspace(math.log10(low), math.log10(high), count, device=spectra.device)
    power = (amplitudes[:, None] * signal[:, None] + noise).flatten(0, 1)  # (M A, F)
    score = -(spectra @ power.reciprocal().T + power.log().sum(-1)) / _CORRELATION
    return score.unflatten(-1, (len(signal), count)).logsumexp(-1)


@lru_cache(maxsize=1)
def _expected_power() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Expected spectra of defocus (M, F), of motion (M, F) and of unit noise (F,), and which are used (h, w)."""
    side = _FINE * _WINDOW
    f = torch.fft.fftfreq(side, dtype=torch.float64)
    down, right = f[:, None], f[None]
    squared = down.square() + right.square()
    differencing = 4 - 2 * torch.cos(2 * math.pi * down) - 2 * torch.cos(2 * math.pi * right)
    taper = torch.hann_window(_WINDOW, dtype=torch.float64)
    leakage = torch.fft.fft2(torch.outer(taper, taper), s=(side, side)).abs().square()
    leakage = torch.fft.fft2(leakage / leakage.sum())
    rows = torch.fft.fftfreq(_WINDOW, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(_WINDOW, dtype=torch.float64)
    # A real signal's spectrum repeats itself in the first and last column.
    once = ((columns > 0) & (columns < 0.5)) | (rows >= 0)
    frequency = (rows.square() + columns.square()).sqrt()
    kept = once & (frequency >= _BAND[0]) & (frequency <= _BAND[1])

    def seen(power: Tensor) -> Tensor:
        spread = torch.fft.ifft2(torch.fft.fft2(power) * leakage).real
        return spread[::_FINE, ::_FINE][:, : _WINDOW // 2 + 1][kept]

    sharp = squared.clamp(min=1e-4) ** (-_DECAY / 2) * torch.exp(-squared * (2 * math.pi * _INTRINSIC_STD) ** 2)
    sharp = sharp * differencing
    angle = torch.atan2(down.expand(side, side), right.expand(side, side))
    strength = torch.tensor(_DIRECTEDNESS, dtype=torch.float64)
    contents = [torch.ones_like(squared)]
    for step in range(_DIRECTIONS):
        aside = 2 * (angle - math.pi * step / _DIRECTIONS)
        contents.append(torch.exp(strength * torch.cos(aside)) / torch.i0(strength))
    disks = [torch.fft.fft2(defocus_psf(radius), s=(side, side)).abs().square() for radius in _RADII]
    defocus = [seen(disk * content * sharp) for disk in disks for content in contents]
    motion = [
        seen(torch.sinc(length * (right * math.cos(angle) + down * math.sin(angle))).square() * sharp)
        for length, angle in _motions()
    ]
    return torch.stack(defocus).float(), torch.stack(motion).float(), seen(differencing).float(), kept
