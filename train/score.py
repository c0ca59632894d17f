"""Trains a score network on sharp photographs by denoising score matching.

    accelerate launch train/score.py configs/score/small.yaml data.root=PHOTOS run.dir=runs/small

Settings are those of `train/config.py`: a YAML file of differences and any number of key=value
overrides. Run the same command again to resume, with the same settings: how often things are written may
change, what is trained only with --allow-changes. When the run is complete, `run.dir/export` holds the
averaged weights as a pipeline folder for `samplers/deblur.py --weights`; `train/average.py` makes averages
of other lengths.
"""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="train/score.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="YAML file of settings, as in configs/score/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file")
    parser.add_argument("--dry-run", action="store_true", help="print the settings and sizes, and stop")
    parser.add_argument(
        "--allow-changes", action="store_true", help="resume although settings differ from those of the run so far"
    )
    arguments = parser.parse_args(argv)
    file, overrides = arguments.config, list(arguments.overrides)
    if file is not None and "=" in file:
        file, overrides = None, [file, *overrides]

    # Only now the slow imports: --help and usage errors answer at once.
    from safetensors import SafetensorError

    from samplers.config import ConfigError, load_config
    from train.config import ScoreConfig

    try:
        config = load_config(ScoreConfig, file, overrides)
        train(config, dry_run=arguments.dry_run, allow_changes=arguments.allow_changes)
    except ConfigError as error:
        print(f"train/score.py: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, SafetensorError) as error:
        # The last one where weights cannot be exported, the disk being full for example.
        print(f"train/score.py: {error}", file=sys.stderr)
        return 1
    return 0


def train(config, *, dry_run: bool = False, allow_changes: bool = False) -> None:  # noqa: ANN001 - imported late
    """Runs the training loop from the newest checkpoint, or from the start, to `optim.steps`.

    Args:
        config: A `ScoreConfig`.
        dry_run: Prints settings and sizes, and stops.
        allow_changes: Resumes a run although its settings were others.
    """
    import math
    import time
    from dataclasses import asdict
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import torch
    from accelerate import Accelerator
    from omegaconf import OmegaConf
    from tqdm import tqdm

    from diffusion import DenoisingScoreMatching, ScoreNetwork, Uncertainty, weighting_of
    from samplers.config import ConfigError, write_config
    from train.averaging import PowerAverages, averaged_weights, drop_snapshots_after
    from train.changes import changed_settings
    from train.export import export_pipeline
    from train.initial_weights import start_from
    from train.loss_by_noise import LossByNoise
    from train.panels import denoising_pictures, denoising_psnr, ema_gap, held_out_crops, sample_pictures
    from train.probe import DeblurringProbe
    from train.run_state import RunState, find_checkpoints, resume, save_checkpoint
    from train.sharp_photos import open_patches, patch_loader
    from train.tracking import Tracker, memory_figures

    data, optim, run, run_dir = config.data, config.optim, config.run, Path(config.run.dir)
    accelerator = Accelerator(
        mixed_precision="bf16" if run.precision == "bf16" else "no",
        gradient_accumulation_steps=optim.accumulate,
        # The schedule counts optimizer steps; Accelerate would advance it once per process.
        step_scheduler_with_optimizer=False,
    )
    world, rank = accelerator.num_processes, accelerator.process_index
    if optim.batch % (world * optim.accumulate):
        raise ValueError(
            f"optim.batch={optim.batch} must be divisible by processes x optim.accumulate = "
            f"{world} x {optim.accumulate}"
        )
    micro_batch = optim.batch // (world * optim.accumulate)
    patches = open_patches(
        data, run.seed, optim.batch, held_out_dir=run_dir / "held_out", report=accelerator.print
    )

    torch.manual_seed(run.seed)
    network = ScoreNetwork(**asdict(config.network)).to(memory_format=torch.channels_last)
    weighting = weighting_of(config.objective, config.noise, config.network.sigma_data)
    learned = Uncertainty() if config.objective.weighting == "uncertainty" else None
    objective = DenoisingScoreMatching(network, weighting, learned)
    optimizer = torch.optim.AdamW(
        objective.parameters(), lr=optim.lr, betas=tuple(optim.betas), weight_decay=optim.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, optim))
    resumes = bool(find_checkpoints(run_dir))
    if resumes and (changed := changed_settings(run_dir / "config.yaml", config)) and not allow_changes:
        raise ConfigError(
            f"{run_dir} holds a run with other settings: {', '.join(changed)}; give those of before, another run.dir, "
            "or --allow-changes to go on with the new ones"
        )
    if config.init is not None and not resumes:
        added = start_from(network, config.init)
        accelerator.print(f"starting from {config.init}" + (f", grown by {added} residual blocks" if added else ""))
    if dry_run:
        accelerator.print(
            f"{OmegaConf.to_yaml(OmegaConf.structured(config))}"
            f"{sum(p.numel() for p in network.parameters()):,} parameters; {patches.description}; "
            f"{optim.batch} patches per optimizer step = {world} processes x "
            f"{optim.accumulate} accumulation steps x {micro_batch}"
        )
        return
    if run.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if run.compile:
        objective.compile_network()
    # From here on `network` is the bare network, in full precision, for averages and panels.
    objective, optimizer, schedule = accelerator.prepare(objective, optimizer, schedule)
    averages, state, by_noise = PowerAverages(network.parameters(), config.averages.lengths), RunState(), LossByNoise()
    accelerator.register_for_checkpointing(state, averages, by_noise)

    checkpoint = resume(accelerator, run_dir)
    if checkpoint is not None:
        accelerator.print(f"resuming from {checkpoint}")
    if accelerator.is_main_process:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_config(config, run_dir / "config.yaml")
        drop_snapshots_after(state.step, run_dir / "averages")
    accelerator.wait_for_everyone()
    tracker = Tracker(config, state.step, writes=accelerator.is_main_process)

    held_out_files = patches.held_out_files()
    loader = patch_loader(
        patches, first_step=state.step, steps=optim.steps, micro_batch=micro_batch, rank=rank, world=world
    )
    held_out, probe = held_out_crops(held_out_files).to(accelerator.device), None
    progress = tqdm(
        total=optim.steps, initial=state.step, unit="step", disable=None if accelerator.is_main_process else True
    )
    losses, started, counted_from = [], time.monotonic(), state.step
    for batch in loader:
        sigma = weighting.noise_level(batch["quantile"]).to(accelerator.device)
        x, noise = (batch[key].to(accelerator.device) for key in ("x", "noise"))
        with accelerator.accumulate(objective):
            sample_losses, errors = objective(x, noise, sigma)
            loss = sample_losses.mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(objective.parameters(), optim.clip)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
        by_noise.add(sigma, weighting.weight(sigma) * errors)
        if not accelerator.sync_gradients:
            continue
        rate = schedule.get_last_lr()[0]
        schedule.step()
        averages.update(network.parameters())
        state.step += 1
        progress.update()

        last = state.step == optim.steps
        logs, saves = state.step % run.log_every == 0 or last, state.step % run.save_every == 0 or last
        if logs or saves:
            # Before a checkpoint too, which carries the losses that are not logged yet.
            state.add_losses(float(accelerator.reduce(torch.stack(losses).mean(), reduction="mean")), len(losses))
            by_noise.collect(lambda sums: accelerator.reduce(sums, reduction="sum"))
            losses = []
            if not math.isfinite(state.mean_loss + float(norm)):
                raise ValueError(
                    f"the loss is {state.mean_loss} and its gradient {float(norm)} at step {state.step}: lower optim.lr"
                )
        if logs:
            speed = (state.step - counted_from) * optim.batch / (time.monotonic() - started)
            tracker.scalars(
                state.step,
                {
                    "loss": state.mean_loss, **by_noise.means(), "grad_norm": float(norm), "lr": rate,
                    "patches_per_s": speed, **memory_figures(accelerator.device),
                },
            )  # fmt: skip
            state.forget_losses()
            by_noise.forget()
        if (state.step % run.panel_every == 0 or last) and accelerator.is_main_process:
            raw = denoising_psnr(network, held_out, run.seed)
            with averaged_weights(averages, network):
                average = denoising_psnr(network, held_out, run.seed)
                tracker.scalars(state.step, {**average, **ema_gap(average, raw)})
                tracker.picture(state.step, "denoising", denoising_pictures(network, held_out, seed=run.seed))
                if run.samples:
                    tracker.picture(state.step, "samples", sample_pictures(network, run.samples, seed=run.seed))
        if run.probe_every and (state.step % run.probe_every == 0 or last) and accelerator.is_main_process:
            probe = probe or DeblurringProbe(held_out_files, accelerator.device)
            with averaged_weights(averages, network):
                figures, pictures = probe(network, run.seed)
            tracker.scalars(state.step, figures)
            tracker.picture(state.step, "deblurring", pictures)
        # Before the checkpoint: a run that ends between the two writes the snapshot again.
        if (state.step % config.averages.every == 0 or last) and accelerator.is_main_process:
            averages.write_snapshot(run_dir / "averages", [name for name, _ in network.named_parameters()])
        if saves:
            save_checkpoint(accelerator, run_dir, state.step, run.keep)
            if tracker.wants_weights(final=False) and not last:
                with averaged_weights(averages, network), TemporaryDirectory() as folder:
                    export_pipeline(network, Path(folder) / "export")
                    tracker.weights(state.step, Path(folder) / "export", final=False)
        if logs:
            # Only now: panels and checkpoints are no part of the speed.
            started, counted_from = time.monotonic(), state.step
    progress.close()
    if accelerator.is_main_process:
        with averaged_weights(averages, network):
            export_pipeline(network, run_dir / "export")
        if tracker.wants_weights(final=True):
            tracker.weights(state.step, run_dir / "export", final=True)
        accelerator.print(f"finished; weights in {run_dir / 'export'}")
    tracker.close()
    accelerator.end_training()


def learning_rate_factor(step: int, optim) -> float:  # noqa: ANN001 - OptimConfig, imported late
    """Share of `optim.lr` at an optimizer step: linear warm-up, constant, linear decay to zero."""
    warmup = min(1.0, (step + 1) / (optim.warmup + 1))
    decay_steps = optim.decay * optim.steps
    decay = min(1.0, (optim.steps - step) / decay_steps) if decay_steps > 0 else 1.0
    return warmup * decay


if __name__ == "__main__":
    sys.exit(main())
