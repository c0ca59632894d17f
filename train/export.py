"""Exports trained networks as pipeline folders."""

import hashlib
import shutil
from pathlib import Path

import torch

from diffusion import VESDE, ScoreNetwork
from diffusion.latent_prior import SwinDiff
from optics.defocus_map.network import DefocusMapNetwork
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import SUMS, quiet_diffusers

__all__ = ["export_defocus_map", "export_latent_prior", "export_pipeline"]


def export_pipeline(network: ScoreNetwork, folder: Path) -> None:
    """Writes the network in half precision, its SDE and SHA256SUMS as a pipeline folder; replaces an older export."""
    _write(DefocusDeblurPipeline(score_network=_half(network), sde=VESDE()), folder)


def export_defocus_map(network: DefocusMapNetwork, folder: Path, pipeline: str | None = None) -> None:
    """Writes a network for the map in half precision; replaces an older export.

    Args:
        network: The network.
        folder: Where. It becomes a copy of the pipeline with this network, or holds `defocus_map/` alone.
        pipeline: Folder of a saved pipeline; its own network for the map, if any, is left out.

    Raises:
        WeightsError: If the pipeline cannot be used.
    """
    if pipeline is None:
        _write(_half(network), folder, "defocus_map")
        return
    saved = DefocusDeblurPipeline.from_pretrained(pipeline)
    _write(_completed(saved, defocus_map=network), folder)


def export_latent_prior(network: SwinDiff, folder: Path, pipeline: str | None = None) -> None:
    """Writes a latent prior in half precision; replaces an older export.

    Args:
        network: The network.
        folder: Where. It becomes a copy of the pipeline with this network, or holds `latent_prior/` alone.
        pipeline: Folder of a saved pipeline; its own latent prior, if any, is left out.

    Raises:
        WeightsError: If the pipeline cannot be used.
    """
    if pipeline is None:
        _write(_half(network), folder, "latent_prior")
        return
    saved = DefocusDeblurPipeline.from_pretrained(pipeline)
    _write(_completed(saved, latent_prior=network), folder)


def _completed(saved: DefocusDeblurPipeline, **parts: DefocusMapNetwork | SwinDiff) -> DefocusDeblurPipeline:
    """A saved pipeline with other optional parts, in half precision."""
    kept = {name: getattr(saved, name) for name in DefocusDeblurPipeline._optional_components} | parts
    halves = {name: _half(network) for name, network in kept.items() if network is not None}
    return DefocusDeblurPipeline(_half(saved.score_network), saved.sde, **halves)


def _half(network: ScoreNetwork | DefocusMapNetwork | SwinDiff) -> ScoreNetwork | DefocusMapNetwork | SwinDiff:
    """A copy in half precision."""
    # Without the folder that it was loaded from, which diffusers would write into the configuration.
    half = type(network).from_config({key: value for key, value in network.config.items() if key != "_name_or_path"})
    half.load_state_dict(network.state_dict())
    with quiet_diffusers():
        return half.to(torch.float16)


def _write(saved: DefocusDeblurPipeline | DefocusMapNetwork | SwinDiff, folder: Path, part: str = "") -> None:
    """Saves something in a folder, or in a part of it, with SHA256SUMS; an older folder is replaced when it is done."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    with quiet_diffusers():
        saved.save_pretrained(temporary / part)
    files = sorted(file.relative_to(temporary).as_posix() for file in temporary.rglob("*") if file.is_file())
    sums = [f"{hashlib.sha256((temporary / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
    (temporary / SUMS).write_text("".join(sums), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
