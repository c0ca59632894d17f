"""From choices by name to a method that restores photos: what goes together, weights, lens and device.

Choices have the names of the options of `samplers/deblur.py`, and errors speak of these.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from samplers.launch import Launch
from samplers.weights import DEFAULT_WEIGHTS

# What is slow to import is imported where it is used: the commands' --help answers at once.
if TYPE_CHECKING:
    import torch

    from optics import Lens, UnknownLens
    from samplers.restoring import Method

__all__ = ["MAP_ESTIMATORS", "METHODS", "PRESETS", "PSFS", "MethodChoice", "UsageError", "make_method"]

METHODS = ("score", "swin-diff", "tv", "tv-bank")
PRESETS = ("fast", "balanced", "best")
PSFS = ("auto", "disk", "disk-gaussian", "gaussian")
MAP_ESTIMATORS = ("fused", "learned", "evidence", "edges")


class UsageError(ValueError):
    """The options do not fit together; the message is for the user."""


@dataclass(frozen=True)
class MethodChoice:
    """What is chosen of a method; None leaves the choice to the default that `samplers/deblur.py --help` states.

    Attributes:
        method: One of `METHODS`.
        weights: Folder of a saved pipeline.
        preset: One of `PRESETS`.
        overrides: Assignments to settings, as in `steps=10`.
        psf: One of `PSFS`, or a NumPy file of measured PSFs.
        psf_grid: Rows and columns of the measured PSFs.
        light: What the blur mixes: `auto`, `srgb` or `linear`.
        noise_std: Noise of the photo, of full range.
        map_estimator: One of `MAP_ESTIMATORS`.
        map_given: Whether a defocus map is given, so that none is estimated.
        latent_prior: `on` or `off`.
        samples: Number of samples that are drawn.
        trajectory: Whether the reverse process is to be shown, which not all methods have.
        seed: Of the sampler's noise; 0 if None.
        device: `auto`, or a name of PyTorch.
        tile: Side of the network's tiles in pixels.
    """

    method: str = "score"
    weights: str | None = None
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    psf: str = "auto"
    psf_grid: tuple[int, int] | None = None
    light: str = "auto"
    noise_std: float | None = None
    map_estimator: str | None = None
    map_given: bool = False
    latent_prior: str | None = None
    samples: int | None = None
    trajectory: bool = False
    seed: int | None = None
    device: str = "auto"
    tile: int | None = None

    @property
    def profile_light(self) -> bool:
        """Whether photos are restored in the light of their profile's curve, see `samplers.profile_light`."""
        return self.method == "score" and self.light != "srgb"

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            UsageError: If choices exclude one another, or one would be ignored.
        """
        if self.map_estimator is not None and self.map_given:
            raise UsageError("--map-estimator: expected only without --defocus-map, which is used as it is")
        if self.psf not in PSFS and not self.psf.endswith(".npy"):
            raise UsageError(f"--psf: expected {', '.join(PSFS)} or a NumPy file of PSFs, got {self.psf}")
        if self.psf_grid is not None and self.psf in PSFS:
            raise UsageError(f"--psf-grid: expected only with a file of measured PSFs, got --psf {self.psf}")
        if self.method == "tv-bank" and self.psf not in PSFS:
            raise UsageError(f"--psf: expected {', '.join(PSFS)} with --method tv-bank, got {self.psf}")
        for option, key in (("tile", "tile"), ("latent-prior", "latent_prior")):
            twice = [word for word in self.overrides if word.startswith(f"{key}=")]
            if getattr(self, key) is not None and twice:
                raise UsageError(f"--{option}: expected it or {key}= alone, got both, {twice[0]}")
        if self.method != "score":
            self._check_what_the_sampler_alone_takes()

    def _check_what_the_sampler_alone_takes(self) -> None:
        got = f"expected {{}} with --method score, got --method {self.method}"
        alone = {
            "preset": self.preset, "latent-prior": self.latent_prior, "samples": self.samples,
            "trajectory": self.trajectory,
        }  # fmt: skip
        for option, value in alone.items():
            if value not in (None, False):
                raise UsageError(f"--{option}: {got.format('only')}")
        if self.method == "swin-diff":
            for option, value in (("psf", self.psf), ("light", self.light)):
                if value != "auto":
                    raise UsageError(f"--{option} {value}: {got.format('only')}")
        else:
            self._check_what_networks_alone_take()
        if self.tile is not None and self.tile < 32:
            raise UsageError(f"--tile: expected at least 32, got {self.tile}")
        if self.overrides:
            raise UsageError(f"{self.overrides[0]}: {got.format('settings only')}")
        if self.light == "linear":
            raise UsageError(f"--light linear: {got.format('only')}")

    def _check_what_networks_alone_take(self) -> None:
        got = f"expected only with --method score or swin-diff, got --method {self.method}"
        alone = {
            "map-estimator": self.map_estimator, "weights": self.weights, "tile": self.tile, "seed": self.seed,
        }  # fmt: skip
        for option, value in alone.items():
            if value is not None:
                raise UsageError(f"--{option}: {got}")


def make_method(choice: MethodChoice) -> "tuple[Method, torch.device, dict[str, str | float]]":
    """Loads what a method needs.

    Args:
        choice: What was chosen, checked.

    Returns:
        The method, its device, and what a report says of it.

    Raises:
        UsageError: If the choice does not fit what the weights hold, or a device or file is not there.
        ConfigError: If a setting cannot be used.
        WeightsError: If the weights cannot be.
    """
    from samplers.restoring import TVBankMethod, TVMethod

    if choice.method == "score":
        return _score_method(choice)
    if choice.method == "swin-diff":
        return _swin_diff_method(choice)
    lens, device = _lens(choice), _device(choice.device)
    classical = {"tv": TVMethod, "tv-bank": TVBankMethod}[choice.method]
    # They look for nothing in the photo: what `auto` stands for is known beforehand.
    facts = {"method": choice.method, "psf": "disk" if choice.psf == "auto" else choice.psf, "light": lens.light}
    return classical(lens=lens, noise_std=choice.noise_std), device, facts


def _score_method(choice: MethodChoice) -> "tuple[Method, torch.device, dict[str, str | float]]":
    from samplers.choices import check_asked
    from samplers.config import load_config
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.posterior_samples import SamplesMethod
    from samplers.restoring import ScoreMethod
    from samplers.settings import SamplerSettings, preset_file

    lens = _lens(choice)
    preset, weights = choice.preset or "balanced", choice.weights or DEFAULT_WEIGHTS
    tile = [] if choice.tile is None else [f"tile={choice.tile}"]
    output = [] if choice.samples is None else ["output=sample"]
    prior = [] if choice.latent_prior is None else [f"latent_prior={choice.latent_prior}"]
    settings = load_config(SamplerSettings, preset_file(preset), [*output, *choice.overrides, *tile, *prior])
    try:
        check_asked(settings, [assignment.partition("=")[0] for assignment in choice.overrides])
    except ValueError as error:
        raise UsageError(str(error)) from None
    if choice.samples is not None and settings.output != "sample":
        raise UsageError(f"--samples {choice.samples}: expected output=sample, got output={settings.output}")
    device = _device(choice.device)
    pipeline = DefocusDeblurPipeline.from_pretrained(weights).to(device)
    if settings.latent_prior == "on" and pipeline.latent_prior is None:
        raise UsageError(f"--latent-prior on: expected weights with a latent_prior, got {weights} without")
    if settings.condition == "on" and pipeline.conditioning is None:
        raise UsageError(f"condition=on: expected weights with a conditioning, got {weights} without")
    try:
        sigma_max = pipeline.score_network.config.sigma_max
        settings.check(pipeline.sde, "linear" if choice.light == "linear" else "srgb", sigma_max, device)
    except ValueError as error:
        raise UsageError(str(error)) from None
    estimator = _estimator(choice, pipeline.defocus_map, weights)
    facts = {"method": choice.method, "psf": choice.psf, "light": choice.light}
    if not choice.map_given:
        facts["map estimator"] = estimator
    facts |= {"weights": weights, "preset": preset, "seed": choice.seed or 0, **asdict(settings)}
    # What null stands for.
    facts["strength"], facts["latent_prior_variance"] = settings.guidance_strength, settings.regression_variance
    method = ScoreMethod(
        pipeline, settings, lens=lens, noise_std=choice.noise_std, seed=choice.seed or 0, map_estimator=estimator
    )
    if choice.samples is None:
        return method, device, facts
    return SamplesMethod(method, choice.samples), device, facts | {"samples": choice.samples}


def _swin_diff_method(choice: MethodChoice) -> "tuple[Method, torch.device, dict[str, str | float]]":
    from samplers.restoring import SwinDiffMethod
    from samplers.weights import load_defocus_map, load_latent_prior, weights_folder

    weights, device = choice.weights or DEFAULT_WEIGHTS, _device(choice.device)
    network, defocus_map = load_latent_prior(weights).to(device), None
    if (weights_folder(weights) / "defocus_map").is_dir():
        defocus_map = load_defocus_map(weights).to(device)
    estimator = _estimator(choice, defocus_map, weights)
    facts = {"method": choice.method} | ({} if choice.map_given else {"map estimator": estimator})
    method = SwinDiffMethod(
        network, defocus_map, map_estimator=estimator, tile=choice.tile or 1024, noise_std=choice.noise_std,
        seed=choice.seed or 0,
    )  # fmt: skip
    return method, device, facts | {"weights": weights, "seed": choice.seed or 0}


def _estimator(choice: MethodChoice, network: object, weights: str) -> str:
    """Name of the map's estimator; `network` is that of the weights for it, or None."""
    from samplers.map_estimators import best_estimator

    estimator = choice.map_estimator or best_estimator(network)
    if estimator in ("fused", "learned") and network is None:
        raise UsageError(f"--map-estimator {estimator}: expected weights with a defocus_map, got {weights} without")
    return estimator


def _lens(choice: MethodChoice) -> "Lens | UnknownLens":
    from optics import DISK, PSF_SOFTNESS, UnknownLens, read_measured_psf

    psf = None
    if choice.psf not in PSFS:
        try:
            psf = read_measured_psf(choice.psf, choice.psf_grid)
        except ValueError as error:
            raise UsageError(f"--psf: {error}") from None
    softness = PSF_SOFTNESS.get(choice.psf)
    if choice.method == "score":
        return UnknownLens(softness, psf, None if choice.light == "auto" else choice.light)
    # The classical methods blur code values, by disks where nothing else is said.
    return replace(DISK, softness=softness or 0.0, psf=psf)


def _device(name: str) -> "torch.device":
    import torch

    from samplers.devices import tried_device

    if name == "auto":
        name = Launch.of().device(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    try:
        device = tried_device(name)
    except ValueError as error:
        raise UsageError(f"--device {error}") from None
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Else the first GPU would hold a context of every process.
    return device
