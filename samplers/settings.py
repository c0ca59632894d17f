"""Settings of a restoration; YAML files in `configs/deblur/` hold the presets.

`docs/samplers.md` compares the choices, `samplers.choices` says which go together.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion import SDE, VESDE, Denoiser
from samplers.choices import GUIDANCES, PREDICTORS, PRESETS, check_device, check_kinds, check_settings, uses
from samplers.correctors import Corrector, LangevinCorrector, SNRCorrector
from samplers.daps import DAPSSampler
from samplers.grids import check_known, check_levels, karras_grid, log_snr_grid, reached_levels, time_grid
from samplers.guidance import (
    DPSGuidance,
    ForwardModel,
    GuidanceError,
    GuidedDenoiser,
    MomentMatchingGuidance,
    PiGDMGuidance,
    ProximalGuidance,
    RangeNullGuidance,
    SecondEstimate,
)
from samplers.ode_solvers import DPMSolver, HeunSampler
from samplers.predictor_corrector import PredictorCorrectorSampler
from samplers.predictors import (
    AncestralPredictor,
    EulerMaruyamaPredictor,
    Predictor,
    ProbabilityFlowPredictor,
    ReverseDiffusionPredictor,
    StillPredictor,
)
from samplers.red_diff import REDDiffSampler
from samplers.restart import restart_grid
from samplers.reverse_process import Sampler

__all__ = ["PREDICTORS", "PRESETS", "SamplerSettings", "preset_file"]

_TEMPERATURE = 0.85  # of the sampler alone
_WIDE = 0.9  # quantile of the radii
_FEW = 5  # steps
_ITERATIONS, _QUICK_ITERATIONS = 16, 8  # of the solver


def preset_file(name: str) -> Path:
    """The YAML file of a preset, found relative to the project."""
    return Path(__file__).resolve().parent.parent / "configs" / "deblur" / f"{name}.yaml"


@dataclass
class SamplerSettings:
    """How the reverse SDE is integrated and guided. Noise levels are in [-1, 1] units (VE).

    Attributes:
        output: `mean` aims at the mean of the posterior, `sample` draws from it: with noise at its full scale, and with
            the ancestral predictor's own share of it, in one run, so that temperature, renoise and runs have no say.
        solver: `predictor-corrector`, `heun`, `dpm-solver`, `daps` or `red-diff`.
        guidance: How the capture is met: `proximal`, `pigdm`, `moment-matching`, `dps`, `range-null`, or `none` for the
            prior alone (SDEdit). `daps` and `red-diff` meet it themselves.
        steps: Noise levels of the grid; each costs one network evaluation, each correction another; see `evaluations`.
        sigma_start: Noise added to the capture at the start, at least.
        sigma_per_pixel: Noise added there for each pixel of wide blur, see `for_blur`; 0 for `sigma_start` whatever the
            blur. Unused by `output=sample`: one draw has no mean to take away what more noise puts in.
        sigma_end: Last noise level.
        grid: `karras`, `log-snr` or `time` (equidistant in the SDE's time).
        rho: Shape of the grid, see `karras_grid`.
        runs: Runs of the sampler, each from noise of its own, whose results are averaged, see `samplers.averaged_runs`.
        restarts: How often the descent goes back to `restart_high` from `restart_low`, see `samplers.restart`.
        restart_low: Noise level at which it goes back.
        restart_high: Noise level that it goes back to.
        predictor: `ancestral`, `reverse-diffusion`, `euler-maruyama`, `probability-flow`, or `none`, which leaves all
            to the corrector: annealed Langevin dynamics.
        renoise: Share of the noise that the ancestral predictor renews, see `AncestralPredictor`; unused by the others.
        temperature: Scale of the noise that is added, 1 for a sample of the posterior; less aims at its mean. null for
            0.85, or 1 where a share of the regression, which has no noise, is in the result: see `for_mixture`.
        corrector: Whether Langevin corrections are made.
        corrector_rule: Their step: `sigma`, see `LangevinCorrector`, or `snr`, see `SNRCorrector`.
        corrector_ratio: Signal-to-noise ratio of a correction.
        corrector_below: Corrections are made at noise levels up to this one.
        corrector_steps: Corrections at each of these levels.
        extrapolate: Whether predictions extrapolate the estimate to the middle of their step.
        order: Order of `dpm-solver`, 1 to 3.
        eta: Noise of `dpm-solver`: 0 for the ODE, 1 for the reverse SDE.
        churn: Noise that `heun` adds over the run.
        ode_steps: Evaluations of `daps` at each noise level.
        red_weight: Weight of the prior in `red-diff`.
        red_rate: Learning rate of `red-diff`.
        stop_change: The run ends once estimates change by no more, root mean square; 0 for never.
        strength: lambda of the guidance; smaller trusts the capture more (`dps`: less). null for 0.5, or 4 with `daps`,
            which draws pixels independently: with more variance than a denoiser's error has, noise piles up.
        cg_iterations: Bound of the solver's iterations at each evaluation; `moment-matching` takes a quarter of it.
            null for 16, or 8 with no more than 5 steps where a share of the regression is in the result: see
            `for_mixture`.
        cutoff: Singular values of the blur below it are left to the prior by `range-null`.
        noise_factor: Times the noise estimated from the capture: overstating it is the safe side.
        least_noise: The noise is taken to be at least this, of full range: JPEG rounds textures more coarsely than
            the flat blocks that noise is measured in.
        model_error: How far the model of the blur is off, as an error of the radius relative to it, see
            `optics.model_error`; 0 where map and PSF are exact and no light is clipped, as in simulations.
        trust: Weights of `samplers.trust`: how far a result is believed where the map was estimated; null for
            all, and no doubt of its radii either.
        latent_prior: Whether the regression of the pipeline's `latent_prior` is the start and a second estimate beside
            the denoiser's: `on`, `off`, or `auto` for on where the pipeline has one.
        latent_prior_variance: Factor of the variance that the regression gives its own error. null for 16, or 4 with no
            more than 5 steps, which by themselves come less far.
        latent_prior_share: Share of the regression in the result where the map was estimated and is certain; where it
            is not, there is more of it, see `samplers.trust`. 0, and `output=sample`, for the share by `trust`.
        mixture_detail: How much is given back of the details that such a mixture lacks, as the exponent p of
            `samplers.mixture`: 0 for the highest PSNR, more for sharper pictures.
        latent_prior_fade: Noise level below which the regression counts less, see `SecondEstimate`.
        condition: Whether the score network is conditioned on the latent prior by the pipeline's `conditioning`, with
            any guidance and solver: `on`, `off`, or `auto` for on where the pipeline has one.
        precision: Of the networks: `fp32`, `bf16`, or `auto` for bfloat16 where the device computes in it.
        tile: Side of the network's tiles in pixels.
        graph_capture: Whether the product of the solver of `proximal` is captured in a CUDA graph at each evaluation,
            see `samplers.guidance.graph`: less work for the processor, a product more and more memory. Refused on
            other devices.
    """

    output: str = "mean"
    solver: str = "predictor-corrector"
    guidance: str = "proximal"
    steps: int = 8
    sigma_start: float = 0.3
    sigma_per_pixel: float = 0.05
    sigma_end: float = 0.01
    grid: str = "karras"
    rho: float = 1.0
    runs: int = 1
    restarts: int = 0
    restart_low: float = 0.05
    restart_high: float = 0.2
    predictor: str = "ancestral"
    renoise: float | None = 1.0
    temperature: float | None = None
    corrector: bool = True
    corrector_rule: str = "sigma"
    corrector_ratio: float = 0.16
    corrector_below: float = 0.05
    corrector_steps: int = 1
    extrapolate: bool = False
    order: int = 2
    eta: float = 0.0
    churn: float = 0.0
    ode_steps: int = 1
    red_weight: float = 0.25
    red_rate: float = 0.03
    stop_change: float = 0.0
    strength: float | None = None
    cg_iterations: int | None = None
    cutoff: float = 0.1
    noise_factor: float = 1.0
    least_noise: float = 0.008
    model_error: float = 0.3
    trust: list[float] | None = field(default_factory=lambda: [-2.41, 1.76, 2.98])
    latent_prior: str = "auto"
    latent_prior_variance: float | None = None
    latent_prior_share: float = 0.65
    mixture_detail: float = 2.0
    latent_prior_fade: float = 0.0
    condition: str = "auto"
    precision: str = "auto"
    tile: int = 4096
    graph_capture: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        # YAML takes on and off for truth values, and the type of the field makes words of them again.
        words = {"True": "on", "False": "off"}
        self.latent_prior = words.get(self.latent_prior, self.latent_prior)
        self.condition = words.get(self.condition, self.condition)
        check_settings(self)
        self.sigmas()

    def check(
        self, sde: SDE, light: str = "srgb", sigma_max: float | None = None, device: torch.device | None = None
    ) -> None:
        """Finds out before the work whether it can be done.

        Args:
            sde: The diffusion whose reverse is integrated.
            light: What the blur mixes.
            sigma_max: Largest noise level that the network knows; None for any.
            device: Where photos are restored; None for any.

        Raises:
            ValueError: If the SDE does not reach the noise levels or has none for the restarts, or the network does not
                know them, or the device captures no graphs that are asked for.
            GuidanceError: If the guidance cannot take the light.
        """
        check_levels(sde, self.sigma_start, self.sigma_end)
        self.sigmas(sde)
        if sigma_max is not None:
            check_known("sigma_start", self.sigma_start, sigma_max)
        if device is not None:
            check_device(self, device)
        if self.guidance == "range-null" and light != "srgb":
            others = " or ".join(name for name in GUIDANCES if name != "range-null")
            raise GuidanceError(f"guidance must be {others} with light {light}, got range-null, for linear blur")

    def sigmas(self, sde: SDE | None = None) -> Tensor:
        """The noise levels of the run with restarts, shape (N,); `sde`, VE if None, matters to grid `time` alone."""
        ends = self.sigma_start, self.sigma_end
        match self.grid:
            case "karras":
                sigmas = karras_grid(*ends, self.steps, self.rho)
            case "log-snr":
                sigmas = log_snr_grid(*ends, self.steps)
            case _:
                sigmas = time_grid(sde or VESDE(), *ends, self.steps)
        return restart_grid(sigmas, self.restart_low, self.restart_high, self.restarts) if self.restarts else sigmas

    def sampler(self, sde: SDE | None = None) -> Sampler:
        """The sampler these settings describe; `sde` as of `sigmas`."""
        sigmas, temperature = self.sigmas(sde), self.noise_scale
        match self.solver:
            case "heun":
                return HeunSampler(sigmas, self.churn, temperature, self.stop_change)
            case "dpm-solver":
                return DPMSolver(sigmas, self.order, self.eta, temperature, self.stop_change)
            case "daps":
                sample = self.output == "sample"
                options = {"strength": self.guidance_strength, "iterations": self.solver_iterations}
                return DAPSSampler(sigmas, self.ode_steps, **options, temperature=temperature, sample=sample)
            case "red-diff":
                return REDDiffSampler(sigmas, self.red_weight, self.red_rate, temperature)
        return PredictorCorrectorSampler(
            sigmas, self._predictor(), self._corrector(), self.corrector_steps, temperature, self.extrapolate,
            self.stop_change,
        )  # fmt: skip

    @property
    def takes_second_estimate(self) -> bool:
        """Whether a latent prior is used where there is one: `guidance=proximal` alone knows what to do with it."""
        proximal = self.guidance == "proximal" and self.solver not in ("daps", "red-diff")
        return proximal and self.latent_prior != "off"

    def guided(
        self, denoiser: Denoiser, model: ForwardModel, y: Tensor, noise_std: float | Tensor,
        second: SecondEstimate | None = None,
    ) -> Denoiser:  # fmt: skip
        """A denoiser that knows the capture; arguments as of `ProximalGuidance`, which alone takes a second estimate.

        Raises:
            ValueError: As for `Likelihood`; a GuidanceError if the guidance cannot take the noise.
        """
        capture, strength = (denoiser, model, y, noise_std), {"strength": self.guidance_strength}
        match "none" if self.solver in ("daps", "red-diff") else self.guidance:
            case "proximal":
                options = {"iterations": self.solver_iterations, "graph_capture": self.graph_capture}
                return ProximalGuidance(*capture, **strength, **options, second=second)
            case "pigdm":
                return PiGDMGuidance(*capture, **strength, iterations=self.solver_iterations)
            case "moment-matching":
                return MomentMatchingGuidance(*capture, iterations=max(1, self.solver_iterations // 4))
            case "dps":
                return DPSGuidance(*capture, **strength)
            case "range-null":
                return RangeNullGuidance(*capture, cutoff=self.cutoff, iterations=self.solver_iterations)
        return GuidedDenoiser(*capture)

    @property
    def noise_scale(self) -> float:
        """Scale of all noise that is added: the temperature, or 1 for a sample."""
        if self.output == "sample":
            return 1.0
        return _TEMPERATURE if self.temperature is None else self.temperature

    def for_mixture(self) -> "SamplerSettings":
        """These settings where the result is a mixture with the regression: unless told otherwise, with all the noise.

        The mixture halves it, about, and what is left of it keeps the textures that a mean has lost. What more
        iterations would gain is less than what is in doubt, for the map is an estimate there.
        """
        settings = replace(self, temperature=1.0) if self.temperature is None else self
        quick = settings.cg_iterations is None and settings.steps <= _FEW
        return replace(settings, cg_iterations=_QUICK_ITERATIONS) if quick else settings

    def for_blur(self, radius_map: Tensor, sde: SDE, sigma_max: float | None = None) -> "SamplerSettings":
        """These settings for one capture: the wider its blur, the more noise at the start.

        Noise has to hide what the start does not know, and wide blur took more. What counts is the radius that nine in
        ten blurred pixels do not exceed. The start stays for a sample, where corrections alone, whose levels have names
        of their own, do the work, where the capture does not guide, and for restarts, which need levels of a fine grid.

        Args:
            radius_map: Blur radii in pixels, any shape; below a pixel there is no blur.
            sde: As of `check`, like `sigma_max`; the start is within what both know.
            sigma_max: See there.
        """
        if self.sigma_per_pixel == 0 or self.restarts or not uses(self, "sigma_per_pixel"):
            return self
        blurred = radius_map[radius_map >= 1]
        if not len(blurred):
            return self
        wide = float(np.quantile(blurred.float().cpu().numpy(), _WIDE))
        _, highest = reached_levels(sde)
        known = highest if sigma_max is None else min(highest, sigma_max)
        return replace(self, sigma_start=max(self.sigma_start, min(self.sigma_per_pixel * wide, known)))

    @property
    def evaluations(self) -> int:
        """Network evaluations of one restoration, corrections included, at most: it may stop early.

        Where wide blur raises the start, fewer levels may be low enough for corrections.
        """
        return self.averaged_runs * self.sampler().evaluations

    @property
    def averaged_runs(self) -> int:
        """Runs of one restoration: the mean of several samples would be none."""
        return 1 if self.output == "sample" else self.runs

    @property
    def guidance_strength(self) -> float:
        """lambda: the setting `strength`, or what stands for it."""
        if self.strength is not None:
            return self.strength
        return 4.0 if self.solver == "daps" else 0.5

    @property
    def solver_iterations(self) -> int:
        """The setting `cg_iterations`, or what stands for it."""
        return _ITERATIONS if self.cg_iterations is None else self.cg_iterations

    @property
    def regression_variance(self) -> float:
        """The setting `latent_prior_variance`, or what stands for it."""
        if self.latent_prior_variance is not None:
            return self.latent_prior_variance
        return 4.0 if self.steps <= _FEW else 16.0

    def _predictor(self) -> Predictor:
        match self.predictor:
            case "ancestral":
                return AncestralPredictor(None if self.output == "sample" else self.renoise, self.noise_scale)
            case "reverse-diffusion":
                return ReverseDiffusionPredictor(self.noise_scale)
            case "euler-maruyama":
                return EulerMaruyamaPredictor(self.noise_scale)
            case "probability-flow":
                return ProbabilityFlowPredictor()
        return StillPredictor()

    def _corrector(self) -> Corrector | None:
        if not self.corrector:
            return None
        rule = LangevinCorrector if self.corrector_rule == "sigma" else SNRCorrector
        return rule(self.corrector_ratio, self.noise_scale, self.corrector_below)
