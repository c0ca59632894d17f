"""Exports the averaged weights of a run as a pipeline folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from diffusion import VESDE, ScoreNetwork

__all__ = ["averaged_weights", "export_pipeline"]


@contextmanager
def averaged_weights(ema: EMAModel, network: nn.Module) -> Iterator[None]:
    """Puts the averaged weights into the network for the time of a `with` block."""
    ema.store(network.parameters())
    ema.copy_to(network.parameters())
    try:
        yield
    finally:
        ema.restore(network.parameters())


def export_pipeline(network: ScoreNetwork, folder: Path) -> None:
    """Writes the network in half precision, and its SDE, as a pipeline folder; replaces an older export."""
    from samplers.pipeline import DefocusDeblurPipeline

    half = ScoreNetwork.from_config(network.config)
    half.load_state_dict(network.state_dict())
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    DefocusDeblurPipeline(score_network=half.to(torch.float16), sde=VESDE()).save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
