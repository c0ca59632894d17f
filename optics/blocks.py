"""The blocks that `optics.operator` works in: rectangles of a capture, each with the PSFs of its own radii."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from optics.measured_psf import MeasuredPSF
from optics.psf import defocus_psf, psf_reach
from optics.psf_components import PSFComponents, psf_components

__all__ = ["Block", "BlockMaps", "BlurShape"]


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


class BlockMaps(ABC):
    """Both maps of one block, or of N of a size that are stacked: shapes (B, C, h, w), or (B, C, N, h, w).

    Attributes:
        reach: Pixels of the canvas that a block sees beyond its own on every side.
        shape: Height and width of the transforms, at least the block's with its reach.
        blurs: Whether there is a radius above 0; where not, both maps leave pictures as they are.
        has_sharp: Whether pictures without blur have a share in any pixel.
        capture: Index of the pixels in captures.
        canvas: Index of what is seen of canvases.
    """

    reach: int
    shape: tuple[int, int]
    blurs: bool
    has_sharp: bool
    capture: tuple
    canvas: tuple

    @abstractmethod
    def parts(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Of the mean PSF and of each component: coefficient in every pixel, shape ([n,] h, w), and spectrum.

        Of stacked blocks a component is that of the first n alone; the mean is that of all.
        """

    @abstractmethod
    def blurred(self) -> Tensor:
        """Share of the PSFs above radius 0 in every pixel, shape ([N,] h, w)."""

    @abstractmethod
    def add(self, canvas: Tensor, values: Tensor) -> None:
        """Adds to a canvas what was spread over the part that is seen of it."""

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        # What both ways take of the map is made once.
        parts = list(self.parts()) if self.blurs else None
        return self.spread(weight * self.blur(x, parts), parts)

    def blur(self, x: Tensor, parts: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        rows, columns = (slice(self.reach, side - self.reach) for side in x.shape[-2:])
        seen = x[..., rows, columns]
        if not self.blurs:
            return seen
        y = (1 - self.blurred()) * seen if self.has_sharp else torch.zeros_like(seen)
        spectrum = torch.fft.rfft2(x, s=self.shape)
        for coefficient, otf in parts or self.parts():
            part = torch.fft.irfft2(_first(spectrum, otf) * otf, s=self.shape)[..., rows, columns]
            _first(y, coefficient).addcmul_(coefficient, part)
        return y

    def spread(self, y: Tensor, parts: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        if not self.blurs:
            return y
        height, width = y.shape[-2:]
        start, padding = self.reach, (self.reach, self.shape[1] - width - self.reach)
        padding += (self.reach, self.shape[0] - height - self.reach)
        spectrum = None
        for coefficient, otf in parts or self.parts():
            part = torch.fft.rfft2(F.pad(coefficient * _first(y, coefficient), padding)).mul_(otf.conj())
            if spectrum is None:
                spectrum = part
            else:
                _first(spectrum, otf).add_(part)
        x = torch.fft.irfft2(spectrum, s=self.shape)[..., : height + 2 * start, : width + 2 * start]
        if self.has_sharp:
            x[..., start : start + height, start : start + width] += (1 - self.blurred()) * y
        return x


def _first(values: Tensor, part: Tensor) -> Tensor:
    """Of stacked blocks those that a part is of; a single block as it is."""
    return values if part.dim() == 2 else values[..., : len(part), :, :]


class Block(BlockMaps):
    """One rectangle of the capture with the radii that occur in it.

    Args:
        radius_map: Of the whole capture, on the CPU, shape (H, W).
        rows: Of the capture, those of the block.
        columns: Likewise.
        radii: The bank of the whole capture, increasing.
        shape: What gives the PSFs.
        tolerance: As of `optics.DefocusOperator`.

    Attributes:
        size: Height and width.
    """

    def __init__(
        self, radius_map: Tensor, rows: slice, columns: slice, radii: Tensor, shape: BlurShape, tolerance: float
    ) -> None:
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
        # Counting is several times as fast as sorting, as torch.unique does.
        present = torch.cat([lower.flatten(), (lower + 1)[share > 0]]).bincount().nonzero()[:, 0]
        nodes = _nodes(present, len(radii))
        # Radii below the first node above 0 are a mixture of no blur, which needs no transform, and of that node.
        self.has_sharp = bool((lower == 0).any())
        self._radii = tuple(radii[nodes].tolist())
        self.blurs = bool(self._radii)
        # The same among the nodes that are used; between -1 and 0 for such mixtures. From it each product makes the
        # coefficients, for those would take more memory.
        self._place = torch.where(lower > 0, torch.searchsorted(nodes, lower), -1) + share
        self.reach = shape.reach(self._radii[-1]) if self._radii else 0
        self.size = tuple(radius.shape)
        # Multiples of 8, for MKL takes odd lengths twice the time.
        self.shape = tuple(8 * next_fast_len(math.ceil((side + 2 * self.reach) / 8)) for side in self.size)
        self.capture = ..., rows, columns
        self._margin = shape.reach(float(radii[-1]))
        self.canvas = ..., *self.window(self.reach)
        self._psf, self._position = shape, shape.position(rows, columns, tuple(radius_map.shape))
        self._tolerance = tolerance
        # Of PSFs that differ over the field no two blocks have the same, and a cache for all would be one for none.
        self._own: PSFComponents | None = None

    def window(self, reach: int) -> tuple[slice, slice]:
        """Rows and columns of the canvas, the block's own and as many as the reach on every side."""
        start, stop = self._margin - reach, self._margin + reach
        return tuple(slice(span.start + start, span.stop + stop) for span in self.capture[1:])

    def blurred(self) -> Tensor:
        return (self._place + 1).clamp(max=1)

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        components = self._components()
        place = self._place.clamp(min=0)
        lower = place.long().clamp_(max=max(len(self._radii) - 2, 0))
        share, lower = place - lower, lower.flatten()
        upper = (lower + 1).clamp_(max=len(self._radii) - 1)
        blurred = self.blurred() if self.has_sharp else torch.ones_like(place)
        yield blurred, components.spectra[0]
        for nodes, otf in zip(components.coefficients, components.spectra[1:], strict=True):
            # Several times as fast as indices of two dimensions.
            ends = (nodes.index_select(0, index).view_as(place) for index in (lower, upper))
            yield torch.lerp(*ends, share).mul_(blurred), otf

    def add(self, canvas: Tensor, values: Tensor) -> None:
        canvas[self.canvas] += values

    def _components(self) -> PSFComponents:
        key = self._psf, self._radii, self._position, self.shape, self._tolerance
        if not self._psf.varies:
            return _shared_components(*key)
        if self._own is None:
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
    shape: BlurShape, radii: tuple[float, ...], position: tuple[float, float], size: tuple[int, int], tolerance: float
) -> PSFComponents:
    """The components of the PSFs of some radii, on pictures of a size."""
    spectra = torch.stack([_transfer_function(shape, radius, position, size) for radius in radii])
    return psf_components(spectra, size[1], tolerance)


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
