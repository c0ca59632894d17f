"""Restoring one photo in memory by one of the methods, in tiles that fit into memory.

A method is a function from a capture and its defocus map, or None, to a `Restoration`. It can estimate the map alone,
and given that map back it does what it would have done without.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from diffusion.latent_prior import SwinDiff
from optics import DISK, UNKNOWN, EvidenceEstimator, Lens, UnknownLens, estimate_noise_std
from optics.defocus_map import EdgeEstimator
from optics.defocus_map.network import DefocusMapNetwork
from restorers.swin_diff import SwinDiffRestorer
from restorers.tv import TVDeconvolution
from restorers.tv_bank import TVBank
from samplers.composition import where_blurred
from samplers.map_estimators import estimate_map
from samplers.memory import SMALLEST_TILE, fitting_tile, free_bytes
from samplers.pipeline import DefocusDeblurPipeline, Restoration
from samplers.reverse_process import SamplerStep
from samplers.settings import SamplerSettings

__all__ = [
    "SMALLEST_TILE", "OutOfMemory", "ScoreMethod", "SwinDiffMethod", "TVBankMethod", "TVMethod", "out_of_memory",
]  # fmt: skip

Result = TypeVar("Result")


class OutOfMemory(Exception):
    """A photo does not fit into memory, however small the tiles."""


class Method(Protocol):
    """How captures become sharper."""

    def __call__(
        self, image: Tensor, radius_map: Tensor | None, callback: Callable[[SamplerStep], None] | None = None,
        confidence: Tensor | None = None,
    ) -> Restoration:  # fmt: skip
        """Restores a capture in [0, 1], shape (1, 3, H, W); the map holds radii in pixels, (1, 1, H, W).

        A map that comes with its confidence is an estimate like one of `estimate_map`; without, it is believed.
        """

    def estimate_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Radius in pixels and confidence in [0, 1] of a capture, both (1, 1, H, W)."""


class ScoreMethod:
    """The diffusion sampler. A seed belongs to a photo, not to a batch: company changes no result.

    Args:
        pipeline: On the device that does the work.
        settings: How to sample.
        lens: What is known of the blur beside its radius; what is not is found in each capture.
        noise_std: Noise of the capture, of full range; estimated if None.
        seed: Of the noise.
        map_estimator: How a missing map is estimated, see `samplers.map_estimators`; None for the best there is.
    """

    def __init__(
        self,
        pipeline: DefocusDeblurPipeline,
        settings: SamplerSettings,
        *,
        lens: Lens | UnknownLens = UNKNOWN,
        noise_std: float | None = None,
        seed: int = 0,
        map_estimator: str | None = None,
    ) -> None:
        self.pipeline, self.settings, self.seed = pipeline, settings, seed
        self.options = {"lens": lens, "noise_std": noise_std, "map_estimator": map_estimator}

    def __call__(
        self, image: Tensor, radius_map: Tensor | None, callback: Callable[[SamplerStep], None] | None = None,
        confidence: Tensor | None = None,
    ) -> Restoration:  # fmt: skip
        """Restores a capture, in tiles that are expected to fit into memory, and smaller ones where they do not.

        Raises:
            OutOfMemory: If it does not suffice for the smallest tiles.
            FloatingPointError: If the result is not finite.
        """

        def attempt(tile: int) -> Restoration:
            return self.pipeline(
                image,
                radius_map=radius_map,
                confidence=confidence,
                settings=replace(self.settings, tile=tile),
                generator=torch.Generator().manual_seed(self.seed),
                callback=callback,
                **options,
            )

        # A map that is given was estimated, if at all, by `estimate_map`.
        options = self.options if radius_map is None else self.options | {"map_estimator": None}
        tile = fitting_tile(
            self.settings.tile, *image.shape[-2:], self.pipeline.score_network, free_bytes(image.device)
        )
        return _in_tiles_that_fit(attempt, image, tile)

    @torch.no_grad()
    def estimate_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates the map that the method takes where none is given.

        Raises:
            OutOfMemory: If memory does not suffice for the smallest tiles.
        """
        lens, noise_std = self.options["lens"], _noise_std(image, self.options["noise_std"])

        def attempt(tile: int) -> tuple[Tensor, Tensor]:
            return estimate_map(
                image, noise_std, self.options["map_estimator"], self.pipeline.defocus_map, lens, tile
            )

        return _in_tiles_that_fit(attempt, image, self.settings.tile)


class SwinDiffMethod:
    """The latent prior's regression alone. It needs no radii; the map says where there is blur to restore.

    Args:
        network: The latent prior, on the device that does the work.
        defocus_map: The network of the map, there too; None estimates the map without.
        map_estimator: How a missing map is estimated, see `samplers.map_estimators`; None for the best there is.
        tile: Side of the networks' tiles in pixels.
        noise_std: Noise of the capture, of full range, for the map; estimated if None.
        seed: Of the noise that the prior starts from.
    """

    def __init__(
        self, network: SwinDiff, defocus_map: DefocusMapNetwork | None = None, *, map_estimator: str | None = None,
        tile: int = 1024, noise_std: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.network, self.defocus_map, self.map_estimator = network, defocus_map, map_estimator
        self.tile, self.noise_std, self.seed = tile, noise_std, seed

    @torch.no_grad()
    def __call__(
        self, image: Tensor, radius_map: Tensor | None, callback: Callable[[SamplerStep], None] | None = None,
        confidence: Tensor | None = None,
    ) -> Restoration:  # fmt: skip
        """Restores a capture where the map says blurred, with smaller tiles where memory does not suffice.

        Raises:
            OutOfMemory: If it does not suffice for the smallest tiles.
            FloatingPointError: If the result is not finite.
        """
        if radius_map is None:
            radius_map, confidence = self.estimate_map(image)
        noise_std = _noise_std(image, self.noise_std)
        if not radius_map.any():
            return Restoration(image.clone(), radius_map, confidence, noise_std, 0, None)

        def regress(tile: int) -> Tensor:
            return SwinDiffRestorer(self.network, tile)(image, torch.Generator().manual_seed(self.seed))

        restored = _in_tiles_that_fit(regress, image, self.tile)
        if not torch.isfinite(restored).all():
            raise FloatingPointError("the network produced undefined pixels")
        return Restoration(where_blurred(image, restored, radius_map), radius_map, confidence, noise_std, 1, None)

    @torch.no_grad()
    def estimate_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates the map that the method takes where none is given, as `ScoreMethod` does.

        Raises:
            OutOfMemory: If memory does not suffice for the smallest tiles.
        """
        noise_std = _noise_std(image, self.noise_std)

        def attempt(tile: int) -> tuple[Tensor, Tensor]:
            return estimate_map(image, noise_std, self.map_estimator, self.defocus_map, UNKNOWN, tile)

        return _in_tiles_that_fit(attempt, image, self.tile)


