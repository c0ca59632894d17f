"""What a capture says of the lens, given how much it is blurred where: the light that was mixed, the PSF's shape.

What tells lenses apart is faint and lies at fine details: a file that has lost its noise, as most JPEGs have, has lost
these too. Where noise is seen, what is found is believed; where it is clear, the model is doubted less.

Light. Blur of light and blur of code values differ at edges of high contrast. Both models are fitted to a few windows
by maximum a posteriori under one prior, the sparse gradients of photos; the lower energy decides. Lenses mix
light, so where no noise is seen code values must be clearly better.

Shape and colours. The marginal likelihood of local spectra (`optics.defocus_map.spectra`) near the radii of the map is
added up for each softness, and then for each factor of a colour's radius. Where no noise is seen a typical lens is
assumed instead. A lens that is softer than assumed does more harm than one that is harder.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.conjugate_gradient import conjugate_gradient
from optics.defocus_map.spectra import local_log_evidence, luma
from optics.lens import Lens, check_known_of_lens
from optics.measured_psf import MeasuredPSF
from optics.noise import MIN_NOISE_STD

__all__ = ["TYPICAL", "UNKNOWN", "UnknownLens", "choose_softness"]

_TYPICAL_SOFTNESS = 0.3
_SOFTNESS = (0.0, 0.1, 0.3, 0.6)
_COLOUR_SCALES = (0.94, 0.97, 1.0, 1.03, 1.06)
_BLURRED = 1.3  # pixels; less blur says nothing of the lens
_LEAST_SHARE = 0.02  # of the pixels, that must be blurred
_NOISE_SEEN = 1.25 * MIN_NOISE_STD
_WINDOW = 32  # pixels
_STRIDE = _WINDOW // 2  # windows overlap by half
_SPACING = 1.03  # ratio of the radii that are compared
_BOUND = 4.0  # nats, that one window may say for or against a shape
_CODE_VALUES_BETTER = 0.96  # ratio of the energies below which blur is taken to have mixed code values
_BETTER_IN_NOISE = 0.998  # the same where noise is seen
_NOISE_CLEAR = 1.75 * MIN_NOISE_STD  # from here on what was found lessens the doubt,
_LESS_DOUBT = 0.45  # to this share,
_HARD = 0.3  # unless a PSF softer than this was found: few lenses are, and other faults look like it
_CROP = 160  # pixels
_CROPS = 3
_NO_CONTRAST = 1e-9  # mean square, in [0, 1] units; a flat picture has it by rounding
_SPARSITY = 0.05  # mean gradient of photos in [-1, 1] units
_LEAST_GRADIENT = 0.008
_LEAST_NOISE = 0.008  # of full range, as for the defocus map: JPEG rounds textures coarsely


@dataclass(frozen=True)
class UnknownLens:
    """A lens of which something is to be found in the capture.

    Attributes:
        softness: PSF shape where it is known; the colours then have one radius.
        psf: Measured PSFs where there are.
        light: `srgb` or `linear` where it is known.

    Raises:
        ValueError: As for `Lens`.
    """

    softness: float | None = None
    psf: MeasuredPSF | None = None
    light: str | None = None

    def __post_init__(self) -> None:
        known = (0.0 if self.softness is None else self.softness, self.psf)
        check_known_of_lens(*known, "linear" if self.light is None else self.light)

    @property
    def assumed(self) -> Lens:
        """What is assumed before the capture is looked at: a typical lens, and what is known."""
        softness = _TYPICAL_SOFTNESS if self.softness is None else self.softness
        return Lens(softness=softness, psf=self.psf, light=self.light or "linear")

    @torch.no_grad()
    def found(self, y: Tensor, radius_map: Tensor, noise_std: float) -> Lens:
        """The lens of a capture.

        Args:
            y: Capture in [0, 1], shape (1, 3, H, W).
            radius_map: Blur radius in pixels, shape (1, 1, H, W).
            noise_std: Noise of the capture, of full range.
        """
        lens, crops = self.assumed, _telling_crops(y, radius_map)
        windows = _Windows(y, radius_map, noise_std, crops) if crops and noise_std >= _NOISE_SEEN else None
        seen = windows is not None and windows.tell
        if seen and self.softness is None and self.psf is None:
            softness = windows.softness()
            lens = replace(lens, softness=softness, channel_scales=windows.colour_scales(softness))
        if seen and noise_std >= _NOISE_CLEAR and lens.softness <= _HARD:
            lens = replace(lens, doubt=_LESS_DOUBT)
        return lens if self.light is not None else replace(lens, light=_light(y, radius_map, noise_std, lens, crops))


UNKNOWN = UnknownLens()
TYPICAL = UNKNOWN.assumed


@torch.no_grad()
def choose_softness(y: Tensor, radius_map: Tensor, noise_std: float) -> float:
    """Softness of the PSF, that of a typical lens where nothing tells; arguments as of `UnknownLens.found`."""
    crops = _telling_crops(y, radius_map)
    if noise_std < _NOISE_SEEN or not crops:
        return _TYPICAL_SOFTNESS
    windows = _Windows(y, radius_map, noise_std, crops)
    return windows.softness() if windows.tell else _TYPICAL_SOFTNESS


class _Windows:
    """The windows of a capture in which blur could tell lenses apart, and how likely lenses make their spectra.

    Args:
        y: Capture in [0, 1], shape (1, 3, H, W).
        radius_map: Blur radius in pixels, shape (1, 1, H, W).
        noise_std: Noise of the capture, of full range.
        crops: The parts that are looked at, at least one, as of `_telling_crops`.
    """

    def __init__(self, y: Tensor, radius_map: Tensor, noise_std: float, crops: list[tuple[slice, ...]]) -> None:
        self.y, self.noise_std, self.crops = y, noise_std, crops
        largest = float(radius_map.max())
        self.radii = tuple(_SPACING**k for k in range(math.ceil(math.log(largest + 1, _SPACING)) + 1))
        parts = [F.avg_pool2d(radius_map[crop], _STRIDE, ceil_mode=True, count_include_pad=False) for crop in crops]
        radius = torch.cat([part.flatten() for part in parts])
        self.blurred = radius >= _BLURRED
        # The radius of a window is that of the map but for the map's usual error.
        error = (0.15 * radius).clamp(min=0.4)
        self.log_prior = torch.log_softmax(-((y.new_tensor(self.radii)[:, None] - radius) / error).square() / 2, 0)

    @property
    def tell(self) -> bool:
        """Whether any window is blurred: narrow strips of blur may fill none."""
        return bool(self.blurred.any())

    def softness(self) -> float:
        """The likeliest of `_SOFTNESS`."""
        # Independent noise of three channels averages out to two thirds in their weighted sum.
        brightness, noise_std = luma(self.y), 0.67 * self.noise_std
        return _SOFTNESS[self._likeliest([self._evidence(brightness, noise_std, softness) for softness in _SOFTNESS])]

    def colour_scales(self, softness: float) -> tuple[float, float, float] | None:
        """The likeliest factors of the colours' radii, of `_COLOUR_SCALES` for red and blue; None for 1 in all."""
        red, green, blue = self.y.split(1, 1)
        # Overstated noise leaves less to the shape, which the colours share, and more to the radius.
        noise_std = 1.3 * self.noise_std
        reference = self._evidence(green, noise_std, softness)
        first, last = (
            _COLOUR_SCALES[
                self._likeliest([reference + self._evidence(colour, noise_std, softness, s) for s in _COLOUR_SCALES])
            ]
            for colour in (red, blue)
        )
        return None if first == last == 1.0 else (first, 1.0, last)

    def _evidence(self, brightness: Tensor, noise_std: float, softness: float, scale: float = 1.0) -> Tensor:
        """Log-likelihood of every radius in every window, shape (K, windows)."""
        scaled = tuple(scale * radius for radius in self.radii)
        volumes = [
            local_log_evidence(brightness[crop], scaled, noise_std, softness, _WINDOW, _STRIDE)[0].flatten(1)
            for crop in self.crops
        ]
        return torch.cat(volumes, 1)

    def _likeliest(self, volumes: list[Tensor]) -> int:
        windows = torch.stack([torch.logsumexp(self.log_prior + volume, 0)[self.blurred] for volume in volumes])
        # No window may say too much.
        return int((windows - windows.mean(0)).clamp(-_BOUND, _BOUND).sum(1).argmax())


