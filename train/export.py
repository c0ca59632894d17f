"""Exports trained networks as pipeline folders."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError

from diffusion import SDE, VESDE, NoiseLevels, ScoreNetwork
from diffusion.latent_prior import LatentFiLM, SwinDiff
from optics.defocus_map.network import DefocusMapNetwork
from photos.files import make_folder
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import SUMS, WeightsError, quiet_diffusers

__all__ = [
    "check_same_networks", "export_conditioning", "export_defocus_map", "export_latent_prior", "export_pipeline",
]  # fmt: skip

Network = ScoreNetwork | DefocusMapNetwork | SwinDiff | LatentFiLM


def export_pipeline(network: ScoreNetwork, folder: Path, noise: NoiseLevels, pipeline: str | None = None) -> None:
    """Writes a score network in half precision, its SDE and SHA256SUMS as a pipeline; replaces an older export.

    Args:
        network: The network.
        folder: Where.
        noise: Noise levels that the network was trained at, where its VE SDE begins and ends. Another SDE of the saved
            pipeline stays.
        pipeline: Folder of a saved pipeline whose other parts are taken over, but for a conditioning, which belongs to
            its own score network.

    Raises:
        WeightsError: If the pipeline cannot be used.
    """
    sde = VESDE(noise.sigma_min, noise.sigma_max)
    if pipeline is None:
        _write(DefocusDeblurPipeline(score_network=_half(network), sde=sde), folder)
        return
    saved = DefocusDeblurPipeline.from_pretrained(pipeline)
    sde = sde if isinstance(saved.sde, VESDE) else saved.sde
    _write(_completed(saved, sde, score_network=network, conditioning=None), folder)


def export_defocus_map(network: DefocusMapNetwork, folder: Path, pipeline: str | None = None) -> None:
    """Writes a network for the map in half precision; replaces an older export.

    Args:
        network: The network.
        folder: Where. It becomes a copy of the pipeline with this network, or holds `defocus_map/` alone.
        pipeline: Folder of a saved pipeline; its own network for the map, if any, is left out.

    Raises:
        WeightsError: If the pipeline cannot be used.
    """
    _export_part("defocus_map", network, folder, pipeline)


def export_latent_prior(network: SwinDiff, folder: Path, pipeline: str | None = None) -> None:
    """Writes a latent prior in half precision; replaces an older export.

    Args:
        network: The network.
        folder: Where. It becomes a copy of the pipeline with this network, or holds `latent_prior/` alone.
        pipeline: Folder of a saved pipeline; its own latent prior, if any, is left out.

    Raises:
        WeightsError: If the pipeline cannot be used.
    """
    _export_part("latent_prior", network, folder, pipeline)


def export_conditioning(network: LatentFiLM, folder: Path, pipeline: str | None = None) -> None:
    """Writes a conditioning in half precision; replaces an older export.

    Args:
        network: The network.
        folder: Where. It becomes a copy of the pipeline with this network, or holds `conditioning/` alone.
        pipeline: Folder of a saved pipeline; its own conditioning, if any, is left out.

    Raises:
        WeightsError: If the pipeline cannot be used.
        ValueError: If the conditioning does not belong into it.
    """
    _export_part("conditioning", network, folder, pipeline)


def check_same_networks(pipeline: str, **networks: Network) -> None:
    """Finds out whether a saved pipeline holds these networks, bit for bit.

    Args:
        pipeline: Its folder.
        networks: By their names in a pipeline, in single precision.

    Raises:
        WeightsError: If the pipeline cannot be used, or holds others.
    """
    saved = DefocusDeblurPipeline.from_pretrained(pipeline)
    for part, network in networks.items():
        found = getattr(saved, part)
        ours, theirs = network.state_dict(), {} if found is None else found.state_dict()
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[name].cpu(), theirs[name]) for name in ours)
        if not same:
            got = "none" if found is None else "another"
            raise WeightsError(f"{pipeline}: expected the {part} that is trained with, got {got}")


def _export_part(part: str, network: Network, folder: Path, pipeline: str | None) -> None:
    if pipeline is None:
        _write(_half(network), folder, part)
        return
    saved = DefocusDeblurPipeline.from_pretrained(pipeline)
    _write(_completed(saved, saved.sde, **{part: network}), folder)


def _completed(saved: DefocusDeblurPipeline, sde: SDE, **parts: Network | None) -> DefocusDeblurPipeline:
    """A saved pipeline with an SDE and with other networks, None for none, in half precision."""
    names = ("score_network", *DefocusDeblurPipeline._optional_components)
    kept = {name: getattr(saved, name) for name in names} | parts
    halves = {name: _half(network) for name, network in kept.items() if network is not None}
    return DefocusDeblurPipeline(sde=sde, **halves)


def _half(network: Network) -> Network:
    """A copy in half precision."""
    # Without the folder that it was loaded from, and what diffusers took for defaults of the class.
    half = type(network).from_config({key: value for key, value in network.config.items() if not key.startswith("_")})
    half.load_state_dict(network.state_dict())
    with quiet_diffusers():
        return half.to(torch.float16)


def _write(saved: DefocusDeblurPipeline | Network, folder: Path, part: str = "") -> None:
    """Saves something in a folder, or in a part of it, with SHA256SUMS; an older folder is replaced when it is done."""
    make_folder(folder.parent)
    try:
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
            new, old = Path(place) / "new", Path(place) / "old"
            new.mkdir()
            with quiet_diffusers():
                saved.save_pretrained(new / part)
            files = sorted(file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file())
            sums = [f"{hashlib.sha256((new / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
            (new / SUMS).write_text("".join(sums), encoding="utf-8")
            mode = (new / SUMS).stat().st_mode
            for file in files:
                (new / file).chmod(mode)  # What safetensors writes only its owner may read.
            _put(new, folder, old)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{folder}: expected a folder that weights can be written to, got an error: {reason}") from error


def _put(new: Path, folder: Path, old: Path) -> None:
    """Renames a folder into place; what was there is moved out of the way first, and is whole at any moment."""
    if not folder.exists():
        new.replace(folder)
        return
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)
        raise
