"""A sweep as Weights & Biases describes it in a YAML file, made into a list of runs without an account.

Of the format (https://docs.wandb.ai/guides/sweeps/sweep-config-keys) this reads the methods `grid` and `random`,
and of parameters a `value`, `values` (with `probabilities`), and the distributions of `DISTRIBUTIONS`. What it
does not read is refused, not passed over; the method `bayes` and early stopping need the server.
"""

import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

__all__ = ["DISTRIBUTIONS", "SweepPlan", "read_sweep"]

DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], Callable[..., object]]] = {
    "uniform": (("min", "max"), lambda rng, low, high: float(rng.uniform(low, high))),
    "int_uniform": (("min", "max"), lambda rng, low, high: int(rng.integers(low, high, endpoint=True))),
    "log_uniform_values": (
        ("min", "max"), lambda rng, low, high: math.exp(rng.uniform(math.log(low), math.log(high)))
    ),
    "normal": (("mu", "sigma"), lambda rng, mu, sigma: float(rng.normal(mu, sigma))),
}  # fmt: skip
"""Keys of a distribution and how it is drawn; numbers are rounded to four digits."""

_KEYS = {"program", "method", "metric", "parameters", "command", "run_cap", "name", "description", "project", "entity"}
_COMMAND = ("${env}", "${interpreter}", "${program}", "${args_no_hyphens}")


@dataclass(frozen=True)
class SweepPlan:
    """Runs of a sweep.

    Attributes:
        command: Words of the command, with W&B's macros.
        program: The script of the macro `${program}`.
        metric: Figure of the log that the runs are ranked by.
        maximize: Whether more of it is better.
        combinations: Values of the parameters that vary, a dictionary a run.
        constants: Values of those that do not.
    """

    command: tuple[str, ...]
    program: str
    metric: str
    maximize: bool
    combinations: tuple[dict[str, object], ...]
    constants: dict[str, object]

    def words(self, combination: dict[str, object]) -> list[str]:
        """The command of a run, its macros filled in."""
        settings = self.constants | combination
        assignments = [f"{key}={'null' if value is None else value}" for key, value in settings.items()]
        macros = {
            "${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable], "${program}": [self.program],
            "${args_no_hyphens}": assignments, "${args}": [f"--{word}" for word in assignments],
        }  # fmt: skip
        return [word for part in self.command for word in macros.get(part, [part])]


def read_sweep(file: str | Path, count: int | None = None, seed: int = 0) -> SweepPlan:
    """Reads a sweep.

    Args:
        file: YAML file in the format of W&B sweeps.
        count: Number of runs of a random sweep; `run_cap` of the file if None. A grid is cut after as many.
        seed: Seed of a random sweep.

    Raises:
        ValueError: If the file cannot be read, or asks for what only the server of W&B can do.
    """
    content = _read(Path(file))

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{file}: expected {what}")

    unknown = sorted(set(content) - _KEYS)
    require(not unknown, f"keys among {', '.join(sorted(_KEYS))}, got {', '.join(unknown)}")
    method, parameters = content.get("method"), content.get("parameters")
    require(method in ("grid", "random"), f"method grid or random (bayes needs the server of W&B), got {method}")
    require(isinstance(parameters, dict) and bool(parameters), "parameters")
    metric = content.get("metric")
    named = isinstance(metric, dict) and isinstance(metric.get("name"), str)
    require(
        named and metric.get("goal", "minimize") in ("maximize", "minimize"),
        f"a metric with name and goal (maximize or minimize), got {metric}",
    )
    choices, constants = {}, {}
    for key, description in parameters.items():
        try:
            draw = _parameter(description, method)
            if isinstance(draw, tuple):
                # What numpy cannot draw it refuses without a name.
                _drawn(draw, np.random.default_rng(seed))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{file}: parameter {key}: {error}") from None
        if isinstance(draw, list) and len(draw) == 1:
            constants[key] = draw[0]
        else:
            choices[key] = draw
    count = count if count is not None else content.get("run_cap")
    require(count is None or (isinstance(count, int) and count >= 1), f"run_cap of at least 1, got {count}")
    if method == "grid":
        combinations = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
        combinations = combinations[:count]
    else:
        require(count is not None, "run_cap, the number of random runs")
        # A run's values are those of its number: a longer sweep begins with the same runs.
        generators = [np.random.default_rng([seed, number]) for number in range(count)]
        combinations = [{key: _drawn(draw, rng) for key, draw in choices.items()} for rng in generators]
    command = content.get("command") or list(_COMMAND)
    require(isinstance(command, list), f"a command as a list of words, got {command}")
    command = tuple(map(str, command))
    program = str(content.get("program", "train/score.py"))
    maximize = metric.get("goal", "minimize") == "maximize"
    return SweepPlan(command, program, metric["name"], maximize, tuple(combinations), constants)


