"""The defocus operator: every pixel of the capture gathers light through the PSF of its own radius.

    (A x)(p) = sum_k w_k(r(p)) (h_k * x)(p)

with a bank of PSFs h_k at radii r_k and tent (linear interpolation) weights w_k that sum to 1, so that
A 1 = 1 and A depends on r(p) at p alone. The sharp image x lives on a canvas larger than the capture
y by `margin` pixels on every side: only whole PSFs are used ("valid" convolution), nothing wraps, and
the adjoint is exact.

The work is done in square blocks by FFT: a block needs only the radii that occur in it, and memory
follows the block, not the photo.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from optics.measured_psf import MeasuredPSF
from optics.psf import bank_radii, defocus_psf, psf_reach

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

    Raises:
        ValueError: If the map has another shape, or holds negative, infinite or undefined values.
    """

    def __init__(
        self, radius_map: Tensor, softness: float = 0.0, block: int = 128, *, psf: MeasuredPSF | None = None,
        channel_scales: tuple[float, ...] | None = None,
    ) -> None:  # fmt: skip
        if radius_map.dim() != 4 or radius_map.shape[:2] != (1, 1):
            raise ValueError(f"radius_map must have shape (1, 1, H, W), got {tuple(radius_map.shape)}")
        if not torch.isfinite(radius_map).all() or radius_map.min() < 0:
            raise ValueError("radius_map must hold finite, non-negative radii in pixels")
        if channel_scales is not None and not all(scale > 0 for scale in channel_scales):
            raise ValueError(f"channel_scales must be positive, got {channel_scales}")
        self.radius_map = radius_map.float()
        shape = _Shape(softness, psf)
        scales = channel_scales or (1.0,)
        radii = bank_radii(float(self.radius_map.max()) * max(scales))
        # Interpolation between radii reaches the next node of the bank.
        self.margin = shape.reach(float(radii[-1]))
        height, width = radius_map.shape[-2:]
        blocks = {
            scale: [
                _Block(scale * self.radius_map[0, 0], rows, columns, radii, shape)
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
        """Blurs a sharp canvas: (B, C, H + 2m, W + 2m) -> (B, C, H, W)."""
        y = x.new_empty(*x.shape[:2], *self.capture_size)
        for channels, blocks in self._channels:
            for block in blocks:
                top, left, bottom, right = block.window(self.margin)
                y[:, channels, block.rows, block.columns] = block.blur(x[:, channels, top:bottom, left:right])
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Spreads a capture back: (B, C, H, W) -> (B, C, H + 2m, W + 2m).

        <A x, y> = <x, adjoint(y)> for all x and y.
        """
        x = y.new_zeros(*y.shape[:2], *self.canvas_size)
        for channels, blocks in self._channels:
            for block in blocks:
                top, left, bottom, right = block.window(self.margin)
                x[:, channels, top:bottom, left:right] += block.spread(y[:, channels, block.rows, block.columns])
        return x

    def linearize(self, x: Tensor) -> tuple[Tensor, "DefocusOperator"]:
        """The prediction A x and the derivative of A at x, which is A itself."""
        return self(x), self


@dataclass(frozen=True)
class _Shape:
    """What gives the PSFs: the round family, or measurements, which win."""

    softness: float
    measured: MeasuredPSF | None

    def reach(self, radius: float) -> int:
        return psf_reach(radius, self.softness) if self.measured is None else self.measured.reach(radius)

    def psf(self, radius: float, position: tuple[float, float]) -> Tensor:
        return defocus_psf(radius, self.softness) if self.measured is None else self.measured.kernel(radius, position)

    def position(self, rows: slice, columns: slice, size: tuple[int, int]) -> tuple[float, float]:
        """Where the middle of a block is, as shares of the picture; of no matter where all of it has one PSF."""
        if self.measured is None or self.measured.grid == (1, 1):
            return 0.5, 0.5
        return tuple((span.start + span.stop) / 2 / length for span, length in zip((rows, columns), size, strict=True))


class _Block:
    """One rectangle of the capture with the radii that occur in it."""

    def __init__(self, radius_map: Tensor, rows: slice, columns: slice, radii: Tensor, shape: _Shape) -> None:
        self.rows, self.columns = rows, columns
        radius = radius_map[rows, columns]
        radii = radii.to(radius)
        upper = torch.searchsorted(radii, radius.contiguous()).clamp(1, max(len(radii) - 1, 1))
        if len(radii) == 1:
            nodes, self._position_in_bank = [0], torch.zeros_like(radius)
        else:
            fraction = (radius - radii[upper - 1]) / (radii[upper] - radii[upper - 1])
            nodes = torch.unique(torch.cat([(upper - 1)[fraction < 1], upper[fraction > 0]])).tolist()
            # Of which each product makes the weights, for those would take more memory.
            self._position_in_bank = upper - 1 + fraction
        # What has no blur needs no transform.
        self._has_sharp = nodes[0] == 0
        self._nodes = nodes[self._has_sharp :]
        self._radii = tuple(float(radii[node]) for node in self._nodes)
        self.reach = shape.reach(self._radii[-1]) if self._radii else 0
        size = tuple(s + 2 * self.reach for s in radius.shape)
        self.shape = tuple(next_fast_len(side, real=True) for side in size)
        self._psf, self._position = shape, shape.position(rows, columns, tuple(radius_map.shape))

    def window(self, margin: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the part of the canvas that the block sees."""
        start = margin - self.reach
        return (
            self.rows.start + start,
            self.columns.start + start,
            self.rows.stop + margin + self.reach,
            self.columns.stop + margin + self.reach,
        )

    def blur(self, x: Tensor) -> Tensor:
        rows, columns = (slice(self.reach, side - self.reach) for side in x.shape[-2:])
        y = self._weight(0) * x[..., rows, columns] if self._has_sharp else torch.zeros_like(x[..., rows, columns])
        if self._nodes:
            spectrum = torch.fft.rfft2(x, s=self.shape)
        for node, radius in zip(self._nodes, self._radii, strict=True):
            blurred = torch.fft.irfft2(spectrum * self._otf(radius, x), s=self.shape)[..., rows, columns]
            y.addcmul_(self._weight(node), blurred)
        return y

    def spread(self, y: Tensor) -> Tensor:
        if not self._nodes:
            return self._weight(0) * y
        height, width = y.shape[-2:]
        start, padding = self.reach, (self.reach, self.shape[1] - width - self.reach)
        padding += (self.reach, self.shape[0] - height - self.reach)
        spectrum = 0
        for node, radius in zip(self._nodes, self._radii, strict=True):
            spectrum = spectrum + torch.fft.rfft2(F.pad(self._weight(node) * y, padding)) * self._otf(radius, y).conj()
        x = torch.fft.irfft2(spectrum, s=self.shape)[..., : height + 2 * start, : width + 2 * start]
        if self._has_sharp:
            x[..., start : start + height, start : start + width] += self._weight(0) * y
        return x

    def _weight(self, node: int) -> Tensor:
        """Tent weight of a node of the bank in every pixel, shape (h, w)."""
        return F.relu_(1 - (self._position_in_bank - node).abs_())

    def _otf(self, radius: float, like: Tensor) -> Tensor:
        return _transfer_function(self._psf, radius, self._position, self.shape).to(like.device)


@lru_cache(maxsize=512)
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
