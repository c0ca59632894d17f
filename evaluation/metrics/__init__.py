"""Metrics of restored pictures, one file per kind. What they need that may be absent is named by a `reason`.

`fidelity` and `perceptual` compare a picture with its reference pixel by pixel, `aligned` after the reference was
brought into line, `colour` compares it with the capture; `no_reference` needs none; `intervals` says how sure the mean
of a set is. A figure of `aligned` is never to be set beside one of `fidelity`: it forgives what the other counts.
"""

from evaluation.metrics.aligned import (
    align_shift,
    flow_reason,
    flow_warped_reference,
    psnr_flow_aligned,
    psnr_shift_aligned,
)
from evaluation.metrics.colour import colour_reason, colour_shift
from evaluation.metrics.fidelity import mae, psnr, ssim
from evaluation.metrics.intervals import bootstrap_interval
from evaluation.metrics.no_reference import residual_whiteness, sharpness
from evaluation.metrics.perceptual import DISTS, LPIPS

__all__ = [
    "DISTS",
    "LPIPS",
    "align_shift",
    "bootstrap_interval",
    "colour_reason",
    "colour_shift",
    "flow_reason",
    "flow_warped_reference",
    "mae",
    "psnr",
    "psnr_flow_aligned",
    "psnr_shift_aligned",
    "residual_whiteness",
    "sharpness",
    "ssim",
]