def _light(y: Tensor, radius_map: Tensor, noise_std: float, lens: Lens, crops: list[tuple[slice, ...]]) -> str:
    """`linear` unless blur of code values, `srgb`, explains the capture clearly better; `lens` is all else of it."""
    energies = {"srgb": 0.0, "linear": 0.0}
    for crop in crops:
        here = lens if lens.psf is None else replace(lens, psf=_psf_of_part(lens.psf, crop, y.shape[-2:]))
        for light in energies:
            energies[light] += _fitted_energy(
                2 * y[crop] - 1, radius_map[crop], replace(here, light=light), 2 * max(noise_std, _LEAST_NOISE)
            )
    needed = _CODE_VALUES_BETTER if noise_std < _NOISE_SEEN else _BETTER_IN_NOISE
    return "srgb" if energies["srgb"] < needed * energies["linear"] else "linear"


def _psf_of_part(psf: MeasuredPSF, part: tuple[slice, ...], size: tuple[int, int]) -> MeasuredPSF:
    edges = [span.indices(length)[:2] for span, length in zip(part[1:], size, strict=True)]
    return psf.part(*((first / length, last / length) for (first, last), length in zip(edges, size, strict=True)))


def _telling_crops(y: Tensor, radius_map: Tensor) -> list[tuple[slice, ...]]:
    """The parts of a capture where most contrast is blurred, at most `_CROPS`, none if hardly anything is blurred."""
    if (radius_map >= _BLURRED).float().mean() < _LEAST_SHARE:
        return []
    brightness = luma(y)
    contrast = (brightness - F.avg_pool2d(brightness, 9, 1, 4, count_include_pad=False)).square()
    energy = F.avg_pool2d(contrast * (radius_map >= _BLURRED), 16, ceil_mode=True)[0, 0]
    side, crops = _CROP // 16, []
    sums = F.avg_pool2d(energy[None, None], [min(side, length) for length in energy.shape], 1)[0, 0]
    for _ in range(_CROPS):
        top, left = divmod(int(sums.argmax()), sums.shape[1])
        if sums[top, left] <= _NO_CONTRAST:
            break
        crops.append((..., slice(16 * top, 16 * top + _CROP), slice(16 * left, 16 * left + _CROP)))
        sums[max(top - side // 2, 0) : top + side // 2 + 1, max(left - side // 2, 0) : left + side // 2 + 1] = 0
    return crops


def _fitted_energy(y: Tensor, radius_map: Tensor, lens: Lens, noise_std: float) -> float:
    """The least of ||y - A x||^2 / (2 s^2) + sum |grad x| / g, by reweighted least squares; all in [-1, 1] units."""
    operator = lens.operator(radius_map)
    model, x = lens.model(operator), operator.extend(y)
    for _ in range(3):
        prediction, derivative = model.linearize(x)
        slopes = _gradients(x)
        weights = [1 / (_SPARSITY * slope.abs().clamp(min=_LEAST_GRADIENT)) for slope in slopes]

        def normal(d: Tensor, derivative=derivative, weights=weights) -> Tensor:  # noqa: ANN001
            prior = _divergence(*(w * slope for w, slope in zip(weights, _gradients(d), strict=True)))
            return derivative.adjoint(derivative(d)) / noise_std**2 + prior

        gradient = _divergence(*(w * slope for w, slope in zip(weights, slopes, strict=True)))
        right = derivative.adjoint(y - prediction) / noise_std**2 - gradient
        x = x + conjugate_gradient(normal, right, torch.zeros_like(x), iterations=12)
    misfit = (y - model.linearize(x)[0]).square().sum() / (2 * noise_std**2)
    roughness = sum(slope.abs().sum() for slope in _gradients(operator.crop(x))) / _SPARSITY
    energy = float(misfit + roughness)
    return energy if math.isfinite(energy) else math.inf


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def _divergence(along_rows: Tensor, along_columns: Tensor) -> Tensor:
    """The adjoint of `_gradients`."""
    pad = F.pad(along_rows, (1, 1)), F.pad(along_columns, (0, 0, 1, 1))
    return pad[0][..., :-1] - pad[0][..., 1:] + pad[1][..., :-1, :] - pad[1][..., 1:, :]
