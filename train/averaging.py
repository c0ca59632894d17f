"""Averages of the weights over a run, of any length: power-function averages.

After step t the average of exponent gamma follows the weights theta by

    average(t) = b average(t - 1) + (1 - b) theta(t),   b = (1 - 1/t)^(gamma + 1)

so that the weight of the iterates up to step s is (s / t)^(gamma + 1): the memory grows with the run.
The length is the standard deviation of that profile as a share of the run. Averages of two lengths,
written out now and then, give those of other lengths afterwards: the combination of snapshots whose
profile is nearest to the one that is wanted in the least-squares sense (Karras et al., "Analyzing and
Improving the Training Dynamics of Diffusion Models", CVPR 2024, https://arxiv.org/abs/2312.02696,
section 3 and appendix C).

diffusers' EMAModel has no such averages. ema-pytorch has, but pickles its snapshots; here they are
safetensors, and the state is part of the checkpoints.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = [
    "PowerAverages", "Snapshot", "averaged_weights", "combine", "drop_snapshots_after", "exponent", "find_snapshots",
    "profile_weights",
]  # fmt: skip

LONGEST = 12**-0.5
"""The length of the plain mean of all iterates, exponent 0; no average of the family is longer."""


def exponent(length: float) -> float:
    """The exponent gamma of a length: the largest root of (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = length^2.

    Raises:
        ValueError: If the length is not in (0, 12^-1/2).
    """
    if not 0 < length < LONGEST:
        raise ValueError(f"the length of an average must be in (0, {LONGEST:.4f}), got {length}")
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class PowerAverages:
    """Running averages of parameters; equal on every process because the parameters are.

    Args:
        parameters: What is averaged.
        lengths: Lengths of the averages as shares of the run.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lengths: Sequence[float]) -> None:
        self.lengths = tuple(lengths)
        self.exponents = [exponent(length) for length in self.lengths]
        self.step = 0
        weights = [parameter.detach() for parameter in parameters]
        self.averages = [[weight.clone() for weight in weights] for _ in self.lengths]

    @torch.no_grad()
    def update(self, parameters: Iterable[nn.Parameter]) -> None:
        """Takes in the weights after one more optimizer step."""
        self.step += 1
        weights = [parameter.detach() for parameter in parameters]
        for gamma, average in zip(self.exponents, self.averages, strict=True):
            torch._foreach_lerp_(average, weights, 1 - (1 - 1 / self.step) ** (gamma + 1))

    def state_dict(self) -> dict:
        """What a checkpoint holds."""
        return {"step": self.step, "lengths": list(self.lengths), "averages": self.averages}

    def load_state_dict(self, state: dict) -> None:
        """Takes over what a checkpoint holds."""
        if tuple(state["lengths"]) != self.lengths:
            raise ValueError(f"averages of lengths {list(self.lengths)} are wanted, got {state['lengths']}")
        self.step = state["step"]
        for average, loaded in zip(self.averages, state["averages"], strict=True):
            for ours, theirs in zip(average, loaded, strict=True):
                ours.copy_(theirs)

    def write_snapshot(self, folder: Path, names: Iterable[str]) -> None:
        """Writes the averages in half precision as `folder/step_*.safetensors`; replaces an older file.

        Args:
            folder: Where; made if it is missing.
            names: Names of the parameters.

        Raises:
            OSError: If the file cannot be written, the disk being full for example.
        """
        folder.mkdir(exist_ok=True)
        names = list(names)
        tensors = {
            f"{length}/{name}": weight.to("cpu", torch.float16).contiguous()
            for length, average in zip(self.lengths, self.averages, strict=True)
            for name, weight in zip(names, average, strict=True)
        }
        final = folder / f"step_{self.step:08d}.safetensors"
        partial = final.with_name(final.name + ".part")
        try:
            save_file(tensors, partial, {"step": str(self.step), "lengths": json.dumps(self.lengths)})
        except SafetensorError as error:
            partial.unlink(missing_ok=True)
            raise OSError(f"cannot write {final}: {error}") from error
        partial.replace(final)


@contextmanager
def averaged_weights(averages: PowerAverages, network: nn.Module) -> Iterator[None]:
    """Puts the average of the first length into the network for the time of a `with` block."""
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    _copy(averages.averages[0], network)
    try:
        yield
    finally:
        _copy(weights, network)


@torch.no_grad()
def _copy(weights: Iterable[Tensor], network: nn.Module) -> None:
    for parameter, weight in zip(network.parameters(), weights, strict=True):
        parameter.copy_(weight)


class Snapshot:
    """One average in a file of snapshots.

    Attributes:
        file: The file.
        step: Optimizer steps that it averages.
        length: Its length as a share of them.
    """

    def __init__(self, file: Path, step: int, length: float) -> None:
        self.file, self.step, self.length = file, step, length

    def tensors(self) -> dict[str, Tensor]:
        """The averaged parameters by name, in double precision."""
        prefix = f"{self.length}/"
        with safe_open(self.file, framework="pt") as file:
            names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 - not a dictionary
            return {key.removeprefix(prefix): file.get_tensor(key).double() for key in names}


