"""Saved pipelines: where they lie, and loading them only if they are whole and ours.

A folder of weights holds model_index.json, score_network/{config.json, *.safetensors} and
sde/scheduler_config.json, as `DefocusDeblurPipeline.save_pretrained` writes them, and optionally
defocus_map/, latent_prior/ and conditioning/ with {config.json, *.safetensors} each, and SHA256SUMS. diffusers
itself passes over unknown keys and missing tensors and looks for missing files in the network; here each of these
is an error of one sentence.
"""

import difflib
import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusion import ScoreNetwork
    from diffusion.latent_prior import LatentFiLM, SwinDiff
    from optics.defocus_map.network import DefocusMapNetwork

__all__ = [
    "DEFAULT_WEIGHTS", "SUMS", "TENSORS", "WeightsError", "checked_folder", "load_conditioning", "load_defocus_map",
    "load_latent_prior", "load_score_network", "quiet_diffusers", "weights_folder",
]  # fmt: skip

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_WEIGHTS = "weights/base"
TENSORS = "diffusion_pytorch_model.safetensors"
SUMS = "SHA256SUMS"


class WeightsError(ValueError):
    """A folder is no saved pipeline that can be used; the message is one sentence for the user."""


def weights_folder(name: str | Path) -> Path:
    """The folder of a saved pipeline, named relative to the current folder or to the project.

    Raises:
        WeightsError: If there is no such folder.
    """
    for folder in (Path(name), PROJECT / name):
        if folder.is_dir():
            return folder
    raise WeightsError(f"{name}: expected the folder of a saved pipeline (weights), got no such folder")


def checked_folder(name: str | Path) -> Path:
    """The folder of a saved pipeline after a look at everything in it.

    Args:
        name: Its folder, see `weights_folder`.

    Raises:
        WeightsError: If anything in the folder is missing, damaged, unknown or of another architecture.
    """
    from samplers.pipeline import DefocusDeblurPipeline

    folder = weights_folder(name)
    index = _read_json(folder / "model_index.json")
    if index.get("_class_name") != DefocusDeblurPipeline.__name__:
        raise WeightsError(
            f"{folder}: expected a saved {DefocusDeblurPipeline.__name__}, got {index.get('_class_name')!r}"
        )
    _check_sums(folder)
    _check_components(folder, index)
    return folder


def load_score_network(name: str | Path) -> "ScoreNetwork":
    """The score network of a folder of weights, which may lack the other parts of a pipeline.

    Args:
        name: The folder that holds `score_network/`, see `weights_folder`.

    Returns:
        The network in single precision.

    Raises:
        WeightsError: If there is none, or anything of it is missing, damaged, unknown or of another architecture.
    """
    from diffusion import ScoreNetwork

    return _load_part(name, "score_network", ScoreNetwork, "score network")


def load_defocus_map(name: str | Path) -> "DefocusMapNetwork":
    """The network for the map of a folder of weights, which may lack the other parts of a pipeline.

    Args:
        name: The folder that holds `defocus_map/`, see `weights_folder`.

    Returns:
        The network in single precision.

    Raises:
        WeightsError: If there is none, or anything of it is missing, damaged, unknown or of another architecture.
    """
    from optics.defocus_map.network import DefocusMapNetwork

    return _load_part(name, "defocus_map", DefocusMapNetwork, "network for the map")


def load_latent_prior(name: str | Path) -> "SwinDiff":
    """The latent prior of a folder of weights, which may lack the other parts of a pipeline.

    Args:
        name: The folder that holds `latent_prior/`, see `weights_folder`.

    Returns:
        The network in single precision.

    Raises:
        WeightsError: If there is none, or anything of it is missing, damaged, unknown or of another architecture.
    """
    from diffusion.latent_prior import SwinDiff

    return _load_part(name, "latent_prior", SwinDiff, "latent prior")


def load_conditioning(name: str | Path) -> "LatentFiLM":
    """The conditioning of a folder of weights, which may lack the other parts of a pipeline.

    Args:
        name: The folder that holds `conditioning/`, see `weights_folder`.

    Returns:
        The network in single precision.

    Raises:
        WeightsError: If there is none, or anything of it is missing, damaged, unknown or of another architecture.
    """
    from diffusion.latent_prior import LatentFiLM

    return _load_part(name, "conditioning", LatentFiLM, "conditioning")


def _load_part(name: str | Path, part: str, cls: type, what: str):  # noqa: ANN202 - a network of that class
    import torch

    folder = weights_folder(name)
    if not (folder / part).is_dir():
        raise WeightsError(f"{folder}: expected a folder {part} with a {what}, got none")
    _check_sums(folder)
    _check_tensors(folder / part, cls, _checked_config(folder / part / "config.json", cls))
    with quiet_diffusers():
        network = cls.from_pretrained(folder / part, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    return network.eval()


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{file}: expected this file in a saved pipeline, got no such file") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: expected a JSON file, got one that cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{file}: expected keys and values, got a {type(content).__name__}")
    return content


