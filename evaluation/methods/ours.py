"""Methods of this project: the guided sampler in each preset, TV deconvolution, and the capture as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.methods import Method, MethodUnavailable, Restored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.captures import Capture
    from evaluation.settings import BenchmarkConfig
    from restorers.swin_diff import SwinDiffRestorer
    from restorers.tv import TVDeconvolution
    from restorers.tv_bank import TVBank
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.settings import SamplerSettings

__all__ = ["identity", "score", "swin_diff", "tv", "tv_bank"]


@dataclass(frozen=True)
class _Identity:
    takes_map = False

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        return Restored(capture.y, None, 0)


@dataclass(frozen=True)
class _TV:
    deconvolution: TVDeconvolution
    takes_map = True

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        from evaluation.methods.blur import blur_of
        from optics import DefocusOperator

        blur = blur_of(capture.y, radius_map)
        image = self.deconvolution(capture.y, DefocusOperator(blur.radius_map), blur.noise_std)
        return Restored(image, blur.radius_map, 0)


@dataclass(frozen=True)
class _TVBank:
    bank: TVBank
    takes_map = True

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        from optics import estimate_noise_std
        from optics.defocus_map import EdgeEstimator

        noise_std = estimate_noise_std(capture.y)
        if radius_map is None:
            radius_map, _ = EdgeEstimator(softness=self.bank.softness)(capture.y, noise_std)
        return Restored(self.bank(capture.y, radius_map, noise_std), radius_map, 0)


@dataclass(frozen=True)
class _SwinDiff:
    restorer: SwinDiffRestorer
    takes_map = False

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        return Restored(self.restorer(capture.y, generator), None, 1)


@dataclass(frozen=True)
class _Score:
    pipeline: DefocusDeblurPipeline
    settings: SamplerSettings
    takes_map = True

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        from optics import DISK, UNKNOWN

        lens, settings = UNKNOWN, self.settings
        if radius_map is not None:
            # A true map is exact, and the lens of the protocol known: there is no error of the model to allow for.
            lens, settings = DISK, replace(settings, model_error=0.0)
        result = self.pipeline(capture.y, radius_map=radius_map, lens=lens, settings=settings, generator=generator)
        return Restored(result.image, result.radius_map, result.evaluations)


def identity(config: BenchmarkConfig, device: torch.device) -> Method:
    """The capture as it is: what every method is compared with."""
    return _Identity()


def tv(config: BenchmarkConfig, device: torch.device) -> Method:
    """TV/L2 deconvolution with our operator, blind by the map of `blur_of`; see `restorers.tv`."""
    from restorers.tv import TVDeconvolution

    return _TV(TVDeconvolution())


def tv_bank(config: BenchmarkConfig, device: torch.device) -> Method:
    """The classical restorer as a whole: a map from the edges and a bank of deconvolutions, see `restorers.tv_bank`."""
    from restorers.tv_bank import TVBank

    return _TVBank(TVBank())


def swin_diff(config: BenchmarkConfig, device: torch.device) -> Method:
    """The latent prior's regression alone, see `restorers.swin_diff`.

    Raises:
        MethodUnavailable: If the weights have no latent prior.
        WeightsError: If they cannot be used.
    """
    from restorers.swin_diff import SwinDiffRestorer
    from samplers.weights import load_latent_prior, weights_folder

    if not (weights_folder(config.weights) / "latent_prior").is_dir():
        raise MethodUnavailable(f"needs weights with a latent_prior, got {config.weights} without")
    return _SwinDiff(SwinDiffRestorer(load_latent_prior(config.weights).to(device)))


def score(
    config: BenchmarkConfig, device: torch.device, preset: str | None = None, overrides: Sequence[str] = ()
) -> Method:
    """The guided sampler.

    Args:
        config: Its weights, preset and settings that win over the preset.
        device: Where it runs.
        preset: A preset, or a YAML file of `SamplerSettings`; that of the configuration if None.
        overrides: Assignments that win over those of the configuration, such as `corrector=false`.

    Raises:
        ValueError: If the weights or a setting cannot be used.
    """
    from samplers.config import load_config
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.settings import PRESETS, SamplerSettings, preset_file

    preset = preset or config.preset
    file = preset_file(preset) if preset in PRESETS else Path(preset)
    settings = load_config(SamplerSettings, file, [*config.sampler, *overrides])
    return _Score(DefocusDeblurPipeline.from_pretrained(config.weights).to(device), settings)
