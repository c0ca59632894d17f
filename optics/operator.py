"""The defocus operator: every pixel of the capture gathers light through the PSF of its own radius.

    (A x)(p) = sum_k w_k(r(p)) (h_k * x)(p)

with a bank of PSFs h_k at radii r_k and tent (linear interpolation) weights w_k that sum to 1, so that
A 1 = 1 and A depends on r(p) at p alone. The sharp image x lives on a canvas larger than the capture
y by `margin` pixels on every side: only whole PSFs are used ("valid" convolution), nothing wraps, and
the adjoint is exact.

The work is done in square blocks by FFT, and memory follows the block, not the photo. A block needs only the radii
that occur in it, and of those only a few principal components, see `optics.psf_components`. Each thread of a CPU takes
a block, other devices take many at once, see `optics.block_batches`.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from optics.block_batches import block_batches
from optics.blocks import Block, BlockMaps, BlurShape
from optics.measured_psf import MeasuredPSF
from optics.psf import bank_radii
from optics.threads import side_by_side

__all__ = ["MAX_RADIUS", "DefocusOperator", "check_radius_map"]

MAX_RADIUS = 100.0
"""Largest blur radius of a map, in pixels: the canvas and the PSFs grow with its square, whatever the photo's size."""


def check_radius_map(radius_map: Tensor) -> None:
    """Refuses what is no map of blur radii.

    Raises:
        ValueError: If it has another shape than (1, 1, H, W), or holds radii that are undefined, or not from 0 to
            `MAX_RADIUS` pixels.
    """
    if radius_map.dim() != 4 or radius_map.shape[:2] != (1, 1) or radius_map.numel() == 0:
        raise ValueError(f"radius_map must have shape (1, 1, H, W), got {tuple(radius_map.shape)}")
    least, largest = (float(radius) for radius in radius_map.aminmax())
    # An undefined radius is either.
    if not 0 <= least <= largest < math.inf:
        raise ValueError("radius_map must hold finite, non-negative radii in pixels")
    if largest > MAX_RADIUS:
        raise ValueError(f"radius_map must hold radii up to {MAX_RADIUS:g} pixels, got {largest:g}")


class DefocusOperator:
    """Space-varying defocus with an exact adjoint; immutable.

    Args:
        radius_map: Blur radius in pixels of the capture, shape (1, 1, H, W); from 0 to `MAX_RADIUS`. Pictures must
            be on its device.
        softness: PSF shape, see `optics.psf`.
        block: Side in pixels of the blocks that are transformed at once.
        psf: Measured PSFs in place of the round ones; those of a block are those of its centre.
        channel_scales: Factor of the radius in each channel of the pictures, positive: a lens focuses the
            colours at different distances. None for 1 in all.
        tolerance: What may be left out of the PSFs to save time: standard deviation of the change in the capture of a
            photo, as a share of the photo's. The default is about what interpolation between radii leaves; 0 for
            the formula above to rounding.
        batch: Blocks that are stacked, at most. None for 1 on a CPU, where a thread's cache holds the work on one, and
            as many as fill the device elsewhere, see `optics.block_batches`.

    Raises:
        ValueError: If the map has another shape, or holds undefined radii or such as are out of range; if a scale is
            not positive and finite; if the tolerance is negative; if there is no block in a batch.
    """

    def __init__(
        self, radius_map: Tensor, softness: float = 0.0, block: int = 192, *, psf: MeasuredPSF | None = None,
        channel_scales: tuple[float, ...] | None = None, tolerance: float = 0.01, batch: int | None = None,
    ) -> None:  # fmt: skip
        check_radius_map(radius_map)
        if channel_scales is not None and not all(0 < scale < math.inf for scale in channel_scales):
            raise ValueError(f"channel_scales must be positive and finite, got {channel_scales}")
        if not tolerance >= 0:
            raise ValueError(f"tolerance must not be negative, got {tolerance}")
        if batch is not None and batch < 1:
            raise ValueError(f"batch must be at least 1 block, got {batch}")
        self.radius_map = radius_map.float()
        shape = BlurShape(softness, psf)
        scales = channel_scales or (1.0,)
        radii = bank_radii(float(self.radius_map.max()) * max(scales))
        # Interpolation between radii reaches the next node of the bank.
        self.margin = shape.reach(float(radii[-1]))
        device = radius_map.device
        blocks: dict[float, list[BlockMaps]] = {
            scale: _blocks(scale * self.radius_map[0, 0].cpu(), block, radii, shape, tolerance) for scale in set(scales)
        }
        if device.type != "cpu" or batch not in (None, 1):
            blocks = {scale: block_batches(alone, device, batch) for scale, alone in blocks.items()}
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
        for channels, block, blurred in self._each(lambda part, block: block.blur(x[:, part][block.canvas])):
            y[:, channels][block.capture] = blurred
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Spreads a capture back: (B, C, H, W) -> (B, C, H + 2m, W + 2m).

        <A x, y> = <x, adjoint(y)> for all x and y.

        Raises:
            ValueError: If y is not of the size of captures, or has other channels than the radii were scaled for.
        """
        self._check("y", y, self.capture_size)
        x = y.new_zeros(*y.shape[:2], *self.canvas_size)
        for channels, block, spread in self._each(lambda part, block: block.spread(y[:, part][block.capture])):
            block.add(x[:, channels], spread)
        return x

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        """A^T W A x of a sharp canvas, batch by batch, bit for bit what the two maps give: no capture is kept whole.

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

        def normal(part: slice, block: BlockMaps) -> Tensor:
            return block.normal(x[:, part][block.canvas], weight[:, part][block.capture])

        for channels, block, product in self._each(normal):
            block.add(result[:, channels], product)
        return result

    def _each(self, work: Callable[[slice, BlockMaps], Tensor]) -> Iterator[tuple[slice, BlockMaps, Tensor]]:
        """Every block with its channels and what work gives for them, in the order of the blocks."""
        jobs = [(channels, block) for channels, blocks in self._channels for block in blocks]
        compute = side_by_side if self.radius_map.device.type == "cpu" else map
        for job, result in zip(jobs, compute(lambda job: work(*job), jobs), strict=True):
            yield *job, result

    def _check(self, name: str, values: Tensor, size: tuple[int, int]) -> None:
        if values.dim() != 4 or values.shape[-2:] != size:
            raise ValueError(f"{name} must have shape (B, C, {size[0]}, {size[1]}), got {tuple(values.shape)}")
        if len(self._channels) > 1 and values.shape[1] != len(self._channels):
            raise ValueError(f"{name} must have {len(self._channels)} channels, a scale each, got {values.shape[1]}")

    def linearize(self, x: Tensor) -> tuple[Tensor, "DefocusOperator"]:
        """The prediction A x and the derivative of A at x, which is A itself."""
        return self(x), self


def _blocks(radius_map: Tensor, side: int, *of_all: object) -> list[Block]:
    """Cuts a map, shape (H, W), into blocks of at most a side, with what they have in common."""
    rows, columns = (_spans(length, side) for length in radius_map.shape)
    places = [(down, across) for down in rows for across in columns]
    return list(side_by_side(lambda place: Block(radius_map, *place, *of_all), places))


def _spans(length: int, block: int) -> list[slice]:
    """Cuts a length into the fewest nearly equal pieces no longer than `block`."""
    count = math.ceil(length / block)
    edges = [round(index * length / count) for index in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
