"""Trains a score network on sharp photographs by denoising score matching.

    accelerate launch train/score.py configs/score/small.yaml data.root=PHOTOS run.dir=runs/small

Settings are those of `train/config.py`: a YAML file of differences and any number of key=value
overrides. Run the same command again to resume. When the run is complete, `run.dir/export` holds the
averaged weights as a pipeline folder for `samplers/deblur.py --weights`.
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
    arguments = parser.parse_args(argv)
    file, overrides = arguments.config, list(arguments.overrides)
    if file is not None and "=" in file:
        file, overrides = None, [file, *overrides]

    # Only now the slow imports: --help and usage errors answer at once.
    from samplers.config import ConfigError, load_config
    from train.config import ScoreConfig

    try:
        config = load_config(ScoreConfig, file, overrides)
        train(config, dry_run=arguments.dry_run)
    except ConfigError as error:
        print(f"train/score.py: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"train/score.py: {error}", file=sys.stderr)
        return 1
    return 0


def train(config, *, dry_run: bool = False) -> None:  # noqa: ANN001 - ScoreConfig, imported late
    """Runs the training loop from the newest checkpoint, or from the start, to `optim.steps`."""
    import math
    import time
    from dataclasses import asdict
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import torch
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel
    from omegaconf import OmegaConf
    from tqdm import tqdm

    from diffusion import ScoreNetwork, denoising_loss
    from samplers.config import write_config
    from train.export import averaged_weights, export_pipeline
    from train.loss_by_noise import LossByNoise
    from train.panels import denoising_pictures, denoising_psnr, ema_gap, held_out_crops, sample_pictures
    from train.probe import DeblurringProbe
    from train.run_state import RunState, latest_checkpoint, load_checkpoint, save_checkpoint
    from train.sharp_photos import open_patches, patch_loader
    from train.tracking import Tracker, memory_figures

    data, optim, run = config.data, config.optim, config.run
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
        data, run.seed, optim.batch, held_out_dir=Path(run.dir) / "held_out", report=accelerator.print
    )

    torch.manual_seed(run.seed)
    network = ScoreNetwork(**asdict(config.network)).to(memory_format=torch.channels_last)
    ema = EMAModel(
        network.parameters(), decay=optim.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=optim.ema_power
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=optim.lr, betas=tuple(optim.betas), weight_decay=optim.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, optim))
    if dry_run:
        accelerator.print(
            f"{OmegaConf.to_yaml(OmegaConf.structured(config))}"
            f"{sum(p.numel() for p in network.parameters()):,} parameters; {patches.description}; "
            f"{optim.batch} patches per optimizer step = {world} processes x "
            f"{optim.accumulate} accumulation steps x {micro_batch}"
        )
        return
    ema.to(accelerator.device)
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule)
    state, by_noise = RunState(), LossByNoise()
    accelerator.register_for_checkpointing(state, ema, by_noise)

    run_dir = Path(run.dir)
    checkpoint = latest_checkpoint(run_dir)
    if checkpoint is not None:
        load_checkpoint(accelerator, checkpoint)
        accelerator.print(f"resuming from {checkpoint}")
    if accelerator.is_main_process:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_config(config, run_dir / "config.yaml")
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
        x, noise, quantile = (batch[key].to(accelerator.device) for key in ("x", "noise", "quantile"))
        with accelerator.accumulate(network):
            sigma = config.noise(quantile)
            sample_losses = denoising_loss(network, x, noise, sigma, config.network.sigma_data)
            loss = sample_losses.mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(network.parameters(), optim.clip)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
        by_noise.add(sigma, sample_losses)
        if not accelerator.sync_gradients:
            continue
        rate = schedule.get_last_lr()[0]
        schedule.step()
        ema.step(network.parameters())
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
            started, counted_from = time.monotonic(), state.step
        if (state.step % run.panel_every == 0 or last) and accelerator.is_main_process:
            # The network itself: other processes do not take part in this pass.
            plain = accelerator.unwrap_model(network)
            raw = denoising_psnr(plain, held_out, run.seed)
            with averaged_weights(ema, plain):
                average = denoising_psnr(plain, held_out, run.seed)
                tracker.scalars(state.step, {**average, **ema_gap(average, raw)})
                tracker.picture(state.step, "denoising", denoising_pictures(plain, held_out, seed=run.seed))
                if run.samples:
                    tracker.picture(state.step, "samples", sample_pictures(plain, run.samples, seed=run.seed))
        if run.probe_every and (state.step % run.probe_every == 0 or last) and accelerator.is_main_process:
            probe = probe or DeblurringProbe(held_out_files, accelerator.device)
            with averaged_weights(ema, network):
                figures, pictures = probe(accelerator.unwrap_model(network), run.seed)
            tracker.scalars(state.step, figures)
            tracker.picture(state.step, "deblurring", pictures)
        if saves:
            save_checkpoint(accelerator, run_dir, state.step, run.keep)
            if tracker.wants_weights(final=False) and not last:
                with averaged_weights(ema, network), TemporaryDirectory() as folder:
                    export_pipeline(accelerator.unwrap_model(network), Path(folder) / "export")
                    tracker.weights(state.step, Path(folder) / "export", final=False)
    progress.close()
    if accelerator.is_main_process:
        with averaged_weights(ema, network):
            export_pipeline(accelerator.unwrap_model(network), run_dir / "export")
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
