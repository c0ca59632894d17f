"""What a picture is measured by, and how a capture's mask and border enter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.captures import Capture

__all__ = ["METRICS", "SMALLEST_MASK", "Metric", "Scoring"]

SMALLEST_MASK = 0.05
"""Share of the picture below which a mask's figures are listed and left out of the means."""


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    Attributes:
        title: Heading in tables, with the variant where there are several.
        higher_is_better: Direction; None for a figure that has none.
        digits: Decimals in tables.
    """

    title: str
    higher_is_better: bool | None
    digits: int


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR, dB", True, 2),
    "ssim": Metric("SSIM (Gaussian 11)", True, 4),
    "ssim_uniform": Metric("SSIM (uniform 7)", True, 4),
    "mae": Metric("MAE", False, 4),
    "lpips_squeeze": Metric("LPIPS (squeeze)", False, 4),
    "lpips_alex": Metric("LPIPS (alex)", False, 4),
    "lpips_vgg": Metric("LPIPS (vgg)", False, 4),
    "dists": Metric("DISTS", False, 4),
    "psnr_shift_aligned": Metric("PSNR after a global shift, dB", True, 2),
    "psnr_flow_aligned": Metric("PSNR to the flow-warped reference, dB", True, 2),
    "sharpness": Metric("sharpness (no reference)", None, 4),
    "whiteness": Metric("whiteness of the residual (no reference)", None, 3),
    "colour_shift": Metric("colour shift from the capture, Delta E", False, 2),
}
"""All metrics by the name that settings and results call them."""


class Scoring:
    """Measures pictures in [0, 1] by the metrics asked for.

    Outside a capture's mask the reference stands in both pictures: PSNR and MAE are those of the mask's
    pixels and channels; windowed and deep metrics see whole pictures that differ inside it alone.

    Args:
        metrics: Some of `METRICS`.
        lpips: Folder of LPIPS backbones, or None for torch's own cache.

    Attributes:
        reasons: Why a metric could not be computed, for those that cannot be here.
    """

    def __init__(self, metrics: Sequence[str], lpips: str | Path | None = None) -> None:
        from evaluation.metrics import DISTS, LPIPS, colour_reason, flow_reason

        self.metrics = tuple(metrics)
        self._deep = {
            name: DISTS() if name == "dists" else LPIPS(name.removeprefix("lpips_"), lpips)
            for name in metrics
            if name.startswith("lpips_") or name == "dists"
        }
        reasons = {name: metric.reason for name, metric in self._deep.items()}
        if "psnr_flow_aligned" in metrics:
            reasons["psnr_flow_aligned"] = flow_reason()
        if "colour_shift" in metrics:
            reasons["colour_shift"] = colour_reason()
        self.reasons = {name: reason for name, reason in reasons.items() if reason}

    def __call__(
        self, image: Tensor, reference: Tensor | None, capture: Capture, reblurred: Tensor | None = None
    ) -> dict[str, float | None]:
        """Every metric of a picture of shape (1, 3, H, W); None for one that is infinite or does not apply.

        Args:
            image: Picture, rounded as it would be stored.
            reference: What it is compared with: the capture's reference or its other focus.
            capture: Its mask and border are heeded.
            reblurred: The picture blurred by the method's own map, for the whiteness of the residual.
        """
        mask, residual = capture.mask, None if reblurred is None else capture.y - reblurred
        image, reference, mask, residual, y = (
            None if part is None else _cut(part, capture.border)
            for part in (image, reference, mask, residual, capture.y)
        )
        share, whole = 1.0, image
        if mask is not None and reference is not None:
            image = image.where(mask, reference)
            share = float(mask.float().mean())
        values = {name: self._value(name, image, reference, residual, share, (whole, y)) for name in self.metrics}
        return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}

    def _value(
        self, name: str, image: Tensor, reference: Tensor | None, residual: Tensor | None, share: float,
        change: tuple[Tensor, Tensor],
    ) -> float | None:  # fmt: skip
        from evaluation import metrics

        if name == "sharpness":
            return metrics.sharpness(image)
        if name == "whiteness":
            return None if residual is None else metrics.residual_whiteness(residual)
        if name in self.reasons:
            return None
        if name == "colour_shift":
            return metrics.colour_shift(*change)
        if reference is None or share == 0:
            return None
        if name in self._deep:
            return self._deep[name](image, reference)
        match name:
            case "psnr":
                # The squared error is spread over the mask's share of the pixels.
                return metrics.psnr(image, reference) + 10 * math.log10(share)
            case "mae":
                return metrics.mae(image, reference) / share
            case "ssim":
                return metrics.ssim(image, reference)
            case "ssim_uniform":
                return metrics.ssim(image, reference, window="uniform")
            case "psnr_shift_aligned" | "psnr_flow_aligned" if share < 1:
                return None  # What moves into the mask would be compared with what stood outside it.
            case "psnr_shift_aligned":
                return metrics.psnr_shift_aligned(image, reference)
            case "psnr_flow_aligned":
                return metrics.psnr_flow_aligned(image, reference)
        raise AssertionError(name)


def _cut(picture: Tensor, border: int) -> Tensor:
    return picture[..., border : picture.shape[-2] - border, border : picture.shape[-1] - border]
