"""Starts a defocus map network, or a latent prior, from saved weights: of its like, or stage 2 from stage 1."""

from pathlib import Path

from diffusers import ConfigMixin

from diffusion.latent_prior import SwinDiff
from optics.defocus_map.network import DefocusMapNetwork
from samplers.weights import load_defocus_map, load_latent_prior

__all__ = ["check_same_size", "start_defocus_map_from", "start_latent_prior_from"]


def start_defocus_map_from(network: DefocusMapNetwork, name: str | Path) -> None:
    """Copies saved weights into a defocus map network.

    Args:
        network: The network to train; fresh.
        name: Folder that holds `defocus_map/`, as the export of a run, relative to the current folder or the project.

    Raises:
        ValueError: If the folder holds no whole defocus map network, or one of another size.
    """
    saved = load_defocus_map(name)
    check_same_size(saved, network, f"cannot start from {name}")
    network.load_state_dict(saved.state_dict())


def start_latent_prior_from(network: SwinDiff, name: str | Path) -> None:
    """Copies saved weights into a latent prior.

    Args:
        network: The network to train; fresh.
        name: Folder that holds `latent_prior/`, as the export of a run, relative to the current folder or the project.

    Raises:
        ValueError: If the folder holds no whole latent prior, or one of another size or a later stage.
    """
    saved = load_latent_prior(name)
    check_same_size(saved, network, f"cannot start from {name}")
    if saved.config.stage > network.config.stage:
        raise ValueError(f"cannot start from {name}: expected a latent prior of stage 1, got one of stage 2")
    network.load_state_dict(saved.state_dict())


def check_same_size(saved: ConfigMixin, network: ConfigMixin, attempt: str) -> None:
    """Finds out whether weights of a saved network fit another; the stage of a latent prior is no matter of size.

    Args:
        saved: The saved network.
        network: The other.
        attempt: What fails if they do not, for the message.

    Raises:
        ValueError: If they do not.
    """
    for key, ours in network.config.items():
        if key.startswith("_") or key == "stage":
            continue
        # Tuples come back from JSON as lists.
        theirs, ours = (list(one) if isinstance(one, list | tuple) else one for one in (saved.config[key], ours))
        if theirs != ours:
            setting = "simulation.largest_radius" if key == "largest_radius" else f"network.{key}"
            raise ValueError(f"{attempt}: {setting} is {theirs} there and {ours} here")
