"""The methods that the benchmark compares: what each does with a capture.

A method is given the capture and, in the true-map column, the blur map; noise and map are otherwise its
own to estimate. Everything slow is imported when a method is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.settings import BenchmarkConfig

__all__ = ["METHODS", "Restored"]


@dataclass(frozen=True)
class Restored:
    """What a method made of a capture.

    Attributes:
        image: Restored picture in [0, 1], shape (1, 3, H, W).
        radius_map: Blur radii that it used in pixels, shape (1, 1, H, W), or None if it needs none.
        evaluations: Network evaluations.
    """

    image: Tensor
    radius_map: Tensor | None
    evaluations: int


def _input(config: BenchmarkConfig, device: torch.device) -> Method:
    return lambda y, radius_map, generator: Restored(y, None, 0)


def _tv(config: BenchmarkConfig, device: torch.device) -> Method:
    from optics import DefocusOperator
    from optics.noise import estimate_noise_std
    from restorers.tv import TVDeconvolution

    def restore(y: Tensor, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        noise_std = float(estimate_noise_std(y))
        if radius_map is None:
            from optics.defocus_map import EvidenceEstimator

            radius_map, _ = EvidenceEstimator()(y, noise_std)
        return Restored(TVDeconvolution()(y, DefocusOperator(radius_map), noise_std), radius_map, 0)

    return restore


def _score(config: BenchmarkConfig, device: torch.device, *overrides: str) -> Method:
    from samplers.config import load_config
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.settings import PRESETS, SamplerSettings, preset_file

    file = preset_file(config.preset) if config.preset in PRESETS else Path(config.preset)
    settings = load_config(SamplerSettings, file, [*config.sampler, *overrides])
    pipeline = DefocusDeblurPipeline.from_pretrained(config.weights).to(device)

    def restore(y: Tensor, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        # A true map is exact, and so is the simulated PSF: there is no error of the model to allow for.
        chosen = settings if radius_map is None else replace(settings, model_error=0.0)
        result = pipeline(y, radius_map=radius_map, settings=chosen, generator=generator)
        return Restored(result.image, result.radius_map, result.evaluations)

    return restore


def _score_no_corrector(config: BenchmarkConfig, device: torch.device) -> Method:
    return _score(config, device, "corrector=false")


Method = Callable[["Tensor", "Tensor | None", "torch.Generator"], Restored]

METHODS: dict[str, Callable[[BenchmarkConfig, torch.device], Method]] = {
    "input": _input,
    "tv": _tv,
    "score": _score,
    "score-no-corrector": _score_no_corrector,
}
"""Makers of the methods: a method takes capture, map or None, and generator."""
