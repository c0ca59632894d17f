"""The log of a run: JSON lines in the run's folder always, Weights & Biases beside it when asked for."""

import json
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from photos.files import make_folder, replacing
from train.config import TrainingConfig
from train.wandb_run import WandbRun

__all__ = ["Tracker", "memory_figures"]


class Tracker:
    """Writes scalars and pictures; only the main process of a run has one that writes.

    The JSON lines are the truth: one object a line, each with `step`. When a run is resumed, lines
    after the checkpoint's step are dropped, so that the log is that of an uninterrupted run. What
    happens to W&B is said in `train/wandb_run.py`; whatever it is, the JSON lines are written first.

    Args:
        config: Settings of the run.
        first_step: Optimizer steps already done.
        writes: Whether this process writes at all.
    """

    def __init__(self, config: TrainingConfig, first_step: int, *, writes: bool) -> None:
        self._writes = writes
        self._wandb = None
        if not writes:
            return
        self._artifacts = config.run.artifacts
        self._dir = Path(config.run.dir)
        self._log = self._dir / "log.jsonl"
        self._drop_lines_after(first_step)
        if config.run.wandb != "disabled":
            self._wandb = WandbRun(config, first_step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs numbers at a step."""
        if not self._writes:
            return
        try:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise OSError(f"cannot write {self._log}: {error.strerror or error}") from error
        if self._wandb is not None:
            self._wandb.scalars(step, values)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Logs an 8-bit picture of shape (H, W, 3), also written to `panels/`."""
        if not self._writes:
            return
        from PIL import Image

        folder = self._dir / "panels"
        make_folder(folder)
        with replacing(folder / f"{name}_{step:08d}.png") as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
        if self._wandb is not None:
            self._wandb.picture(step, name, pixels)

    def wants_weights(self, *, final: bool) -> bool:
        """Whether exported weights of this moment are to be stored at W&B."""
        if self._wandb is None or self._wandb.mode != "online":
            return False
        return self._artifacts == "checkpoints" or (final and self._artifacts == "final")

    def weights(self, step: int, folder: Path, *, final: bool) -> None:
        """Stores a pipeline folder at W&B, see `wants_weights`; the folder may be removed afterwards."""
        if self._wandb is not None:
            self._wandb.weights(step, folder, final=final)

    def close(self) -> None:
        """Ends the W&B run, if any."""
        if self._wandb is not None:
            self._wandb.finish()

    def _drop_lines_after(self, step: int) -> None:
        if not self._log.exists():
            return
        kept, damaged = [], []
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line.rstrip("\n") + "\n")
            except (json.JSONDecodeError, KeyError, TypeError):
                # The last line of a killed run may be cut short.
                if line.endswith("\n") or number < len(lines):
                    damaged.append(number)
        if damaged:
            copy = self._log.with_name(f"{self._log.name}.damaged")
            shutil.copyfile(self._log, copy)
            what = f"line {damaged[0]}" if len(damaged) == 1 else f"{len(damaged)} lines from {damaged[0]} on"
            print(f"warning: {self._log}: {what} cannot be read; passed over, and kept in {copy.name}", file=sys.stderr)
        with replacing(self._log) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


def memory_figures(device: torch.device) -> dict[str, float]:
    """Largest memory so far in MiB, of this process and, if it has one, of its GPU, under the log's names."""
    unit = 1 if sys.platform == "darwin" else 1024
    figures = {"memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)}
    if device.type == "cuda":
        figures["gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return figures
