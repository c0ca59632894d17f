"""Starts a network from saved weights: of the same network, or of one with fewer residual blocks.

Settings may leave sizes of the network to the weights.

A residual block adds the output of a convolution whose weights are zero at first. A network with more
blocks behind those of each level therefore computes exactly what the smaller one did, until it is trained.
"""

import json
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from diffusion import ScoreNetwork
from samplers.weights import TENSORS, checked_folder, weights_folder
from train.changes import recorded_settings
from train.config import NetworkConfig, ScoreConfig
from train.run_state import find_checkpoints

__all__ = ["load_score_network", "start_from", "with_network_of_init"]


def load_score_network(name: str | Path) -> ScoreNetwork:
    """The score network of a folder, in single precision.

    Args:
        name: Folder of a saved pipeline, or its `score_network`, relative to the current folder or the project.

    Raises:
        ValueError: If the folder holds no whole score network.
    """
    return _saved_network(_network_folder(name))


def with_network_of_init(config: ScoreConfig) -> ScoreConfig:
    """Completes the settings of the network: what they leave open is as in the weights that the run starts from.

    Args:
        config: Settings of a run. Where it is resumed, its own record decides, and the weights are needed no more.

    Returns:
        The settings with a network that has no null.

    Raises:
        ValueError: If the weights are no whole score network, or the record of the run cannot be read.
    """
    left_open, run_dir = config.network.left_open, Path(config.run.dir)
    if not left_open:
        return config
    if find_checkpoints(run_dir):
        known = vars(NetworkConfig()) | (recorded_settings(run_dir / "config.yaml").get("network") or {})
    else:
        known = load_score_network(config.init).config
    # Tuples come back from JSON as lists.
    taken = {key: list(known[key]) if isinstance(known[key], list | tuple) else known[key] for key in left_open}
    return replace(config, network=replace(config.network, **taken))


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
            raise ValueError(
                f"cannot start from {folder}: network.{key} is {theirs} there and {ours} here; "
                f"network.{key}=null takes that of the weights"
            )
    if any(theirs > ours for theirs, ours in zip(saved.depths, network.depths, strict=True)):
        raise ValueError(
            f"cannot start from {folder}: expected at most {list(network.depths)} residual blocks of each level, "
            f"got {list(saved.depths)}; network.blocks=null takes those of the weights"
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
