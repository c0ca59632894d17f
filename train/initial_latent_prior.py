"""Starts a latent prior from the weights of another run: stage 2 from stage 1, or either from its like."""

from pathlib import Path

from diffusion.latent_prior import SwinDiff
from samplers.weights import load_latent_prior

__all__ = ["start_from"]


def start_from(network: SwinDiff, name: str | Path) -> None:
    """Copies saved weights into a network.

    Args:
        network: The network to train; fresh.
        name: Folder that holds `latent_prior/`, as the export of a run, relative to the current folder or the project.

    Raises:
        ValueError: If the folder holds no whole latent prior, or one of another size or a later stage.
    """
    saved = load_latent_prior(name)
    for key, ours in network.config.items():
        if key.startswith("_") or key == "stage":
            continue
        # Tuples come back from JSON as lists.
        theirs, ours = (list(one) if isinstance(one, list | tuple) else one for one in (saved.config[key], ours))
        if theirs != ours:
            raise ValueError(f"cannot start from {name}: network.{key} is {theirs} there and {ours} here")
    if saved.config.stage > network.config.stage:
        raise ValueError(f"cannot start from {name}: expected a latent prior of stage 1, got one of stage 2")
    network.load_state_dict(saved.state_dict())
