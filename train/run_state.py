"""Checkpoints of a run: written whole, resumed by running the same command again.

A checkpoint is a folder `checkpoints/step_*` of what Accelerate saves, with SHA256SUMS of all of it. It is
written under another name and renamed; one that was damaged later is passed over for the one before. It stays
until the run has passed its step, and takes no place of those that are kept.
"""

import hashlib
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from train.processes import on_every_process, on_main_process

__all__ = ["RunState", "find_checkpoints", "newest_whole_checkpoint", "resume", "save_checkpoint"]

SUMS = "SHA256SUMS"


class RunState:
    """What a run must remember besides weights, optimizer and average: its steps, and losses not logged yet."""

    def __init__(self) -> None:
        self.step = 0
        self._loss_sum, self._loss_count = 0.0, 0

    @property
    def mean_loss(self) -> float:
        """Mean of the losses added since they were last forgotten."""
        return self._loss_sum / self._loss_count

    def add_losses(self, mean: float, count: int) -> None:
        """Adds the losses of `count` steps, by their mean."""
        self._loss_sum += mean * count
        self._loss_count += count

    def forget_losses(self) -> None:
        """Starts a new mean."""
        self._loss_sum, self._loss_count = 0.0, 0

    def state_dict(self) -> dict:
        """What a checkpoint holds."""
        return {"step": self.step, "loss_sum": self._loss_sum, "loss_count": self._loss_count}

    def load_state_dict(self, state: dict) -> None:
        """Takes over what a checkpoint holds."""
        self.step = state["step"]
        self._loss_sum, self._loss_count = state["loss_sum"], state["loss_count"]


def find_checkpoints(run_dir: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    # Copies that somebody made beside them have other names, and are nobody's business here.
    found = (run_dir / "checkpoints").glob("step_*")
    return sorted(path for path in found if re.fullmatch(r"step_\d{8,}", path.name) and path.is_dir())


def newest_whole_checkpoint(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are as they were written, and what is wrong with newer ones.

    Raises:
        ValueError: If there are checkpoints and all are damaged.
    """
    found, damages = find_checkpoints(run_dir), []
    for checkpoint in reversed(found):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint, damages
        damages.append(damage)
    if found:
        raise ValueError(
            f"expected a whole checkpoint in {run_dir / 'checkpoints'}, got damaged ones only ({damages[0]}); "
            "move the run's folder away to start over"
        )
    return None, []


def resume(accelerator: Accelerator, run_dir: Path) -> Path | None:
    """Restores the newest whole checkpoint on every process; damaged ones are named on the error output.

    Returns:
        The checkpoint, or None if the run has none.

    Raises:
        ValueError: If all checkpoints are damaged, or it does not fit the network or the optimizer.
    """
    # One process looks, so that all take the same.
    checkpoint, damages = on_main_process(accelerator, lambda: newest_whole_checkpoint(run_dir))
    if accelerator.is_main_process:
        for damage in damages:
            print(f"warning: {damage}; it is passed over", file=sys.stderr)
    if checkpoint is None:
        return None
    try:
        # Onto the CPU first, as one process does by itself: an optimizer's counters that lay on a GPU would stay there,
        # and be read back at every step.
        accelerator.load_state(str(checkpoint), map_location="cpu")
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"cannot resume from {checkpoint}: expected a network and optimizer as the settings describe, got others "
            f"({_cause(error)})"
        ) from error
    return checkpoint


def save_checkpoint(accelerator: Accelerator, run_dir: Path, step: int, keep: int) -> None:
    """Writes a checkpoint under a temporary name, renames it, and removes all older ones but the newest whole ones.

    Args:
        accelerator: What is saved.
        run_dir: Folder of the run.
        step: Optimizer steps done.
        keep: Number of whole checkpoints that are left, this one included.

    Raises:
        OSError: If it cannot be written, the disk being full for example; older checkpoints stay.
    """
    final = run_dir / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".part")

    def sweep() -> None:
        # What a killed run left half written.
        for stale in (run_dir / "checkpoints").glob("step_*.part"):
            if re.fullmatch(r"step_\d{8,}\.part", stale.name):
                shutil.rmtree(stale)

    def complete() -> None:
        _write_sums(partial)
        if final.exists():
            shutil.rmtree(final)
        os.replace(partial, final)

    try:
        on_main_process(accelerator, sweep)
        on_every_process(accelerator, lambda: _write(accelerator, partial))
        on_main_process(accelerator, complete)
    except OSError as error:
        free = shutil.disk_usage(run_dir).free / 2**20
        shutil.rmtree(partial, ignore_errors=True)
        older = _before(final)
        left = f"the last good one is {older[-1]}" if older else "there is none yet"
        raise OSError(
            f"cannot write the checkpoint {final}: {error.strerror or error} "
            f"({free:.0f} MiB free); {left}"
        ) from error
    if accelerator.is_main_process:
        _prune(final, keep)
    accelerator.wait_for_everyone()


def _before(checkpoint: Path) -> list[Path]:
    """Checkpoints of earlier steps, oldest first; those of later steps were passed over when the run was resumed."""
    return [other for other in find_checkpoints(checkpoint.parent.parent) if other.name < checkpoint.name]


def _prune(newest: Path, keep: int) -> None:
    """Removes all earlier checkpoints but the newest whole ones, so that `keep` are left with one just written."""
    kept = 1
    for old in reversed(_before(newest)):
        if kept < keep and _damage(old) is None:
            kept += 1
        else:
            shutil.rmtree(old)


def _cause(error: Exception) -> str:
    """What an error says, in one line that is not too long; torch gives a heading and a line for every tensor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return textwrap.shorten(" ".join(lines[:2] if lines[0].endswith(":") else lines[:1]), 400, placeholder=" ...")


def _write(accelerator: Accelerator, folder: Path) -> None:
    try:
        accelerator.save_state(str(folder))
    except (RuntimeError, SafetensorError) as error:
        # What torch and safetensors raise where a file cannot be written.
        raise OSError(f"a file could not be written, {str(error).partition(chr(10))[0]}") from error


def _write_sums(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    (folder / SUMS).write_text("".join(f"{_digest(file)}  {file.name}\n" for file in files), encoding="utf-8")


def _damage(folder: Path) -> str | None:
    """One sentence on what is wrong with a checkpoint, or None."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        for line in lines:
            digest, _, name = line.partition("  ")
            if _digest(folder / name) != digest:
                return f"{folder / name} is not as it was written"
    except (OSError, UnicodeDecodeError) as error:
        return f"{folder} cannot be read ({error})"
    return None if lines else f"{folder / SUMS} is empty"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