def _read(file: Path) -> dict:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except OSError as error:
        raise ValueError(f"cannot read the sweep {file}: {error.strerror}") from None
    except Exception as error:
        # YAML errors come in many classes of a package that is not ours to import.
        raise ValueError(f"{file} is not a YAML file: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected the keys of a sweep, got a list")
    return content


def _parameter(description: object, method: str) -> list | tuple[Callable, list]:
    """The values of a parameter, or how it is drawn."""
    if not isinstance(description, dict):
        raise ValueError(f"expected value, values or a distribution, got {description}")
    known = {"value", "values", "probabilities", "distribution"}.union(*(keys for keys, _ in DISTRIBUTIONS.values()))
    unknown = sorted(set(description) - known)
    if unknown:
        raise ValueError(f"expected keys among {', '.join(sorted(known))}, got {', '.join(unknown)}")
    if "value" in description:
        return [description["value"]]
    values = description.get("values")
    if values is not None:
        if not isinstance(values, list) or not values:
            raise ValueError(f"expected values as a list, got {values}")
        if "probabilities" not in description or method == "grid":
            return values
        shares = _shares(description["probabilities"], len(values))
        return (lambda rng: values[rng.choice(len(values), p=shares)]), []
    if method == "grid":
        raise ValueError("a grid needs value or values")
    integers = all(isinstance(description.get(key), int) for key in ("min", "max"))
    name = description.get("distribution", "int_uniform" if integers else "uniform")
    if name not in DISTRIBUTIONS:
        raise ValueError(f"expected a distribution among {', '.join(DISTRIBUTIONS)}, got {name}")
    keys, draw = DISTRIBUTIONS[name]
    missing = [key for key in keys if not _is_number(description.get(key))]
    if missing:
        raise ValueError(f"the distribution {name} needs a number for {' and '.join(missing)}")
    arguments = [description[key] for key in keys]
    _check_arguments(name, *arguments)
    return draw, arguments


def _shares(shares: object, count: int) -> list[float]:
    """The probabilities of values, which numpy would refuse without saying whose they are."""
    known = isinstance(shares, list) and len(shares) == count and all(_is_number(share) for share in shares)
    if not known or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-8):
        raise ValueError(f"expected probabilities of {count} values that sum to 1, got {shares}")
    return shares


def _check_arguments(name: str, first: float, second: float) -> None:
    if name == "normal":
        if second < 0:
            raise ValueError(f"the distribution normal needs a sigma that is not negative, got {second}")
        return
    if first > second:
        raise ValueError(f"the distribution {name} needs a min of at most max, got {first} and {second}")
    if name == "log_uniform_values" and first <= 0:
        raise ValueError(f"the distribution log_uniform_values needs a min above 0, got {first}")
    if name == "int_uniform" and not all(isinstance(end, int) for end in (first, second)):
        raise ValueError(f"the distribution int_uniform needs whole numbers, got {first} and {second}")


def _is_number(value: object) -> bool:
    # True and false are integers to Python; no distribution has infinite ends.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _drawn(draw: list | tuple[Callable, list], rng: np.random.Generator) -> object:
    if isinstance(draw, list):
        return draw[int(rng.integers(len(draw)))]
    function, arguments = draw
    value = function(rng, *arguments)
    return float(f"{value:.4g}") if isinstance(value, float) else value
