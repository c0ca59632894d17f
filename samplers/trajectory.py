"""The reverse process to look at: an animation of the estimate, and a plot of how it went.

Three curves over the evaluations, on logarithmic scales: the noise level sigma; the misfit of the prior's estimate to
the capture, in standard deviations of its noise, where 1 is what noise alone leaves; and the change of the estimate
from one evaluation to the next, root mean square in [-1, 1] units.
"""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from samplers.reverse_process import SamplerStep

__all__ = ["Trajectory"]

LONGEST_SIDE = 480
_COLOURS = {"noise level": "#3b6ea8", "misfit": "#b3552e", "change": "#4b8a4b"}


class Trajectory:
    """A callback that keeps small pictures and figures of each evaluation.

    Args:
        size: Height and width of the photo, which is the middle of the sampler's canvas.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._begin()

    def _begin(self) -> None:
        self.frames: list[Image.Image] = []
        self.curves: dict[str, list[float]] = {name: [] for name in _COLOURS}
        self._last: Tensor | None = None

    def __call__(self, step: SamplerStep) -> None:
        """Keeps one evaluation; a first one, after an attempt that memory ended, begins anew."""
        if step.index == 1:
            self._begin()
        change = math.nan if self._last is None else float((step.estimate - self._last).square().mean().sqrt())
        misfit = math.nan if step.residual is None else float(step.residual)
        for name, value in zip(_COLOURS, (step.sigma, misfit, change), strict=True):
            self.curves[name].append(value)
        self._last = step.estimate
        self.frames.append(_picture(step.estimate, self.size))

    def write(self, animation: Path, plot: Path, result: Tensor) -> None:
        """Writes the animation (WebP, the last picture stands for two seconds) and the plot (SVG).

        Args:
            animation: Name of the animation.
            plot: Name of the plot.
            result: The restored photo in [0, 1], shape (1, 3, H, W), which ends the animation.
        """
        self.frames.append(_picture(2 * result - 1, self.size))
        durations = [max(60, 1500 // len(self.frames))] * (len(self.frames) - 1) + [2000]
        self.frames[0].save(
            animation, format="WEBP", save_all=True, append_images=self.frames[1:], duration=durations, loop=0,
            quality=85
        )
        plot.write_text(_svg(self.curves), encoding="utf-8")


def _picture(estimate: Tensor, size: tuple[int, int]) -> Image.Image:
    """The photo's part of a canvas in [-1, 1], made smaller where it is large."""
    top, left = ((canvas - side) // 2 for canvas, side in zip(estimate.shape[-2:], size, strict=True))
    photo = estimate[:1, :, top : top + size[0], left : left + size[1]].float()
    scale = min(1.0, LONGEST_SIDE / max(size))
    if scale < 1:
        sides = [max(1, round(side * scale)) for side in size]
        photo = F.interpolate(photo, size=sides, mode="area")
    codes = ((photo[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(codes)


def _svg(curves: dict[str, list[float]], width: int = 640, height: int = 170, left: int = 70) -> str:
    """One panel for each curve, below one another."""
    panels = []
    for row, (name, values) in enumerate(curves.items()):
        known = [(index, math.log10(value)) for index, value in enumerate(values) if value > 0]
        top = row * height + 28
        panels.append(f'<text x="{left}" y="{top - 8}" font-size="13">{name}</text>')
        if not known:
            panels.append(f'<text x="{left}" y="{top + 40}" font-size="12">no data term</text>')
            continue
        low, high = min(y for _, y in known), max(y for _, y in known)
        span, deep = high - low or 1.0, height - 50
        points = " ".join(
            f"{left + x * (width - left - 20) / max(1, len(values) - 1):.1f},{top + (high - y) / span * deep:.1f}"
            for x, y in known
        )
        panels.append(
            f'<path d="M{left} {top}v{deep}h{width - left - 20}" fill="none" stroke="#999"/>'
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"/>'
        )
        for y, value in ((top + 10, 10**high), (top + deep, 10**low)):
            panels.append(f'<text x="{left - 6}" y="{y}" font-size="11" text-anchor="end">{value:.3g}</text>')
    total = height * len(curves)
    panels.append(f'<text x="{width / 2}" y="{total - 2}" font-size="11" text-anchor="middle">evaluation</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{total}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>\n'
    )
