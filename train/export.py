"""Exports a score network as a pipeline folder."""

import hashlib
import shutil
from pathlib import Path

import torch

from diffusion import VESDE, ScoreNetwork

__all__ = ["export_pipeline"]


def export_pipeline(network: ScoreNetwork, folder: Path) -> None:
    """Writes the network in half precision, its SDE and SHA256SUMS as a pipeline folder; replaces an older export."""
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.weights import SUMS, quiet_diffusers

    half = ScoreNetwork.from_config(network.config)
    half.load_state_dict(network.state_dict())
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    with quiet_diffusers():
        DefocusDeblurPipeline(score_network=half.to(torch.float16), sde=VESDE()).save_pretrained(temporary)
    files = sorted(file.relative_to(temporary).as_posix() for file in temporary.rglob("*") if file.is_file())
    sums = [f"{hashlib.sha256((temporary / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
    (temporary / SUMS).write_text("".join(sums), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
