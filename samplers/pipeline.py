"""The pipeline: a defocused photo in, a sharper photo out.

pipeline = DefocusDeblurPipeline.from_pretrained("weights/base")
sharp = pipeline(photo).image                     # a tensor gives a `Restoration`
sharp = pipeline(Image.open("cat.jpg")).images[0]  # other forms give a `DeblurOutput`, as pipelines of diffusers do
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from diffusion import SDE, ScoreDenoiser, ScoreNetwork
from diffusion.latent_prior import LatentFiLM, SwinDiff
from optics import DISK, UNKNOWN, DefocusOperator, Lens, UnknownLens, estimate_noise_std
from optics.defocus_map.network import DefocusMapNetwork
from optics.model_error import clipping_std, model_error_std
from samplers.averaged_runs import mean_of_runs
from samplers.composition import where_blurred
from samplers.image_forms import OUTPUT_TYPES, as_captures, as_output, generators_for
from samplers.latent_guide import LatentGuide
from samplers.map_estimators import estimate_map
from samplers.mixture import mixture
from samplers.pipeline_input import as_map, check_capture, check_maps, check_options, check_precisions
from samplers.reverse_process import EvaluationCount, SamplerStep, start_state
from samplers.settings import SamplerSettings
from samplers.tiling import Known, TiledNetwork, near_blur
from samplers.trust import share_beside_regression, trusted_share
from samplers.weights import checked_folder, quiet_diffusers

__all__ = ["DeblurOutput", "DefocusDeblurPipeline", "Restoration"]

_NETWORKS = ("score_network", "defocus_map", "latent_prior", "conditioning")
_LEAST_SURE = 1.3  # factor of the model's error where an estimated map has no confidence; 0.3 of it is left at full


@dataclass(frozen=True)
class Restoration:
    """What the pipeline returns.

    Attributes:
        image: Restored photo in [0, 1], shape (1, 3, H, W).
        radius_map: Blur radii that were used, pixels, shape (1, 1, H, W).
        confidence: Of the estimated map, in [0, 1], shape (1, 1, H, W); None if the map is to be believed.
        noise_std: Noise of the capture that was used, of full range.
        evaluations: Network evaluations done.
        lens: What else was supposed of the blur; None if nothing was, its radii included.
        motion: Whether the capture looks blurred by motion, for which radii and confidence of an estimated map were
            halved; of whoever looks for it, see `samplers.wishes`.
    """

    image: Tensor
    radius_map: Tensor
    confidence: Tensor | None
    noise_std: float
    evaluations: int
    lens: Lens | None = DISK
    motion: bool = False


@dataclass
class DeblurOutput(BaseOutput):
    """What the pipeline returns for pictures in the forms of diffusers.

    Attributes:
        images: Restored pictures in the form that was asked for.
        restorations: What else is known of each; their images are tensors.
    """

    images: list | Tensor | object
    restorations: list[Restoration]


class DefocusDeblurPipeline(DiffusionPipeline):
    """Restores defocused photos with a score network and an estimate of the blur.

    Args:
        score_network: Estimates E[x_0 | x_0 + sigma z] of photos in [-1, 1].
        sde: The diffusion whose reverse is integrated.
        defocus_map: Estimates the distribution of the blur radius; None estimates it from local spectra alone.
        latent_prior: Restores captures without a model of the blur, as a start and a guide; None does without.
        conditioning: Tells the score network what the latent prior says of a capture; None tells it nothing.

    Raises:
        ValueError: If the conditioning does not belong between this latent prior and this score network.
    """

    _optional_components = ["defocus_map", "latent_prior", "conditioning"]
    _tile: int | None = None

    def __init__(
        self, score_network: ScoreNetwork, sde: SDE, defocus_map: DefocusMapNetwork | None = None,
        latent_prior: SwinDiff | None = None, conditioning: LatentFiLM | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if conditioning is not None:
            conditioning.check_fits(latent_prior, score_network)
        self.register_modules(
            score_network=score_network, sde=sde, defocus_map=defocus_map, latent_prior=latent_prior,
            conditioning=conditioning,
        )  # fmt: skip

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "DefocusDeblurPipeline":
        """Loads a saved pipeline in single precision, whatever precision it was saved in, without network access.

        Args:
            name: Its folder, relative to the current folder or to the project.

        Raises:
            WeightsError: If anything in the folder is missing, damaged, unknown or of another architecture.
        """
        folder = checked_folder(name)
        with quiet_diffusers():
            return super().from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )

    def enable_tiling(self, tile: int = 256) -> None:
        """Lets the network see photos in tiles of at most this side in pixels; the results stay the same.

        Raises:
            ValueError: If the side is below 32.
        """
        self._tile = SamplerSettings(tile=tile).tile

    def disable_tiling(self) -> None:
        """Leaves the tiles to the settings again."""
        self._tile = None

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor | object,
        *,
        radius_map: Tensor | np.ndarray | None = None,
        confidence: Tensor | np.ndarray | None = None,
        noise_std: float | None = None,
        lens: Lens | UnknownLens = UNKNOWN,
        map_estimator: str | None = None,
        settings: SamplerSettings | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
        callback_on_step_end: Callable | None = None,
        output_type: str | None = None,
    ) -> "Restoration | DeblurOutput":
        """Restores one photo or several; where the radius is 0 they are returned unchanged, below 1 pixel partly so.

        Args:
            image: Capture in [0, 1], shape (1, 3, H, W), any size; or other forms, see `samplers.image_forms`.
            radius_map: Blur radii in pixels, 0 to `optics.MAX_RADIUS`, as a tensor (1, 1, H, W) or an array (H, W);
                estimated from the capture if None.
            confidence: Of a map that is given, in [0, 1], same shape, where it is an estimate; None believes it.
            noise_std: Noise of the capture, of full range, above 0 and below 1; estimated if None.
            lens: What is known of the blur beside its radius; what is not is found in the capture.
            map_estimator: How a missing map is estimated, see `samplers.map_estimators`; None for the best there is,
                `fused` where the pipeline has a `defocus_map`.
            settings: How to sample; the defaults of `SamplerSettings` if None.
            generator: Source of randomness; a generator with seed 0 if None. For several photos a list, or one whose
                state each of them starts from.
            callback: Called after each network evaluation, with the sampler's own tensors: to be read alone.
            callback_on_step_end: Called likewise as diffusers does, with the pipeline, the number of the evaluation
                from 0, its noise level and `{"latents": x_t, "estimate": E[x_0 | x_t, y]}`, which are copies: it cannot
                change the state.
            output_type: `pil`, `pt` or `np`; None for a `Restoration` of one tensor, `pil` for other forms.

        Returns:
            A `Restoration` for a tensor without output type, else a `DeblurOutput`.

        Raises:
            ValueError: If the image is not a finite photo in [0, 1], the map does not fit it, an option is of another
                kind, out of its range or would be ignored, the estimator is unknown or missing in the pipeline, or so
                is the latent prior or the conditioning that the settings ask for, the settings suit not the SDE, the
                light, the network or the device, or a network is in double precision.
            FloatingPointError: If the result is not finite.
        """
        settings = SamplerSettings() if settings is None else settings
        check_options(settings, lens, noise_std)
        if self._tile is not None:
            settings = replace(settings, tile=min(self._tile, settings.tile))
        if callback_on_step_end is not None:
            callback = _both(callback, self, callback_on_step_end)
        if output_type is not None or not isinstance(image, Tensor):
            options = dict(noise_std=noise_std, lens=lens, map_estimator=map_estimator, settings=settings)
            options["callback"] = callback
            return self._restored_forms(image, radius_map, confidence, generator, output_type or "pil", **options)
        check_capture(image)
        radius_map = as_map("radius_map", radius_map, image.device)
        confidence = as_map("confidence", confidence, image.device)
        check_maps(tuple(image.shape[-2:]), radius_map, confidence, map_estimator)
        check_precisions(**{name: getattr(self, name) for name in _NETWORKS})
        # Whatever its strides: sums over other layouts in memory may be rounded otherwise.
        image = image.float().contiguous()
        guide = LatentGuide(self.latent_prior, self.conditioning, settings)
        # A network of someone else's says nothing of the noise that it knows.
        known_noise = getattr(self.score_network, "config", {}).get("sigma_max")
        settings.check(self.sde, sigma_max=known_noise, device=image.device)
        (generator,) = generators_for(generator, 1)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        known = lens if isinstance(lens, Lens) else lens.assumed
        noise_std = estimate_noise_std(image) if noise_std is None else noise_std
        if radius_map is None:
            radius_map, confidence = estimate_map(
                image, noise_std, map_estimator, self.defocus_map, lens, settings.tile
            )

        if not radius_map.any():
            return Restoration(image.clone(), radius_map, confidence, noise_std, 0, known)
        if isinstance(lens, UnknownLens):
            lens = lens.found(image, radius_map.to(image), noise_std)
        settings.check(self.sde, lens.light)
        settings = settings.for_blur(radius_map, self.sde, known_noise)
        doubted = confidence if settings.trust is not None else None
        operator = lens.operator(radius_map, estimated=doubted is not None)
        y = 2 * image - 1
        prior = guide.prior(y, generator)
        asked = near_blur(radius_map.to(image), operator.margin)
        second = guide.second_estimate(y, prior, operator, asked)
        start = operator.extend(y) if second is None else second.x
        known = Known(operator.extend(asked[None, None].float())[0, 0] > 0, start)
        network = guide.network(self.score_network, prior)
        network = TiledNetwork(network, settings.tile, settings.precision, known)
        share = 0.0  # of the regression, where the map was estimated; a sample that is mixed with a mean would be none
        if second is not None and doubted is not None and settings.output == "mean":
            share = settings.latent_prior_share
        if share > 0:
            settings = settings.for_mixture()
        std = 2 * _unexplained_std(image, operator, noise_std, settings, lens.doubt, doubted)
        denoiser = settings.guided(ScoreDenoiser(network, self.sde), lens.model(operator), y, std, second)
        del std
        sampler, evaluated = settings.sampler(self.sde), EvaluationCount(callback)

        def state() -> Tensor:
            return start_state(self.sde, start, sampler.sigmas[0], generator, settings.noise_scale)

        def run(callback: Callable[[SamplerStep], None]) -> Tensor:
            denoiser.restart()
            # Called as a method, the sampler is the only owner of its first state and can let it go.
            return operator.crop(sampler.__call__(denoiser, state(), generator=generator, callback=callback))

        x = mean_of_runs(run, settings.averaged_runs, evaluated)
        if not torch.isfinite(x).all():
            raise FloatingPointError("the sampler produced undefined pixels")
        restored = ((x + 1) / 2).clamp(0, 1)
        radius = radius_map.to(image)
        if doubted is not None:
            # What was done by a doubtful map gives way to what needs no map: the regression, or the capture.
            sure = image if second is None else (operator.crop(second.x) + 1) / 2
            if share > 0:
                own = share_beside_regression(doubted.to(image), share)
                restored = mixture(sure, restored, own, settings.mixture_detail)
            else:
                restored = torch.lerp(sure, restored, trusted_share(radius, doubted.to(image), settings.trust))
        restored = where_blurred(image, restored, radius)
        return Restoration(restored, radius_map, confidence, noise_std, evaluated.count, lens)

    def _restored_forms(
        self, image: object, radius_map: Tensor | np.ndarray | None, confidence: Tensor | np.ndarray | None,
        generator: object, output_type: str, **options: object,
    ) -> DeblurOutput:  # fmt: skip
        """Restores pictures of any form one after the other, on the pipeline's device."""
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")
        captures = as_captures(image)
        given = {"radius_map": radius_map, "confidence": confidence}
        given = {name: as_map(name, value, self.device) for name, value in given.items() if value is not None}
        given = {name: value.to(self.device) for name, value in given.items()}
        if given and len(captures) > 1:
            raise ValueError(f"{next(iter(given))} must come with a single image, got {len(captures)} images")
        restorations = [
            self(capture.to(self.device), generator=one, **given, **options)
            for capture, one in zip(captures, generators_for(generator, len(captures)), strict=True)
        ]
        return DeblurOutput(as_output([one.image for one in restorations], output_type), restorations)


def _unexplained_std(
    image: Tensor, operator: DefocusOperator, noise_std: float, settings: SamplerSettings, doubt: float,
    confidence: Tensor | None,
) -> Tensor:  # fmt: skip
    """Standard deviation of noise and error of the model, [0, 1] units: a number or of shape (1, 1 or 3, H, W)."""
    variance = torch.tensor(max(settings.noise_factor * noise_std, settings.least_noise)).square()
    if settings.model_error:
        relative = doubt * settings.model_error
        if confidence is not None:
            # The probability of a radius that is about right says how far off it may be.
            relative = relative * (_LEAST_SURE - confidence.to(image))
        error = model_error_std(image, operator.radius_map.to(image), relative)
        variance = variance + error.square() + clipping_std(image, operator).square()
    return variance.sqrt()


def _both(callback: Callable | None, pipeline: DefocusDeblurPipeline, at_step_end: Callable) -> Callable:
    """A callback of the sampler that calls one of diffusers as well."""

    def call(step: SamplerStep) -> None:
        if callback is not None:
            callback(step)
        state = {"latents": step.x_t.clone(), "estimate": step.estimate.clone()}
        at_step_end(pipeline, step.index - 1, step.sigma, state)

    return call