def _check_sums(folder: Path) -> None:
    """Compares the files with SHA256SUMS (the format of sha256sum) where there is one."""
    sums = folder / SUMS
    if not sums.is_file():
        return
    for line in sums.read_text("utf-8").splitlines():
        digest, _, name = line.partition(" ")
        file = folder / name.strip().removeprefix("*")
        if not file.is_file():
            raise WeightsError(f"{file}: expected this file, which SHA256SUMS lists, got no such file")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise WeightsError(f"{file}: expected the content that SHA256SUMS names, got a changed file")


def _check_components(folder: Path, index: dict) -> None:
    from diffusion import VESDE, VPSDE, ScoreNetwork, SubVPSDE
    from diffusion.latent_prior import LatentFiLM, SwinDiff
    from optics.defocus_map.network import DefocusMapNetwork

    # What model_index.json names is imported by diffusers: only these classes may be.
    families = {
        "score_network": (ScoreNetwork,), "sde": (VESDE, VPSDE, SubVPSDE), "defocus_map": (DefocusMapNetwork,),
        "latent_prior": (SwinDiff,), "conditioning": (LatentFiLM,),
    }  # fmt: skip
    if unknown := [key for key in index if not key.startswith("_") and key not in families]:
        raise WeightsError(f"{folder / 'model_index.json'}: expected {', '.join(families)}, got {unknown[0]!r} as well")
    # Saved without them, or before there were any.
    for part in ("defocus_map", "latent_prior", "conditioning"):
        if index.get(part) in (None, [None, None]):
            del families[part]
    classes = {}
    for part, members in families.items():
        known = {(member.__module__, member.__name__): member for member in members}
        entry = index.get(part)
        if not isinstance(entry, list) or tuple(map(str, entry)) not in known:
            expected = " or ".join(".".join(path) for path in known)
            raise WeightsError(f"{folder / 'model_index.json'}: expected {expected} as {part}, got {entry!r}")
        classes[part] = known[tuple(entry)]

    _checked_config(folder / "sde" / "scheduler_config.json", classes.pop("sde"))
    configs = {part: _checked_config(folder / part / "config.json", cls) for part, cls in classes.items()}
    for part, cls in classes.items():
        _check_tensors(folder / part, cls, configs[part])
    if "conditioning" in classes:
        _check_conditioning(folder, classes, configs)


def _check_conditioning(folder: Path, classes: dict[str, type], configs: dict[str, dict]) -> None:
    """Finds out whether a conditioning belongs between the networks beside it."""
    import torch

    with torch.device("meta"):
        networks = {part: cls(**configs[part]) for part, cls in classes.items() if part != "defocus_map"}
    try:
        networks["conditioning"].check_fits(networks.get("latent_prior"), networks["score_network"])
    except ValueError as error:
        raise WeightsError(f"{folder}: {error}") from None


def _checked_config(file: Path, cls: type) -> dict:
    """The arguments of a class in its saved config."""
    import torch

    config = _read_json(file)
    if config.get("_class_name") != cls.__name__:
        raise WeightsError(f"{file}: expected the config of a {cls.__name__}, got {config.get('_class_name')!r}")
    known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    values = {key: value for key, value in config.items() if not key.startswith("_")}
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"{nearest[0]!r}" if nearest else f"one of {', '.join(known)}"
            raise WeightsError(f"{file}: unknown config key {key!r}; expected {hint}")
    try:
        with torch.device("meta"):
            cls(**values)
    except Exception as error:
        # Values of any type may stand in the file, and fail in any way.
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{file}: expected arguments of {cls.__name__}, got some that fail: {reason}") from None
    return values


def _check_tensors(folder: Path, cls: type, values: dict) -> None:
    """Compares names and shapes of the saved tensors with those of a network of that class."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / TENSORS
    if not file.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        found = f"only {pickles[0]}, a pickle, which could run any code" if pickles else "no such file"
        raise WeightsError(f"{file}: expected the network's tensors, got {found}")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{file}: expected a whole safetensors file, got a damaged one ({error})") from None
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in cls(**values).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        name = next(name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name))
        raise WeightsError(
            f"{file}: expected the tensors of the network in config.json, got those of another architecture "
            f"({name}: expected {_shape(expected.get(name))}, got {_shape(found.get(name))})"
        )
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise WeightsError(f"{file}: expected finite numbers, got NaN, infinity or integers in {name}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "a number"


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Silences the progress bar and the remarks of loading and saving; errors are still raised."""
    from diffusers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
