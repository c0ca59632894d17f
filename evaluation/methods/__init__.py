"""The methods that the benchmark compares: what each makes of a capture.

A method is given the capture and, in the true-map column, the blur map; noise and map are otherwise its
own to estimate. Everything slow is imported when a method is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


def _identity(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.ours import identity

    return identity(config, device)


def _tv(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.ours import tv

    return tv(config, device)


def _tv_bank(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.ours import tv_bank

    return tv_bank(config, device)


def _score(preset: str | None = None, overrides: tuple[str, ...] = ()) -> Maker:
    def make(config: BenchmarkConfig, device: torch.device) -> Method:
        from evaluation.methods.ours import score

        return score(config, device, preset=preset, overrides=overrides)

    return make


def _denoise(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.denoising import denoise

    return denoise(config, device)


def _sdedit(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.denoising import sdedit

    return sdedit(config, device)


def _richardson_lucy(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.classical import richardson_lucy

    return richardson_lucy(config, device)


def _wiener(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.classical import wiener

    return wiener(config, device)


def _unsupervised_wiener(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.classical import unsupervised_wiener

    return unsupervised_wiener(config, device)


def _dps(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.deepinv_samplers import dps

    return dps(config, device)


def _diffpir(config: BenchmarkConfig, device: torch.device) -> Method:
    from evaluation.methods.deepinv_samplers import diffpir

    return diffpir(config, device)


Maker = Callable[["BenchmarkConfig", "torch.device"], Method]

PEERS: dict[str, Maker] = {
    "input": _identity,
    "denoise": _denoise,
    "wiener": _wiener,
    "unsupervised-wiener": _unsupervised_wiener,
    "richardson-lucy": _richardson_lucy,
    "tv": _tv,
    "tv-bank": _tv_bank,
    "sdedit": _sdedit,
    "dps": _dps,
    "diffpir": _diffpir,
}
"""Makers of what our sampler is compared with."""

METHODS: dict[str, Maker] = {
    **PEERS,
    "score": _score(),
    "score-fast": _score("fast"),
    "score-balanced": _score("balanced"),
    "score-best": _score("best"),
    "score-no-corrector": _score(overrides=("corrector=false",)),
}
"""Makers of all methods; `score` follows the benchmark's own settings of the sampler."""

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
