"""A run at Weights & Biases that cannot stop the training: its first error is told once, then it is silent.

A run folder keeps the id and the group of its W&B run in `wandb.json`, so that a resumed training
continues the same W&B run where W&B is online. Offline, W&B cannot resume: every segment of the
training is a W&B run of its own, in one group. `step` is the horizontal axis of everything.
"""

import dataclasses
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from photos.files import replacing
from train.config import TrainingConfig

__all__ = ["WandbRun", "wandb_identity"]

_START_SECONDS = 60
_FINISH_SECONDS = 600


class WandbRun:
    """Scalars, pictures and weights at W&B.

    Args:
        config: Settings of the training run.
        first_step: Optimizer steps already done.
    """

    def __init__(self, config: TrainingConfig, first_step: int) -> None:
        self._run, self._known_step, self.mode = None, 0, "lost"
        self._folder = config.run.dir
        errors = []
        for mode in ("online", "offline") if config.run.wandb == "online" else ("offline",):
            try:
                self._run, self.mode = _start(config, first_step, mode), mode
                break
            except Exception as error:
                # Of any class: W&B's own, those of the network, of a package that is missing or broken.
                errors.append(error)
        if self._run is None:
            self._lose(errors[0])
        elif errors:
            self._warn(errors[0], "this part of the run is written offline, for `wandb sync`")
        self._attempt(self._find_known_step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs numbers at a step."""
        if step >= self._known_step:
            self._attempt(lambda: self._run.log({"step": step, **values}))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Logs an 8-bit picture of shape (H, W, 3)."""

        def send() -> None:
            import wandb

            self._run.log({"step": step, name: wandb.Image(pixels)})

        if step >= self._known_step:
            self._attempt(send)

    def weights(self, step: int, folder: Path, *, final: bool) -> None:
        """Stores a pipeline folder as the next version of the run's artifact; the folder may go afterwards."""

        def send() -> None:
            import wandb

            artifact = wandb.Artifact(f"{self._run.group}-weights", type="model", metadata={"step": step})
            artifact.add_dir(str(folder))
            self._run.log_artifact(artifact, aliases=["latest", f"step-{step}", *(["final"] if final else [])])

        self._attempt(send)

    def finish(self) -> None:
        """Ends the run; waits for uploads, but not for ever."""
        self._attempt(lambda: self._run.finish())

    def _find_known_step(self) -> None:
        # A resumed W&B run has the steps between the checkpoint and the interruption already.
        if self._run.resumed:
            self._known_step = int(self._run.summary.get("step") or 0)

    def _attempt(self, call: Callable[[], object]) -> None:
        if self._run is None:
            return
        try:
            call()
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._run, self.mode = None, "lost"
        self._warn(error, "the training goes on without it")

    def _warn(self, error: Exception, consequence: str) -> None:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        print(
            f"{self._folder}: Weights & Biases failed ({reason}); {consequence}, and log.jsonl is complete",
            file=sys.stderr,
        )


def wandb_identity(folder: Path) -> dict[str, str] | None:
    """Id and group of the W&B run of a training run's folder; None if it never had one."""
    try:
        stored = json.loads((folder / "wandb.json").read_text(encoding="utf-8"))
        return {"id": str(stored["id"]), "group": str(stored["group"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def git_commit() -> str | None:
    """The commit of the project's checkout, with `-dirty` if it was changed; None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _start(config: TrainingConfig, first_step: int, mode: str):  # noqa: ANN202 - wandb is imported here only
    import wandb

    folder = Path(config.run.dir)
    identity = wandb_identity(folder) or _new_identity(folder)
    name = folder.resolve().name
    if mode == "online":
        which = {"id": identity["id"], "name": name, "resume": "allow"}
    else:
        which = {"name": f"{name}-from-{first_step}"}
    settings = wandb.Settings(silent=mode == "offline", init_timeout=_START_SECONDS, finish_timeout=_FINISH_SECONDS)
    run = wandb.init(
        project=config.run.project, group=identity["group"], job_type="train", dir=str(folder), mode=mode,
        config=dataclasses.asdict(config) | {"git_commit": git_commit()}, allow_val_change=True, settings=settings,
        **which,
    )  # fmt: skip
    run.define_metric("*", step_metric="step")
    return run


def _new_identity(folder: Path) -> dict[str, str]:
    # The agent of a W&B sweep decides itself which run this is.
    unique = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    identity = {"id": unique, "group": f"{folder.resolve().name}-{unique}"}
    with replacing(folder / "wandb.json") as temporary:
        temporary.write_text(json.dumps(identity) + "\n", encoding="utf-8")
    return identity
