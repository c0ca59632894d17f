"""The methods that the benchmark compares: what each makes of a capture.

A method is given the capture and, in the true-map column, the blur map; noise and map are otherwise its
own to estimate. Everything slow is imported when a method is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.captures import Capture
    from evaluation.settings import BenchmarkConfig

__all__ = ["METHODS", "PEERS", "Method", "MethodUnavailable", "Restored", "column", "make_method"]


class MethodUnavailable(Exception):
    """A method that cannot run here, such as one whose package is not installed; the text says why."""


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


class Method(Protocol):
    """A way to restore captures.

    Attributes:
        takes_map: Whether it uses a blur map, so that a true one makes a column of its own.
    """

    takes_map: bool

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        """Restores a capture.

        Args:
            capture: What to restore; a method sees `y` alone, one that looks results up the names too.
            radius_map: True blur radii in pixels, shape (1, 1, H, W), on the capture's device; None: blind.
            generator: Source of all random numbers.
        """
        ...


Maker = Callable[["BenchmarkConfig", "torch.device"], Method]


def _lazy(module: str, name: str, **options: object) -> Maker:
    """The maker `name` of a module in this folder, which is imported when a method is made."""

    def make(config: BenchmarkConfig, device: torch.device) -> Method:
        return getattr(import_module(f"evaluation.methods.{module}"), name)(config, device, **options)

    return make


PEERS: dict[str, Maker] = {
    "input": _lazy("ours", "identity"),
    "denoise": _lazy("denoising", "denoise"),
    "wiener": _lazy("classical", "wiener"),
    "unsupervised-wiener": _lazy("classical", "unsupervised_wiener"),
    "richardson-lucy": _lazy("classical", "richardson_lucy"),
    "tv": _lazy("ours", "tv"),
    "tv-bank": _lazy("ours", "tv_bank"),
    "sdedit": _lazy("denoising", "sdedit"),
    "dps": _lazy("deepinv_samplers", "dps"),
    "diffpir": _lazy("deepinv_samplers", "diffpir"),
}
"""Makers of what our sampler is compared with by default."""

_ALONE = ("latent_prior=off", "condition=off")

METHODS: dict[str, Maker] = {
    **PEERS,
    "dps-100": _lazy("deepinv_samplers", "dps", steps=100, weight=10.0),
    "diffpir-10": _lazy("deepinv_samplers", "diffpir", steps=10),
    "diffpir-40": _lazy("deepinv_samplers", "diffpir", steps=40),
    "dps-library-blur": _lazy("deepinv_samplers", "dps", deepinv_blur=True),
    "diffpir-library-blur": _lazy("deepinv_samplers", "diffpir", deepinv_blur=True),
    "swin-diff": _lazy("ours", "swin_diff"),
    "score": _lazy("ours", "score"),
    "score-fast": _lazy("ours", "score", preset="fast"),
    "score-balanced": _lazy("ours", "score", preset="balanced"),
    "score-best": _lazy("ours", "score", preset="best"),
    "score-no-corrector": _lazy("ours", "score", overrides=("corrector=false",)),
    "score-fast-alone": _lazy("ours", "score", preset="fast", overrides=_ALONE),
    "score-fast-sample": _lazy("ours", "score", preset="fast", overrides=("output=sample",)),
    "score-balanced-sample": _lazy("ours", "score", preset="balanced", overrides=("output=sample",)),
    "score-balanced-alone": _lazy("ours", "score", preset="balanced", overrides=_ALONE),
}
"""Makers of all methods; `score` follows the benchmark's own settings of the sampler, `alone` has no latent prior,
`sample` draws from the posterior, and a number at the end of a peer's name is that of its steps."""

_FOLDER = "folder:"


def make_method(name: str, config: BenchmarkConfig, device: torch.device) -> Method:
    """Makes one of `METHODS`, or `folder:PATH`, which takes pictures that another program made.

    Raises:
        MethodUnavailable: If it cannot run here.
        ValueError: If its weights, settings or folder cannot be used.
    """
    if name.startswith(_FOLDER):
        from evaluation.methods.folder import folder

        return folder(Path(name.removeprefix(_FOLDER)))
    return METHODS[name](config, device)


def column(name: str, map_source: str | None) -> str:
    """Name of a method's column for a map: `true`, `estimated` or, for a method without a map, None."""
    if name.startswith(_FOLDER):
        name = f"folder-{Path(name.removeprefix(_FOLDER)).resolve().name}"
    return f"{name}-{map_source}-map" if map_source else name
