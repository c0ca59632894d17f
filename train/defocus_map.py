"""Trains the defocus map network on simulated captures of sharp photographs.

    accelerate launch train/defocus_map.py configs/defocus_map/small.yaml data.root=PHOTOS run.dir=runs/map

Settings are those of `train/defocus_map_config.py`: a YAML file of differences and any number of key=value
overrides. Captures are simulated when they are first needed and kept in `run.dir/captures`. Run the same
command again to resume, with the same settings: how often things are written may change, what is trained
only with --allow-changes. When the run is complete, `run.dir/export` holds the averaged weights as
`defocus_map/`; with pipeline=FOLDER it is a copy of that saved pipeline with this network, for
`samplers/deblur.py --weights`.
"""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="train/defocus_map.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="YAML file of settings, as in configs/defocus_map/")
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
    from samplers.config import ConfigError, load_config
    from train.defocus_map_config import DefocusMapConfig

    try:
        config = load_config(DefocusMapConfig, file, overrides)
        train(config, dry_run=arguments.dry_run, allow_changes=arguments.allow_changes)
    except ConfigError as error:
        print(f"train/defocus_map.py: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"train/defocus_map.py: {error}", file=sys.stderr)
        return 1
    return 0


def train(config, *, dry_run: bool = False, allow_changes: bool = False) -> None:  # noqa: ANN001 - imported late
    """Runs the training loop from the newest checkpoint, or from the start, to `optim.steps`.

    Args:
        config: A `DefocusMapConfig`.
        dry_run: Prints settings and sizes, and stops.
        allow_changes: Resumes a run although its settings were others.
    """
    import math
    import time
    from dataclasses import asdict
    from pathlib import Path

    import torch
    from accelerate import Accelerator
    from omegaconf import OmegaConf
    from tqdm import tqdm

    from optics.defocus_map.network import DefocusMapNetwork
    from samplers.config import ConfigError, write_config
    from samplers.weights import checked_folder
    from train.averaging import PowerAverages, averaged_weights, drop_snapshots_after
    from train.changes import changed_settings
    from train.export import export_defocus_map
    from train.map_probe import MapProbe
    from train.radius_likelihood import RadiusLikelihood
    from train.run_state import RunState, find_checkpoints, resume, save_checkpoint
    from train.score import learning_rate_factor
    from train.sharp_photos import patch_loader
    from train.simulated_captures import open_captures
    from train.tracking import Tracker, memory_figures

    optim, run, run_dir = config.optim, config.run, Path(config.run.dir)
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
    if config.pipeline is not None:
        # Found out before the training rather than after.
        checked_folder(config.pipeline)
    resumes = bool(find_checkpoints(run_dir))
    if resumes and (changed := changed_settings(run_dir / "config.yaml", config)) and not allow_changes:
        raise ConfigError(
            f"{run_dir} holds a run with other settings: {', '.join(changed)}; give those of before, another run.dir, "
            "or --allow-changes to go on with the new ones"
        )
    folder = Path(config.simulation.folder or run_dir / "captures")
    with accelerator.main_process_first():
        captures, held_out = open_captures(
            config.data, config.simulation, run.seed, optim.batch, folder, report=accelerator.print
        )

    torch.manual_seed(run.seed)
    network = DefocusMapNetwork(**asdict(config.network), largest_radius=config.simulation.largest_radius)
    network = network.to(memory_format=torch.channels_last)
    if dry_run:
        accelerator.print(
            f"{OmegaConf.to_yaml(OmegaConf.structured(config))}"
            f"{sum(p.numel() for p in network.parameters()):,} parameters; {len(captures.photos)} training and "
            f"{len(held_out.photos)} held-out photos"
        )
        return
    if run.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    objective = RadiusLikelihood(network)
    optimizer = torch.optim.AdamW(
        objective.parameters(), lr=optim.lr, betas=tuple(optim.betas), weight_decay=optim.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, optim))
    if run.compile:
        objective.compile()
    # From here on `network` is the bare network, in full precision, for averages and probes.
    objective, optimizer, schedule = accelerator.prepare(objective, optimizer, schedule)
    averages, state = PowerAverages(network.parameters(), config.averages.lengths), RunState()
    accelerator.register_for_checkpointing(state, averages)

    checkpoint = resume(accelerator, run_dir)
    if checkpoint is not None:
        accelerator.print(f"resuming from {checkpoint}")
    if accelerator.is_main_process:
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_config(config, run_dir / "config.yaml")
        drop_snapshots_after(state.step, run_dir / "averages")
    accelerator.wait_for_everyone()
    tracker = Tracker(config, state.step, writes=accelerator.is_main_process)
    loader = patch_loader(
        captures, first_step=state.step, steps=optim.steps, micro_batch=optim.batch // (world * optim.accumulate),
        rank=rank, world=world,
    )  # fmt: skip
    probe = None
    progress = tqdm(
        total=optim.steps, initial=state.step, unit="step", disable=None if accelerator.is_main_process else True
    )
    losses, started, counted_from = [], time.monotonic(), state.step
    for batch in loader:
        y, radius_map = (batch[key].to(accelerator.device) for key in ("y", "radius_map"))
        with accelerator.accumulate(objective):
            loss = objective(y.contiguous(memory_format=torch.channels_last), radius_map).mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(objective.parameters(), optim.clip)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
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
            losses = []
            if not math.isfinite(state.mean_loss + float(norm)):
                raise ValueError(
                    f"the loss is {state.mean_loss} and its gradient {float(norm)} at step {state.step}: lower optim.lr"
                )
        if logs:
            speed = (state.step - counted_from) * optim.batch / (time.monotonic() - started)
            scalars = {"loss": state.mean_loss, "grad_norm": float(norm), "lr": rate, "patches_per_s": speed}
            tracker.scalars(state.step, scalars | memory_figures(accelerator.device))
            state.forget_losses()
        probes = run.probe_every and (state.step % run.probe_every == 0 or last)
        shows = run.samples and (state.step % run.panel_every == 0 or last)
        if (probes or shows) and accelerator.is_main_process:
            probe = probe or MapProbe(held_out, config.probes, accelerator.device)
            with averaged_weights(averages, network):
                if probes:
                    tracker.scalars(state.step, probe.figures(network))
                if shows:
                    tracker.picture(state.step, "maps", probe.pictures(network, run.samples))
        # Before the checkpoint: a run that ends between the two writes the snapshot again.
        if (state.step % config.averages.every == 0 or last) and accelerator.is_main_process:
            averages.write_snapshot(run_dir / "averages", [name for name, _ in network.named_parameters()])
        if saves:
            save_checkpoint(accelerator, run_dir, state.step, run.keep)
        if logs:
            # Only now: probes and checkpoints are no part of the speed.
            started, counted_from = time.monotonic(), state.step
    progress.close()
    if accelerator.is_main_process:
        with averaged_weights(averages, network):
            export_defocus_map(network, run_dir / "export", config.pipeline)
        if tracker.wants_weights(final=True):
            tracker.weights(state.step, run_dir / "export", final=True)
        accelerator.print(f"finished; weights in {run_dir / 'export'}")
    tracker.close()
    accelerator.end_training()


if __name__ == "__main__":
    sys.exit(main())
