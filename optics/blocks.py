"""The blocks that `optics.operator` works in: rectangles of a capture, each with the PSFs of its own radii."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from optics.measured_psf import MeasuredPSF
from optics.psf import defocus_psf, psf_reach
from optics.psf_components import PSFComponents, psf_components

__all__ = ["Block", "BlurShape"]


@dataclass(frozen=True)
class BlurShape:
    """What gives the PSFs: the round family, or measurements, which win."""

    softness: float
    measured: MeasuredPSF | None

    @property
    def varies(self) -> bool:
        """Whether the PSF of a radius is another in other places."""
        return self.measured is not None and self.measured.grid != (1, 1)

    def reach(self, radius: float) -> int:
        return psf_reach(radius, self.softness) if self.measured is None else self.measured.reach(radius)

    def psf(self, radius: float, position: tuple[float, float]) -> Tensor:
        return defocus_psf(radius, self.softness) if self.measured is None else self.measured.kernel(radius, position)

    def position(self, rows: slice, columns: slice, size: tuple[int, int]) -> tuple[float, float]:
        """Where the middle of a block is, as shares of the picture; of no matter where all of it has one PSF."""
        if not self.varies:
            return 0.5, 0.5
        return tuple((span.start + span.stop) / 2 / length for span, length in zip((rows, columns), size, strict=True))


class Block:
    """One rectangle of the capture with the radii that occur in it."""

    def __init__(
        self, radius_map: Tensor, rows: slice, columns: slice, radii: Tensor, shape: BlurShape, tolerance: float
    ) -> None:
        self.rows, self.columns = rows, columns
        radius = radius_map[rows, columns].contiguous()
        radii = radii.to(radius)
        # Where radii stand in the bank: 2.3 is between the nodes 2 and 3.
        place = radius
        if len(radii) > 1:
            upper = torch.searchsorted(radii, radius).clamp(1, len(radii) - 1)
            place = upper - 1 + (radius - radii[upper - 1]) / (radii[upper] - radii[upper - 1])
            # The largest of scaled radii may have been rounded beyond the last node.
            place = place.clamp(max=len(radii) - 1)
        lower = place.long()
        share = place - lower
        nodes = _nodes(torch.unique(torch.cat([lower.flatten(), (lower + 1)[share > 0]])), len(radii))
        # Radii below the first node above 0 are a mixture of no blur, which needs no transform, and of that node.
        self._has_sharp = bool((lower == 0).any())
        self._radii = tuple(radii[nodes].tolist())
        # The same among the nodes that are used; between -1 and 0 for such mixtures. From it each product makes the
        # coefficients, for those would take more memory.
        self._place = torch.where(lower > 0, torch.searchsorted(nodes, lower), -1) + share
        self.reach = shape.reach(self._radii[-1]) if self._radii else 0
        size = tuple(s + 2 * self.reach for s in radius.shape)
        # Multiples of 8, for MKL takes odd lengths twice the time.
        self.shape = tuple(8 * next_fast_len(math.ceil(side / 8)) for side in size)
        self._psf, self._position = shape, shape.position(rows, columns, tuple(radius_map.shape))
        self._tolerance = tolerance
        # Of PSFs that differ over the field no two blocks have the same, and a cache for all would be one for none.
        self._own: PSFComponents | None = None

    def window(self, margin: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the part of the canvas that the block sees."""
        start = margin - self.reach
        return (
            self.rows.start + start,
            self.columns.start + start,
            self.rows.stop + margin + self.reach,
            self.columns.stop + margin + self.reach,
        )

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        # What both ways take of the map is made once.
        parts = list(self._parts(x)) if self._radii else None
        return self.spread(weight * self.blur(x, parts), parts)

    def blur(self, x: Tensor, parts: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        rows, columns = (slice(self.reach, side - self.reach) for side in x.shape[-2:])
        seen = x[..., rows, columns]
        if not self._radii:
            return seen
        y = (1 - self._blurred()) * seen if self._has_sharp else torch.zeros_like(seen)
        spectrum = torch.fft.rfft2(x, s=self.shape)
        for coefficient, otf in parts or self._parts(x):
            y.addcmul_(coefficient, torch.fft.irfft2(spectrum * otf, s=self.shape)[..., rows, columns])
        return y

    def spread(self, y: Tensor, parts: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        if not self._radii:
            return y
        height, width = y.shape[-2:]
        start, padding = self.reach, (self.reach, self.shape[1] - width - self.reach)
        padding += (self.reach, self.shape[0] - height - self.reach)
        spectrum = None
        for coefficient, otf in parts or self._parts(y):
            part = torch.fft.rfft2(F.pad(coefficient * y, padding)).mul_(otf.conj())
            spectrum = part if spectrum is None else spectrum.add_(part)
        x = torch.fft.irfft2(spectrum, s=self.shape)[..., : height + 2 * start, : width + 2 * start]
        if self._has_sharp:
            x[..., start : start + height, start : start + width] += (1 - self._blurred()) * y
        return x

    def _blurred(self) -> Tensor:
        """Share of the PSFs above radius 0 in every pixel, shape (h, w)."""
        return (self._place + 1).clamp(max=1)

    def _parts(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the mean PSF and of each component: coefficient in every pixel, shape (h, w), and spectrum."""
        components = self._components(like.device)
        place = self._place.clamp(min=0)
        lower = place.long().clamp_(max=max(len(self._radii) - 2, 0))
        share, lower = place - lower, lower.flatten()
        upper = (lower + 1).clamp_(max=len(self._radii) - 1)
        blurred = self._blurred() if self._has_sharp else torch.ones_like(place)
        yield blurred, components.spectra[0]
        for nodes, otf in zip(components.coefficients, components.spectra[1:], strict=True):
            # Several times as fast as indices of two dimensions.
            ends = (nodes.index_select(0, index).view_as(place) for index in (lower, upper))
            yield torch.lerp(*ends, share).mul_(blurred), otf

    def _components(self, device: torch.device) -> PSFComponents:
        key = self._psf, self._radii, self._position, self.shape, self._tolerance, device
        if not self._psf.varies:
            return _shared_components(*key)
        if self._own is None or self._own.spectra.device != device:
            self._own = _components(*key)
        return self._own


def _nodes(present: Tensor, count: int) -> Tensor:
    """Nodes above 0 that serve a block: those that occur, or a whole range, so that more blocks have the same."""
    present = present[present > 0]
    if len(present) < 4:
        return present
    first, last = int(present[0]), int(present[-1])
    if 2 * len(present) < last - first:
        return present
    return torch.arange(first - (first + 1) % 2, min(last + last % 2, count - 1) + 1, device=present.device)


def _components(
    shape: BlurShape, radii: tuple[float, ...], position: tuple[float, float], size: tuple[int, int], tolerance: float,
    device: torch.device,
) -> PSFComponents:  # fmt: skip
    """The components of the PSFs of some radii, on pictures of a size."""
    spectra = torch.stack([_transfer_function(shape, radius, position, size) for radius in radii])
    components = psf_components(spectra, size[1], tolerance)
    return PSFComponents(components.spectra.to(device), components.coefficients.to(device))


_shared_components = lru_cache(maxsize=256)(_components)


@lru_cache(maxsize=256)
def _transfer_function(
    shape: BlurShape, radius: float, position: tuple[float, float], size: tuple[int, int]
) -> Tensor:
    """Spectrum of a PSF centred at the origin, shape (h, w // 2 + 1); float32 if the PSF is symmetric."""
    psf = shape.psf(radius, position)
    reach = psf.shape[0] // 2
    kernel = torch.zeros(size, dtype=torch.float64)
    kernel[: psf.shape[0], : psf.shape[1]] = psf
    spectrum = torch.fft.rfft2(kernel.roll((-reach, -reach), (0, 1)))
    return spectrum.real.float() if shape.measured is None else spectrum.to(torch.complex64)
