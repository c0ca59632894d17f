"""Exports trained networks as pipeline folders."""

import hashlib
import shutil
from pathlib import Path

import torch

from diffusion import VESDE, ScoreNetwork
from optics.defocus_map.network import DefocusMapNetwork
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import SUMS, quiet_diffusers

__all__ = ["export_defocus_map", "export_pipeline"]


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
    _write(DefocusDeblurPipeline(_half(saved.score_network), saved.sde, _half(network)), folder)


def _half(network: ScoreNetwork | DefocusMapNetwork) -> ScoreNetwork | DefocusMapNetwork:
    """A copy in half precision."""
    # Without the folder that it was loaded from, which diffusers would write into the configuration.
    half = type(network).from_config({key: value for key, value in network.config.items() if key != "_name_or_path"})
    half.load_state_dict(network.state_dict())
    with quiet_diffusers():
        return half.to(torch.float16)


def _write(saved: DefocusDeblurPipeline | DefocusMapNetwork, folder: Path, part: str = "") -> None:
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