class TVMethod:
    """Total-variation deconvolution by the operator of the map, which needs no weights; blind, of the evidence.

    Args:
        lens: What is known of the blur beside its radius; in sRGB light.
        noise_std: Noise of the capture, of full range; estimated if None.
    """

    def __init__(self, *, lens: Lens = DISK, noise_std: float | None = None) -> None:
        self.lens, self.noise_std = lens, noise_std

    @torch.no_grad()
    def __call__(
        self, image: Tensor, radius_map: Tensor | None, callback: Callable[[SamplerStep], None] | None = None,
        confidence: Tensor | None = None,
    ) -> Restoration:  # fmt: skip
        """Restores a capture; there are no network evaluations to call back after.

        Raises:
            OutOfMemory: If memory does not suffice.
            FloatingPointError: If the result is not finite.
        """
        if radius_map is None:
            radius_map, confidence = self.estimate_map(image)
        with _memory_explained():
            noise_std = _noise_std(image, self.noise_std)
            restored = self._deconvolve(image, radius_map, noise_std)
        if not torch.isfinite(restored).all():
            raise FloatingPointError("the deconvolution produced undefined pixels")
        restored = where_blurred(image, restored, radius_map)
        return Restoration(restored, radius_map, confidence, noise_std, 0, self.lens)

    @torch.no_grad()
    def estimate_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates the map that the method takes where none is given.

        Raises:
            OutOfMemory: If memory does not suffice.
        """
        with _memory_explained():
            return self._estimate(image, _noise_std(image, self.noise_std))

    def _estimate(self, image: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
        return EvidenceEstimator(softness=self.lens.softness, psf=self.lens.psf)(image, noise_std)

    def _deconvolve(self, image: Tensor, radius_map: Tensor, noise_std: float) -> Tensor:
        return TVDeconvolution()(image, self.lens.operator(radius_map), noise_std)


class TVBankMethod(TVMethod):
    """The classical restorer as a whole: a map from the edges, a bank of deconvolutions, a choice in every pixel."""

    def _estimate(self, image: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
        return EdgeEstimator(softness=self.lens.softness)(image, noise_std)

    def _deconvolve(self, image: Tensor, radius_map: Tensor, noise_std: float) -> Tensor:
        return TVBank(softness=self.lens.softness)(image, radius_map, noise_std)


def _noise_std(image: Tensor, known: float | None) -> float:
    return estimate_noise_std(image) if known is None else known


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory("expected a photo that fits into memory") from error


def _in_tiles_that_fit(attempt: Callable[[int], Result], image: Tensor, tile: int) -> Result:
    """What an attempt gives in tiles of a side in pixels, halved as often as memory does not suffice."""
    while True:
        try:
            return attempt(tile)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        # Outside the handler, where the exception no longer keeps the tensors of the attempt alive.
        if tile <= SMALLEST_TILE:
            raise OutOfMemory(f"expected a photo that fits into memory in tiles of {SMALLEST_TILE} pixels")
        if image.device.type == "cuda":
            torch.cuda.empty_cache()
        tile = max(SMALLEST_TILE, min(tile, max(image.shape[-2:])) // 2)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice, of this machine or of the device."""
    # PyTorch reports exhausted main memory, and what CUDA's libraries report, as a plain RuntimeError.
    known = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in str(error) for text in known)
