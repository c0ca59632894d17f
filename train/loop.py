"""What every training here does beside its own objective: devices, optimizer, averages, log, checkpoints.

A script makes its network and objective, and gives the loss of a batch; `TrainingLoop.steps` yields after
each optimizer step, for the figures and pictures that are the script's own.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env
from omegaconf import OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from diffusion.precision import chosen_precision, single_is_single
from photos.files import make_folder
from samplers.config import ConfigError, write_config
from train.averaging import PowerAverages, averaged_weights, drop_snapshots_after
from train.changes import changed_settings
from train.config import OptimConfig, TrainingConfig
from train.left_out import LeftOut
from train.optimizer import optimizer_for
from train.processes import on_main_process
from train.run_folder import LEFT_OUT_LIST, check_begins, check_photos, check_place, listed, lock_run, write_photos
from train.run_state import RunState, find_checkpoints, resume, save_checkpoint
from train.sharp_photos import patch_loader
from train.tracking import Tracker, memory_figures

__all__ = ["Step", "TrainingLoop", "learning_rate_factor", "run_precision"]


@dataclass(frozen=True)
class Step:
    """An optimizer step that was done.

    Attributes:
        number: From 1.
        last: Whether the run is complete.
        logs: Whether figures are due.
        saves: Whether a checkpoint follows.
        scalars: Loss, gradient norm, learning rate and patches per second since the last log; empty if none is due.
    """

    number: int
    last: bool
    logs: bool
    saves: bool
    scalars: dict[str, float]

    def due(self, every: int) -> bool:
        """Whether what happens every so many steps, and at the end, happens now; never for 0."""
        return bool(every) and (self.number % every == 0 or self.last)


class TrainingLoop:
    """One run of training, on one process or several.

    Args:
        config: Settings of the script.
        allow_changes: Resumes a run although its settings were others.

    Attributes:
        accelerator: Devices and processes.
        run_dir: Folder of the run.
        micro_batch: Samples of one forward-backward pass of one process.
        resumes: Whether there is a run to go on with.
        left_out: Photos that this launch cannot use.
        network: The bare network, in full precision, for averages and panels; set by `start`.
        tracker: Log; set by `start`.

    Raises:
        ValueError: If the batch does not divide.
        ConfigError: If the run there has other settings.
    """

    def __init__(self, config: TrainingConfig, *, allow_changes: bool = False) -> None:
        single_is_single()
        # A run that goes on elsewhere is told if that would be in another precision.
        config = replace(config, run=replace(config.run, precision=run_precision(config)))
        optim, self.config, self.run_dir = config.optim, config, Path(config.run.dir)
        self.left_out, self._allow_changes = LeftOut(self.run_dir / LEFT_OUT_LIST), allow_changes
        self.accelerator = Accelerator(
            mixed_precision="bf16" if config.run.precision == "bf16" else "no",
            gradient_accumulation_steps=optim.accumulate,
            # The schedule counts optimizer steps; Accelerate would advance it once per process.
            step_scheduler_with_optimizer=False,
            # All buffers are constants.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        world = self.accelerator.num_processes
        if optim.batch % (world * optim.accumulate):
            raise ValueError(
                f"optim.batch={optim.batch} must be divisible by processes x optim.accumulate = "
                f"{world} x {optim.accumulate}"
            )
        self.micro_batch = optim.batch // (world * optim.accumulate)
        check_place(self.run_dir, self.config.data.root)
        self.resumes = on_main_process(self.accelerator, lambda: bool(find_checkpoints(self.run_dir)))
        if self.resumes:
            on_main_process(self.accelerator, self._check_settings)

    def preview(self, network: nn.Module, photos: Sequence[Path], photos_in_words: str) -> None:
        """Prints settings and sizes of what `start` would begin or go on with, and writes nothing.

        Raises:
            ConfigError: If the run began with other photos.
        """
        if self.resumes and not self._allow_changes:
            on_main_process(self.accelerator, lambda: check_photos(self.run_dir, listed(photos)))
        self.accelerator.print(
            f"{OmegaConf.to_yaml(OmegaConf.structured(self.config))}"
            f"{sum(p.numel() for p in network.parameters()):,} parameters; {photos_in_words}; {self._batch_in_words}"
        )

    @property
    def _batch_in_words(self) -> str:
        """How the patches of a step are shared out."""
        optim = self.config.optim
        return (
            f"{optim.batch} patches per optimizer step = {self.accelerator.num_processes} processes x "
            f"{optim.accumulate} accumulation steps x {self.micro_batch}"
        )

    def start(
        self, network: nn.Module, objective: nn.Module, photos: Sequence[Path], *remembered: object
    ) -> nn.Module:
        """Takes the run's folder, prepares optimizer and averages, goes on from the newest checkpoint, opens the log.

        Args:
            network: What is averaged and exported.
            objective: All that learns, the network included.
            photos: Files of training photos in their order; of a stream those that are on a disk.
            remembered: What a checkpoint holds beside weights, averages, optimizer and losses.

        Returns:
            The objective as it is to be called: under data parallelism gradients are averaged by its forward.

        Raises:
            ConfigError: If another launch has the folder, or the run began with other photos.
            ValueError: If its checkpoints cannot be used, or are of a later step than the last.
        """
        config, optim, accelerator = self.config, self.config.optim, self.accelerator
        optimizer = optimizer_for(objective.parameters(), optim)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, optim))
        self.network = network
        self._objective, self._optimizer, self._schedule = accelerator.prepare(objective, optimizer, schedule)
        self._averages, self._state = PowerAverages(network.parameters(), config.averages.lengths), RunState()
        accelerator.register_for_checkpointing(self._state, self._averages, *remembered)
        # A launcher that started fewer processes than expected is noticed by nothing else.
        accelerator.print(f"{self._batch_in_words}, in {config.run.precision}")
        on_main_process(accelerator, lambda: self._take_folder(photos))
        checkpoint = resume(accelerator, self.run_dir)
        if checkpoint is not None:
            if self._state.step > optim.steps:
                raise ValueError(
                    f"optim.steps must be at least {self._state.step}, the step of {checkpoint}, got {optim.steps}; "
                    "remove later checkpoints to go on from an earlier one"
                )
            accelerator.print(f"resuming from {checkpoint}")
            # It counts passes, of which a step may have had another number before.
            accelerator.step = self._state.step * optim.accumulate
        if accelerator.is_main_process:
            make_folder(self.run_dir / "checkpoints")
            write_config(config, self.run_dir / "config.yaml")
            write_photos(self.run_dir, self._photos)
            drop_snapshots_after(self._state.step, self.run_dir / "averages")
        accelerator.wait_for_everyone()
        self.tracker = Tracker(config, self._state.step, writes=accelerator.is_main_process)
        return self._objective

    def averaged(self):  # noqa: ANN201 - a context manager
        """While it lasts, the network has the averaged weights."""
        return averaged_weights(self._averages, self.network)

    def steps(
        self, samples: object, loss_of: Callable[[dict[str, Tensor]], Tensor], export: Callable[[Path], None]
    ) -> Iterator[Step]:
        """Trains, from where the run stands to `optim.steps`, exports to `run.dir/export` and closes the log.

        Args:
            samples: Data set whose sample n is a function of seed and n, as of `train.sharp_photos`.
            loss_of: Loss of a batch, a scalar.
            export: Writes the network to a folder; called with the averaged weights.

        Yields:
            Each optimizer step when it is done, before its checkpoint is written.

        Raises:
            ValueError: If the loss is not finite.
            OSError: If a checkpoint cannot be written.
        """
        accelerator, optim, run, state = self.accelerator, self.config.optim, self.config.run, self._state
        loader = patch_loader(
            samples, first_step=state.step, steps=optim.steps, micro_batch=self.micro_batch,
            rank=accelerator.process_index, world=accelerator.num_processes,
        )  # fmt: skip
        hidden = None if accelerator.is_main_process else True
        progress = tqdm(total=optim.steps, initial=state.step, unit="step", disable=hidden)
        started, counted_from = time.monotonic(), state.step
        for losses, norm, rate in self._optimize(loader, loss_of):
            progress.update()
            last = state.step == optim.steps
            logs, saves = state.step % run.log_every == 0 or last, state.step % run.save_every == 0 or last
            scalars = {}
            if logs or saves:
                # Before a checkpoint too, which carries the losses that are not logged yet.
                mean = accelerator.reduce(torch.stack(losses).mean(), reduction="mean")
                state.add_losses(float(mean), len(losses) // optim.accumulate)
                losses.clear()
                if not math.isfinite(state.mean_loss + float(norm)):
                    raise ValueError(
                        f"the loss is {state.mean_loss} and its gradient {float(norm)} at step {state.step}: "
                        "lower optim.lr"
                    )
            if logs:
                speed = (state.step - counted_from) * optim.batch / (time.monotonic() - started)
                scalars = {
                    "loss": state.mean_loss, "grad_norm": float(norm), "lr": rate, "patches_per_s": speed,
                    **memory_figures(accelerator.device),
                }  # fmt: skip
                state.forget_losses()
            yield Step(state.step, last, logs, saves, scalars)
            if saves and not last and self.tracker.wants_weights(final=False):
                with TemporaryDirectory() as folder:
                    self._export(export, Path(folder) / "export", final=False)
            # Before the checkpoint: a run that ends between the two writes the snapshot again.
            if (state.step % self.config.averages.every == 0 or last) and accelerator.is_main_process:
                names = [name for name, _ in self.network.named_parameters()]
                self._averages.write_snapshot(self.run_dir / "averages", names)
            if saves:
                save_checkpoint(accelerator, self.run_dir, state.step, run.keep)
            if logs:
                # Only now: what the script shows, and checkpoints, are no part of the speed.
                started, counted_from = time.monotonic(), state.step
        progress.close()
        if accelerator.is_main_process:
            self._export(export, self.run_dir / "export", final=True)
            accelerator.print(f"finished; weights in {self.run_dir / 'export'}")
        self.tracker.close()
        accelerator.end_training()

    def _export(self, export: Callable[[Path], None], folder: Path, *, final: bool) -> None:
        with self.averaged():
            export(folder)
        if self.tracker.wants_weights(final=final):
            self.tracker.weights(self._state.step, folder, final=final)

    def _check_settings(self) -> None:
        changed = changed_settings(self.run_dir / "config.yaml", self.config)
        if other := next((one for one in changed if one.startswith("optim.optimizer ")), None):
            raise ConfigError(
                f"{self.run_dir} cannot go on: {other}, whose state is another; give another run.dir, with init= the "
                "weights to start from"
            )
        if changed and not self._allow_changes:
            raise ConfigError(
                f"{self.run_dir} holds a run with other settings: {', '.join(changed)}; give those of before, another "
                "run.dir, or --allow-changes to go on with the new ones"
            )

    def _take_folder(self, photos: Sequence[Path]) -> None:
        # Kept for as long as the run lives: another launch would write the same files.
        self._lock, self._photos = lock_run(self.run_dir), listed(photos)
        # Another launch may have begun the run while this one opened its photos and waited.
        if find_checkpoints(self.run_dir):
            self._check_settings()
            if not self._allow_changes:
                check_photos(self.run_dir, self._photos)
        else:
            check_begins(self.run_dir)
        self.left_out.forget()

    def _optimize(
        self, loader: Iterable[dict[str, Tensor]], loss_of: Callable[[dict[str, Tensor]], Tensor]
    ) -> Iterator[tuple[list[Tensor], Tensor, float]]:
        """Optimizer steps: losses since they were last cleared, the gradient's norm and the learning rate."""
        losses: list[Tensor] = []
        for batch in loader:
            with self.accelerator.accumulate(self._objective):
                loss = loss_of(batch)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self._objective.parameters(), self.config.optim.clip)
                self._optimizer.step()
                self._optimizer.zero_grad()
            losses.append(loss.detach())
            if self.accelerator.sync_gradients:
                rate = self._schedule.get_last_lr()[0]
                self._schedule.step()
                self._averages.update(self.network.parameters())
                self._state.step += 1
                yield losses, norm, rate


def run_precision(config: TrainingConfig) -> str:
    """The precision of a run on the devices that it has, `fp32` or `bf16`."""
    # What Accelerate makes of processes and devices is settled here, so with all that it would look at itself.
    # Processes wait for the first one while it fills a cache or draws panels: NCCL would give up after ten minutes.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=1))
    return chosen_precision(config.run.precision, state.device)


def learning_rate_factor(step: int, optim: OptimConfig) -> float:
    """Share of `optim.lr` at an optimizer step: linear warm-up, constant, linear decay to zero."""
    warmup = min(1.0, (step + 1) / (optim.warmup + 1))
    decay_steps = optim.decay * optim.steps
    decay = min(1.0, (optim.steps - step) / decay_steps) if decay_steps > 0 else 1.0
    return warmup * decay