def find_snapshots(folder: Path) -> list[Snapshot]:
    """All averages in a folder of snapshots, oldest first.

    Raises:
        ValueError: If there are none, or a file is damaged.
    """
    found = []
    for file in sorted(folder.glob("step_*.safetensors")):
        try:
            with safe_open(file, framework="pt") as content:
                about = content.metadata()
            found += [Snapshot(file, int(about["step"]), float(length)) for length in json.loads(about["lengths"])]
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{file}: expected a snapshot of averages, got a damaged file ({error})") from None
    if not found:
        raise ValueError(f"expected snapshots step_*.safetensors in {folder}, got none")
    return found


def drop_snapshots_after(step: int, folder: Path) -> None:
    """Removes the files of steps that a resumed run has yet to do, and what a killed run left half written."""
    for file in folder.glob("step_*"):
        # Files of other names are somebody's copies.
        name = re.fullmatch(r"step_(\d+)\.safetensors(\.part)?", file.name)
        if name is not None and (name[2] or int(name[1]) > step):
            file.unlink()


def profile_weights(snapshots: Sequence[tuple[int, float]], step: int, length: float) -> tuple[np.ndarray, float]:
    """Weights of averages whose sum is nearest to an average of another length.

    Args:
        snapshots: (step, length) of the N averages there are.
        step: Step of the average that is wanted, at most the last of theirs.
        length: Its length as a share of the steps.

    Returns:
        Weights, shape (N,), which add up to 1, and the error of the profile relative to its norm.

    Raises:
        ValueError: If the length is impossible.
    """
    steps = np.array([s for s, _ in snapshots], dtype=np.float64)
    exponents = np.array([exponent(one) for _, one in snapshots])
    wanted_step, wanted_exponent = np.array([float(step)]), np.array([exponent(length)])
    norm = _overlaps(wanted_step, wanted_exponent, wanted_step, wanted_exponent)[0, 0]
    gram = _overlaps(steps, exponents, steps, exponents) / norm
    right = _overlaps(steps, exponents, wanted_step, wanted_exponent)[:, 0] / norm
    # Least squares under the condition that the weights add up to 1, by a Lagrange multiplier. Profiles of
    # neighbouring snapshots are nearly alike: of all solutions, that of the smallest weights.
    ones = np.ones((len(steps), 1))
    system = np.block([[gram, ones], [ones.T, np.zeros((1, 1))]])
    weights = np.linalg.lstsq(system, np.append(right, 1.0), rcond=1e-12)[0][:-1]
    squared_error = 1 - 2 * weights @ right + weights @ gram @ weights
    return weights, float(np.sqrt(max(squared_error, 0.0)))


def _overlaps(steps_a: np.ndarray, gamma_a: np.ndarray, steps_b: np.ndarray, gamma_b: np.ndarray) -> np.ndarray:
    """Inner products of profiles (gamma + 1) s^gamma / t^(gamma + 1) on [0, t], all pairs: (A,), (B,) -> (A, B)."""
    steps_a, gamma_a = steps_a[:, None], gamma_a[:, None]
    longer = np.maximum(steps_a, steps_b)
    # The profile of the longer one is raised to its exponent where the shorter one ends.
    gamma = np.where(steps_a < steps_b, gamma_b, gamma_a)
    ratio = np.minimum(steps_a, steps_b) / longer
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * ratio**gamma / longer


def combine(snapshots: Sequence[Snapshot], step: int, length: float) -> tuple[dict[str, Tensor], float]:
    """The average of a length at a step from snapshots of other lengths.

    Args:
        snapshots: Averages of one run; those after the step are not used.
        step: Optimizer step.
        length: Length as a share of the steps.

    Returns:
        Parameters by name, float32, and the relative error of the profile.

    Raises:
        ValueError: If the length is impossible, or there is no snapshot of that step.
    """
    used = [snapshot for snapshot in snapshots if snapshot.step <= step]
    if not used or used[-1].step != step:
        known = sorted({snapshot.step for snapshot in snapshots})
        raise ValueError(f"expected a step with a snapshot, {', '.join(map(str, known))}, got {step}")
    weights, error = profile_weights([(snapshot.step, snapshot.length) for snapshot in used], step, length)
    total: dict[str, Tensor] = {}
    for weight, snapshot in zip(weights, used, strict=True):
        for name, tensor in snapshot.tensors().items():
            if tensor.shape != total.setdefault(name, torch.zeros_like(tensor)).shape:
                raise ValueError(f"{snapshot.file}: expected parameters as in the snapshots before, got others")
            total[name].add_(tensor, alpha=weight)
    return {name: tensor.float() for name, tensor in total.items()}, error
