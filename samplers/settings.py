"""Settings of a restoration; YAML files in `configs/deblur/` hold the presets."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from samplers.correctors import LangevinCorrector
from samplers.grids import karras_grid
from samplers.predictor_corrector import PredictorCorrectorSampler, count_evaluations
from samplers.predictors import AncestralPredictor, Predictor, ReverseDiffusionPredictor

__all__ = ["PREDICTORS", "PRESETS", "SamplerSettings", "preset_file"]

PRESETS = ("fast", "balanced", "best")
PREDICTORS = ("ancestral", "reverse-diffusion")


def preset_file(name: str) -> Path:
    """The YAML file of a preset, found relative to the project."""
    return Path(__file__).resolve().parent.parent / "configs" / "deblur" / f"{name}.yaml"


@dataclass
class SamplerSettings:
    """How the reverse SDE is integrated and guided. Noise levels are in [-1, 1] units (VE).

    Attributes:
        steps: Noise levels of the grid; each costs one network evaluation, each correction another.
        sigma_start: Noise added to the capture at the start.
        sigma_end: Last noise level.
        rho: Shape of the grid, see `karras_grid`.
        predictor: `ancestral` or `reverse-diffusion`.
        renoise: Share of the noise that the ancestral predictor renews, see `AncestralPredictor`; unused by the other.
        temperature: Scale of the noise that is added, 1 for a sample of the posterior; less aims at its mean.
        corrector: Whether Langevin corrections are made.
        corrector_ratio: Signal-to-noise ratio of a correction.
        corrector_below: Corrections are made at noise levels up to this one.
        strength: lambda of the guidance; smaller trusts the capture more.
        cg_iterations: Bound of the solver's iterations at each evaluation.
        noise_factor: Times the noise estimated from the capture: overstating it is the safe side.
        least_noise: The noise is taken to be at least this, of full range: JPEG rounds textures more coarsely than
            the flat blocks that noise is measured in.
        model_error: How far the model of the blur is off, as an error of the radius relative to it, see
            `optics.model_error`; 0 where map and PSF are exact and no light is clipped, as in simulations.
        trust: Weights of `samplers.trust`: how far a result is believed where the map was estimated; null for all.
        latent_prior: Whether the regression of the pipeline's `latent_prior` is the start and a second estimate beside
            the denoiser's: `on`, `off`, or `auto` for on where the pipeline has one.
        latent_prior_variance: Factor of the variance that the regression gives its own error.
        latent_prior_fade: Noise level below which the regression counts less, see `SecondEstimate`.
        precision: `fp32` or `bf16`, of the network.
        tile: Side of the network's tiles in pixels.
    """

    steps: int = 13
    sigma_start: float = 0.3
    sigma_end: float = 0.01
    rho: float = 1.0
    predictor: str = "ancestral"
    renoise: float | None = 1.0
    temperature: float = 0.7
    corrector: bool = True
    corrector_ratio: float = 0.16
    corrector_below: float = 0.05
    strength: float = 0.5
    cg_iterations: int = 16
    noise_factor: float = 1.0
    least_noise: float = 0.008
    model_error: float = 0.3
    trust: list[float] | None = field(default_factory=lambda: [-2.41, 1.76, 2.98])
    latent_prior: str = "auto"
    latent_prior_variance: float = 1.0
    latent_prior_fade: float = 0.0
    precision: str = "fp32"
    tile: int = 1024

    def __post_init__(self) -> None:
        def require(condition: bool, key: str, expectation: str) -> None:
            if not condition:
                raise ValueError(f"{key} must be {expectation}, got {getattr(self, key)}")

        known = self.trust is None or len(self.trust) == 3 and all(math.isfinite(value) for value in self.trust)
        require(known, "trust", "null or 3 finite numbers")
        # YAML takes on and off for truth values, and the type of the field makes words of them again.
        self.latent_prior = {"True": "on", "False": "off"}.get(self.latent_prior, self.latent_prior)
        require(self.latent_prior in ("on", "off", "auto"), "latent_prior", "on, off or auto")
        require(self.latent_prior_variance > 0, "latent_prior_variance", "positive")
        require(self.latent_prior_fade >= 0, "latent_prior_fade", "non-negative")
        require(self.steps >= 2, "steps", "at least 2")
        require(0 < self.sigma_end < self.sigma_start, "sigma_end", f"in (0, sigma_start={self.sigma_start})")
        require(self.sigma_start <= 3, "sigma_start", "at most 3, the largest noise level of training")
        require(self.rho >= 1, "rho", "at least 1")
        require(self.predictor in PREDICTORS, "predictor", " or ".join(PREDICTORS))
        require(self.renoise is None or 0 <= self.renoise <= 1, "renoise", "null or in [0, 1]")
        require(0 <= self.temperature <= 1, "temperature", "in [0, 1]")
        require(0 < self.corrector_ratio < 1, "corrector_ratio", "in (0, 1)")
        require(self.corrector_below >= 0, "corrector_below", "non-negative")
        require(self.strength > 0, "strength", "positive")
        require(self.cg_iterations >= 1, "cg_iterations", "at least 1")
        require(self.noise_factor > 0, "noise_factor", "positive")
        require(self.least_noise > 0, "least_noise", "positive")
        require(self.model_error >= 0, "model_error", "non-negative")
        require(self.precision in ("fp32", "bf16"), "precision", "fp32 or bf16")
        require(self.tile >= 32, "tile", "at least 32")

    def sampler(self) -> PredictorCorrectorSampler:
        """The sampler these settings describe."""
        return PredictorCorrectorSampler(
            karras_grid(self.sigma_start, self.sigma_end, self.steps, self.rho), self._predictor(), self._corrector()
        )

    @property
    def evaluations(self) -> int:
        """Network evaluations of one restoration, corrections included."""
        sigmas = karras_grid(self.sigma_start, self.sigma_end, self.steps, self.rho)
        return count_evaluations(sigmas.tolist(), self._corrector())

    def _predictor(self) -> Predictor:
        if self.predictor == "ancestral":
            return AncestralPredictor(self.renoise, self.temperature)
        return ReverseDiffusionPredictor(self.temperature)

    def _corrector(self) -> LangevinCorrector | None:
        if not self.corrector:
            return None
        return LangevinCorrector(self.corrector_ratio, self.temperature, self.corrector_below)
