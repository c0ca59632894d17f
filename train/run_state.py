"""Checkpoints of a run: written whole, resumed by running the same command again."""

import os
import shutil
from pathlib import Path

from accelerate import Accelerator

__all__ = ["RunState", "latest_checkpoint", "load_checkpoint", "save_checkpoint"]


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
        """Adds `count` losses of a given mean."""
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
        self._loss_sum, self._loss_count = state.get("loss_sum", 0.0), state.get("loss_count", 0)


def checkpoints(run_dir: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path for path in (run_dir / "checkpoints").glob("step_*") if not path.name.endswith(".part"))


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The newest finished checkpoint of a run, or None."""
    found = checkpoints(run_dir)
    return found[-1] if found else None


def save_checkpoint(accelerator: Accelerator, run_dir: Path, step: int, keep: int) -> None:
    """Writes a checkpoint under a temporary name, renames it, and removes all but the `keep` newest."""
    final = run_dir / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".part")
    if accelerator.is_main_process:
        # What a killed run left half written.
        for stale in (run_dir / "checkpoints").glob("*.part"):
            shutil.rmtree(stale)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():
            shutil.rmtree(final)
        os.replace(partial, final)
        for old in checkpoints(run_dir)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, checkpoint: Path) -> None:
    """Restores everything prepared by or registered with the accelerator.

    Raises:
        ValueError: If the checkpoint does not fit the network or the optimizer.
    """
    try:
        accelerator.load_state(str(checkpoint))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot resume from {checkpoint}: {reason}") from error

