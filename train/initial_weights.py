"""Starts a network from saved weights: of the same network, or of one with fewer residual blocks.

A residual block adds the output of a convolution whose weights are zero at first. A network with more
blocks behind those of each level therefore computes exactly what the smaller one did, until it is trained.
"""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from diffusion import ScoreNetwork
from samplers.weights import TENSORS, checked_folder, weights_folder

__all__ = ["load_score_network", "start_from"]


def load_score_network(name: str | Path) -> ScoreNetwork:
    """The score network of a folder, in single precision.

    Args:
        name: Folder of a saved pipeline, or its `score_network`, relative to the current folder or the project.

    Raises:
        ValueError: If the folder holds no whole score network.
    """
    return _saved_network(_network_folder(name))


def start_from(network: ScoreNetwork, name: str | Path) -> int:
    """Copies saved weights into a network.

    Args:
        network: The network to train; fresh.
        name: Folder of a saved pipeline, or its `score_network`, relative to the current folder or the project.

    Returns:
        Number of residual blocks that the saved network did not have.

    Raises:
        ValueError: If the folder holds no whole score network, or one that differs in more than blocks it lacks.
    """
    folder = _network_folder(name)
    saved = _saved_network(folder)
    for key in ("channels", "embedding", "sigma_data"):
        # Tuples come back from JSON as lists.
        theirs, ours = (
            list(value) if key == "channels" else value for value in (saved.config[key], network.config[key])
        )
        if theirs != ours:
            raise ValueError(f"cannot start from {folder}: network.{key} is {theirs} there and {ours} here")
    if any(theirs > ours for theirs, ours in zip(saved.depths, network.depths, strict=True)):
        raise ValueError(
            f"cannot start from {folder}: expected at most {list(network.depths)} residual blocks of each level, "
            f"got {list(saved.depths)}"
        )
    network.load_state_dict(saved.state_dict(), strict=False)
    return sum(ours - theirs for theirs, ours in zip(saved.depths, network.depths, strict=True))


def _network_folder(name: str | Path) -> Path:
    folder = weights_folder(name)
    return checked_folder(folder) / "score_network" if (folder / "model_index.json").is_file() else folder


def _saved_network(folder: Path) -> ScoreNetwork:
    """The network of a folder, in single precision; strict where diffusers passes things over."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("_class_name") != ScoreNetwork.__name__:
            raise ValueError(f"it is a {config.get('_class_name')}")
        network = ScoreNetwork(**{key: value for key, value in config.items() if not key.startswith("_")})
        network.load_state_dict(load_file(folder / TENSORS))
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder}: expected a saved score network, got none that loads ({reason})") from None
    return network
