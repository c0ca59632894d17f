"""The defocus operator: every pixel of the capture gathers light through the PSF of its own radius.

    (A x)(p) = sum_k w_k(r(p)) (h_k * x)(p)

with a bank of PSFs h_k at radii r_k and tent (linear interpolation) weights w_k that sum to 1, so that
A 1 = 1 and A depends on r(p) at p alone. The sharp image x lives on a canvas larger than the capture
y by `margin` pixels on every side: only whole PSFs are used ("valid" convolution), nothing wraps, and
the adjoint is exact.

The work is done in square blocks by FFT, and memory follows the block, not the photo. A block needs only the radii
that occur in it, and of those only a few principal components, see `optics.psf_components`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from optics.measured_psf import MeasuredPSF
from optics.psf import bank_radii, defocus_psf, psf_reach
from optics.psf_components import PSFComponents, psf_components

__all__ = ["DefocusOperator"]


class DefocusOperator:
    """Space-varying defocus with an exact adjoint; immutable.

    Args:
        radius_map: Blur radius in pixels of the capture, shape (1, 1, H, W); finite, non-negative.
        softness: PSF shape, see `optics.psf`.
        block: Side in pixels of the blocks that are transformed at once.
        psf: Measured PSFs in place of the round ones; those of a block are those of its centre.
        channel_scales: Factor of the radius in each channel of the pictures, positive: a lens focuses the
            colours at different distances. None for 1 in all.
        tolerance: What may be left out of the PSFs to save time: standard deviation of the change in the capture of a
            photo, as a share of the photo's. The default is about what interpolation between radii leaves; 0 for
            the formula above to rounding.

    Raises:
        ValueError: If the map has another shape, or holds negative, infinite or undefined values; if the tolerance is
            negative.
    """

    def __init__(
        self, radius_map: Tensor, softness: float = 0.0, block: int = 192, *, psf: MeasuredPSF | None = None,
        channel_scales: tuple[float, ...] | None = None, tolerance: float = 0.01,
    ) -> None:  # fmt: skip
        if radius_map.dim() != 4 or radius_map.shape[:2] != (1, 1):
            raise ValueError(f"radius_map must have shape (1, 1, H, W), got {tuple(radius_map.shape)}")
        if not torch.isfinite(radius_map).all() or radius_map.min() < 0:
            raise ValueError("radius_map must hold finite, non-negative radii in pixels")
        if channel_scales is not None and not all(scale > 0 for scale in channel_scales):
            raise ValueError(f"channel_scales must be positive, got {channel_scales}")
        if not tolerance >= 0:
            raise ValueError(f"tolerance must not be negative, got {tolerance}")
        self.radius_map = radius_map.float()
        shape = _Shape(softness, psf)
        scales = channel_scales or (1.0,)
        radii = bank_radii(float(self.radius_map.max()) * max(scales))
        # Interpolation between radii reaches the next node of the bank.
        self.margin = shape.reach(float(radii[-1]))
        height, width = radius_map.shape[-2:]
        blocks = {
            scale: [
                _Block(scale * self.radius_map[0, 0], rows, columns, radii, shape, tolerance)
                for rows in _spans(height, block)
                for columns in _spans(width, block)
            ]
            for scale in set(scales)
        }
        every = slice(None)
        self._channels = [
            (every if len(blocks) == 1 else slice(channel, channel + 1), blocks[scale])
            for channel, scale in enumerate(scales[:1] if len(blocks) == 1 else scales)
        ]

    @property
    def capture_size(self) -> tuple[int, int]:
        """Height and width of captures."""
        return tuple(self.radius_map.shape[-2:])

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of sharp images: the capture's plus the margins."""
        height, width = self.capture_size
        return height + 2 * self.margin, width + 2 * self.margin

    def crop(self, x: Tensor) -> Tensor:
        """The part of a canvas that the capture shows: (B, C, H + 2m, W + 2m) -> (B, C, H, W)."""
        height, width = self.capture_size
        return x[..., self.margin : self.margin + height, self.margin : self.margin + width]

    def extend(self, y: Tensor) -> Tensor:
        """Extends a capture to the canvas by reflection, or by its edge where it is too small for that.

        Raises:
            ValueError: If y is not of the size of captures.
        """
        if y.shape[-2:] != self.capture_size:
            raise ValueError(f"y must be of the size {self.capture_size} of the map, got {tuple(y.shape[-2:])}")
        while y.shape[-2:] != self.canvas_size:
            missing = [(c - s) // 2 for c, s in zip(self.canvas_size, y.shape[-2:], strict=True)]
            rows, columns = (min(m, s - 1) for m, s in zip(missing, y.shape[-2:], strict=True))
            if rows or columns:
                y = F.pad(y, (columns, columns, rows, rows), mode="reflect")
            else:
                y = F.pad(y, (missing[1], missing[1], missing[0], missing[0]), mode="replicate")
        return y

    def __call__(self, x: Tensor) -> Tensor:
        """Blurs a sharp canvas: (B, C, H + 2m, W + 2m) -> (B, C, H, W).

        Raises:
            ValueError: If x is not of the size of canvases, or has other channels than the radii were scaled for.
        """
        self._check("x", x, self.canvas_size)
        y = x.new_empty(*x.shape[:2], *self.capture_size)
        for channels, blocks in self._channels:
            for block in blocks:
                top, left, bottom, right = block.window(self.margin)
                y[:, channels, block.rows, block.columns] = block.blur(x[:, channels, top:bottom, left:right])
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Spreads a capture back: (B, C, H, W) -> (B, C, H + 2m, W + 2m).

        <A x, y> = <x, adjoint(y)> for all x and y.

        Raises:
            ValueError: If y is not of the size of captures, or has other channels than the radii were scaled for.
        """
        self._check("y", y, self.capture_size)
        x = y.new_zeros(*y.shape[:2], *self.canvas_size)
        for channels, blocks in self._channels:
            for block in blocks:
                top, left, bottom, right = block.window(self.margin)
                x[:, channels, top:bottom, left:right] += block.spread(y[:, channels, block.rows, block.columns])
        return x

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        """A^T W A x of a sharp canvas, block by block, bit for bit what the two maps give: no capture is kept whole.

        Args:
            x: Shape (B, C, H + 2m, W + 2m).
            weight: W, a number or of a shape that broadcasts with that of captures, (B, C, H, W).

        Returns:
            Shape of x.

        Raises:
            ValueError: As for `__call__`.
        """
        self._check("x", x, self.canvas_size)
        weight = weight.expand(*x.shape[:2], *self.capture_size)
        result = torch.zeros_like(x)
        for channels, blocks in self._channels:
            for block in blocks:
                top, left, bottom, right = block.window(self.margin)
                seen, part = x[:, channels, top:bottom, left:right], weight[:, channels, block.rows, block.columns]
                result[:, channels, top:bottom, left:right] += block.normal(seen, part)
        return result

    def _check(self, name: str, values: Tensor, size: tuple[int, int]) -> None:
        if values.dim() != 4 or values.shape[-2:] != size:
            raise ValueError(f"{name} must have shape (B, C, {size[0]}, {size[1]}), got {tuple(values.shape)}")
        if len(self._channels) > 1 and values.shape[1] != len(self._channels):
            raise ValueError(f"{name} must have {len(self._channels)} channels, a scale each, got {values.shape[1]}")

    def linearize(self, x: Tensor) -> tuple[Tensor, "DefocusOperator"]:
        """The prediction A x and the derivative of A at x, which is A itself."""
        return self(x), self


@dataclass(frozen=True)
class _Shape:
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


class _Block:
    """One rectangle of the capture with the radii that occur in it."""

    def __init__(
        self, radius_map: Tensor, rows: slice, columns: slice, radii: Tensor, shape: _Shape, tolerance: float
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
    shape: _Shape, radii: tuple[float, ...], position: tuple[float, float], size: tuple[int, int], tolerance: float,
    device: torch.device,
) -> PSFComponents:  # fmt: skip
    """The components of the PSFs of some radii, on pictures of a size."""
    spectra = torch.stack([_transfer_function(shape, radius, position, size) for radius in radii])
    components = psf_components(spectra, size[1], tolerance)
    return PSFComponents(components.spectra.to(device), components.coefficients.to(device))


_shared_components = lru_cache(maxsize=256)(_components)


@lru_cache(maxsize=256)
def _transfer_function(
    shape: _Shape, radius: float, position: tuple[float, float], size: tuple[int, int]
) -> Tensor:
    """Spectrum of a PSF centred at the origin, shape (h, w // 2 + 1); float32 if the PSF is symmetric."""
    psf = shape.psf(radius, position)
    reach = psf.shape[0] // 2
    kernel = torch.zeros(size, dtype=torch.float64)
    kernel[: psf.shape[0], : psf.shape[1]] = psf
    spectrum = torch.fft.rfft2(kernel.roll((-reach, -reach), (0, 1)))
    return spectrum.real.float() if shape.measured is None else spectrum.to(torch.complex64)


def _spans(length: int, block: int) -> list[slice]:
    """Cuts a length into the fewest nearly equal pieces no longer than `block`."""
    count = math.ceil(length / block)
    edges = [round(index * length / count) for index in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
