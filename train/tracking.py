"""The log of a run: JSON lines in the run's folder always, Weights & Biases beside it when asked for."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np

from train.config import ScoreConfig

__all__ = ["Tracker"]


class Tracker:
    """Writes scalars and pictures; only the main process of a run has one that writes.

    The JSON lines are the truth: one object a line, each with `step`. When a run is resumed, lines
    after the checkpoint's step are dropped, so that the log is that of an uninterrupted run. W&B gets
    one run per segment, grouped by the run's folder, with `step` as the horizontal axis: an offline
    W&B run cannot be resumed.

    Args:
        config: Settings of the run.
        first_step: Optimizer steps already done.
        writes: Whether this process writes at all.
    """

    def __init__(self, config: ScoreConfig, first_step: int, *, writes: bool) -> None:
        self._writes = writes
        self._wandb = None
        if not writes:
            return
        self._dir = Path(config.run.dir)
        self._log = self._dir / "log.jsonl"
        self._drop_lines_after(first_step)
        if config.run.wandb != "disabled":
            self._wandb = _start_wandb(config, self._dir, first_step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs numbers at a step."""
        if not self._writes:
            return
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **values}) + "\n")
        if self._wandb is not None:
            self._wandb.log({"step": step, **values})

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Logs an 8-bit picture of shape (H, W, 3), also written to `panels/`."""
        if not self._writes:
            return
        from PIL import Image

        folder = self._dir / "panels"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name}_{step:08d}.png")
        if self._wandb is not None:
            import wandb

            self._wandb.log({"step": step, name: wandb.Image(pixels)})

    def close(self) -> None:
        """Ends the W&B run, if any."""
        if self._wandb is not None:
            self._wandb.finish()

    def _drop_lines_after(self, step: int) -> None:
        if not self._log.exists():
            return
        kept = []
        for line in self._log.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                # The last line of a killed run may be cut short.
                continue
        temporary = self._log.with_name(self._log.name + ".part")
        temporary.write_text("".join(kept), encoding="utf-8")
        os.replace(temporary, self._log)


def git_commit() -> str | None:
    """The commit of the project's checkout, with `-dirty` if it was changed; None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _start_wandb(config: ScoreConfig, folder: Path, first_step: int):  # noqa: ANN202 - wandb is imported here only
    import wandb

    run = wandb.init(
        project=config.run.project, group=folder.name, name=f"{folder.name}-from-{first_step}", job_type="train",
        config=dataclasses.asdict(config) | {"git_commit": git_commit()}, dir=str(folder), mode=config.run.wandb,
        settings=wandb.Settings(silent=config.run.wandb == "offline"),
    )  # fmt: skip
    run.define_metric("*", step_metric="step")
    return run
