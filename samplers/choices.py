"""What there is to choose from in `SamplerSettings`, what belongs together, and what excludes one another."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, get_args

from diffusion.precision import PRECISIONS

if TYPE_CHECKING:
    import torch

    from samplers.settings import SamplerSettings

__all__ = [
    "GUIDANCES", "PREDICTORS", "PRESETS", "SOLVERS", "check_asked", "check_device", "check_kinds", "check_settings",
    "uses",
]  # fmt: skip

PRESETS = ("fast", "balanced", "best")
SOLVERS = ("predictor-corrector", "heun", "dpm-solver", "daps", "red-diff")
PREDICTORS = ("ancestral", "reverse-diffusion", "euler-maruyama", "probability-flow", "none")
GUIDANCES = ("proximal", "pigdm", "moment-matching", "dps", "range-null", "none")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "output": ("mean", "sample"),
    "solver": SOLVERS,
    "guidance": GUIDANCES,
    "grid": ("karras", "log-snr", "time"),
    "predictor": PREDICTORS,
    "corrector_rule": ("sigma", "snr"),
    "latent_prior": ("on", "off", "auto"),
    "condition": ("on", "off", "auto"),
    "precision": PRECISIONS,
}

# What only some choices use: a value other than the default would be ignored by the others.
_STEPPING = ("solver", ("predictor-corrector", "heun", "dpm-solver"))
_PREDICTING = ("solver", ("predictor-corrector",))
_CORRECTING = ("corrector", (True,))
_PROXIMAL = ("guidance", ("proximal",))
_GUIDED = ("guidance", tuple(name for name in GUIDANCES if name != "none"))
_PREDICTED = ("predictor", tuple(name for name in PREDICTORS if name != "none"))
USED_BY: Mapping[str, tuple[tuple[str, tuple[str | bool, ...]], ...]] = {
    "guidance": (_STEPPING,),
    "sigma_per_pixel": (_STEPPING, ("output", ("mean",)), _GUIDED, _PREDICTED),
    "restarts": (_STEPPING,),
    "stop_change": (_STEPPING,),
    "predictor": (_PREDICTING,),
    "renoise": (_PREDICTING, ("predictor", ("ancestral",))),
    "corrector_rule": (_PREDICTING, _CORRECTING),
    "corrector_ratio": (_PREDICTING, _CORRECTING),
    "corrector_below": (_PREDICTING, _CORRECTING),
    "corrector_steps": (_PREDICTING, _CORRECTING),
    "extrapolate": (_PREDICTING,),
    "order": (("solver", ("dpm-solver",)),),
    "eta": (("solver", ("dpm-solver",)),),
    "churn": (("solver", ("heun",)),),
    "ode_steps": (("solver", ("daps",)),),
    "red_weight": (("solver", ("red-diff",)),),
    "red_rate": (("solver", ("red-diff",)),),
    "rho": (("grid", ("karras",)),),
    "strength": (
        ("solver", ("predictor-corrector", "heun", "dpm-solver", "daps")), ("guidance", ("proximal", "pigdm", "dps"))
    ),
    "cutoff": (("guidance", ("range-null",)),),
    "latent_prior_variance": (_STEPPING, _PROXIMAL),
    "latent_prior_share": (_STEPPING, _PROXIMAL),
    "mixture_detail": (_STEPPING, _PROXIMAL),
    "latent_prior_fade": (_STEPPING, _PROXIMAL),
    "graph_capture": (_STEPPING, _PROXIMAL),
}  # fmt: skip

# And what presets set all the same, for choices that are made beside them: an error only where it is asked for.
_MEAN = ("output", ("mean",))
_REGRESSING = ("latent_prior", ("on", "auto"))
ASKED_FOR: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "runs": (_MEAN,),
    "latent_prior_share": (_MEAN, _REGRESSING),
    "mixture_detail": (_MEAN, _REGRESSING),
    "latent_prior_variance": (_REGRESSING,),
    "latent_prior_fade": (_REGRESSING,),
}


def uses(settings: "SamplerSettings", key: str) -> bool:
    """Whether the choices that were made use a setting that only some of them do, a key of `USED_BY`."""
    return all(getattr(settings, owner) in owners for owner, owners in USED_BY[key])


def check_kinds(settings: "SamplerSettings") -> None:
    """Checks that every value is of the type of its field; whole numbers do for others, truth values for no numbers.

    Raises:
        ValueError: If one is of another type; names those that are valid.
    """
    for field in fields(settings):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        value = getattr(settings, field.name)
        if not any(_is_of(value, kind) for kind in kinds):
            raise ValueError(f"{field.name} must be {' or '.join(_KINDS[kind] for kind in kinds)}, got {value!r}")


def check_settings(settings: "SamplerSettings") -> None:
    """Checks every value, and the values together.

    Raises:
        ValueError: If one is out of its range, or would be ignored; names what is valid.
    """
    defaults = {field.name: field.default for field in fields(settings)}
    _check_values(settings)
    for key, conditions in USED_BY.items():
        for owner, owners in conditions:
            used = getattr(settings, owner) in owners or getattr(settings, key) == defaults[key]
            # No guidance is what the other solvers take.
            used = used or (key, settings.guidance) == ("guidance", "none")
            _require(settings, used, key, f"{defaults[key]} unless {owner} is {' or '.join(map(str, owners))}")
    for key in ("restart_low", "restart_high"):
        used = settings.restarts or getattr(settings, key) == defaults[key]
        _require(settings, used, key, f"{defaults[key]} unless restarts is at least 1")
    if settings.output == "sample":
        _require(settings, settings.solver != "red-diff", "output", "mean with solver red-diff, which finds a mode")
        _require(settings, settings.temperature in (None, 1), "temperature", "null or 1 with output sample")
        _require(settings, settings.renoise in (defaults["renoise"], None), "renoise", "null with output sample")
    if settings.predictor == "none":
        _require(settings, settings.corrector, "corrector", "true with predictor none, which leaves all work to it")
        needed = f"at least sigma_start={settings.sigma_start} with predictor none"
        _require(settings, settings.corrector_below >= settings.sigma_start, "corrector_below", needed)
    if settings.latent_prior == "on":
        needed = "off or auto unless guidance is proximal, which alone takes a second estimate"
        _require(settings, settings.takes_second_estimate, "latent_prior", needed)
    if settings.guidance == "range-null":
        _require(settings, settings.model_error == 0, "model_error", "0 with guidance range-null: it weighs no pixels")


def check_asked(settings: "SamplerSettings", keys: Iterable[str]) -> None:
    """Checks that settings which were asked for by name have a say.

    Raises:
        ValueError: If one would be ignored; names what it needs.
    """
    for key in keys:
        for owner, owners in ASKED_FOR.get(key, ()):
            if getattr(settings, owner) not in owners:
                needed = f"{owner} is {' or '.join(owners)}"
                raise ValueError(f"{key} must be left to the preset unless {needed}, got {getattr(settings, key)}")
        if key == "model_error" and settings.guidance == "none" and settings.solver not in ("daps", "red-diff"):
            raise ValueError(f"model_error must be left to the preset with guidance none, got {settings.model_error}")


def check_device(settings: "SamplerSettings", device: "torch.device") -> None:
    """Checks what not every device can do.

    Raises:
        ValueError: If products are to be captured in CUDA graphs elsewhere.
    """
    possible = not settings.graph_capture or device.type == "cuda"
    _require(settings, possible, "graph_capture", f"False on the device {device}, for graphs are CUDA's")


_KINDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a word", list[float]: "a list of numbers",
    NoneType: "null",
}  # fmt: skip


def _is_of(value: object, kind: type) -> bool:
    if kind == list[float]:
        return isinstance(value, (list, tuple)) and all(_is_of(one, float) for one in value)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)


def _check_values(settings: "SamplerSettings") -> None:
    def require(condition: bool, key: str, expectation: str) -> None:
        _require(settings, condition, key, expectation)

    for key, choices in CHOICES.items():
        require(getattr(settings, key) in choices, key, " or ".join(choices))
    for key, value in vars(settings).items():
        exact = isinstance(value, Integral) or not isinstance(value, Real)
        require(exact or math.isfinite(value), key, "a finite number")
    require(settings.steps >= 2, "steps", "at least 2")
    require(0 < settings.sigma_end < settings.sigma_start, "sigma_end", f"in (0, sigma_start={settings.sigma_start})")
    require(settings.rho >= 1, "rho", "at least 1")
    require(settings.renoise is None or 0 <= settings.renoise <= 1, "renoise", "null or in [0, 1]")
    require(settings.temperature is None or 0 <= settings.temperature <= 1, "temperature", "null or in [0, 1]")
    require(0 < settings.corrector_ratio < 1, "corrector_ratio", "in (0, 1)")
    require(0 <= settings.eta <= 1, "eta", "in [0, 1]")
    for key in (
        "sigma_per_pixel", "corrector_below", "model_error", "restarts", "churn", "stop_change", "latent_prior_fade",
        "mixture_detail",
    ):  # fmt: skip
        require(getattr(settings, key) >= 0, key, "non-negative")
    for key in ("runs", "corrector_steps", "ode_steps"):
        require(getattr(settings, key) >= 1, key, "at least 1")
    require(settings.cg_iterations is None or settings.cg_iterations >= 1, "cg_iterations", "null or at least 1")
    for key in ("strength", "latent_prior_variance"):
        require(getattr(settings, key) is None or getattr(settings, key) > 0, key, "null or positive")
    for key in ("noise_factor", "least_noise", "cutoff", "red_weight", "red_rate"):
        require(getattr(settings, key) > 0, key, "positive")
    require(0 <= settings.latent_prior_share <= 1, "latent_prior_share", "between 0 and 1")
    trust = settings.trust
    known = trust is None or len(trust) == 3 and all(math.isfinite(value) for value in trust)
    require(known, "trust", "null or 3 finite numbers")
    require(settings.order in (1, 2, 3), "order", "1, 2 or 3")
    require(settings.tile >= 32, "tile", "at least 32")


def _require(settings: "SamplerSettings", condition: bool, key: str, expectation: str) -> None:
    if not condition:
        raise ValueError(f"{key} must be {expectation}, got {getattr(settings, key)}")
