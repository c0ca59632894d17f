"""Trains the defocus map network on simulated captures of sharp photographs.

    accelerate launch train/defocus_map.py configs/defocus_map/small.yaml data.root=PHOTOS run.dir=runs/map

Settings are those of `train/defocus_map_config.py`: a YAML file of differences and any number of key=value
overrides. Captures are simulated when they are first needed and kept in `run.dir/captures`. Run the same
command again to resume, with the same settings: how often things are written may change, what is trained
only with --allow-changes. When the run is complete, `run.dir/export` holds the averaged weights as
`defocus_map/`; with pipeline=FOLDER it is a copy of that saved pipeline with this network, for
`samplers/deblur.py --weights`.
"""

from collections.abc import Sequence

from samplers.standard_streams import run_command
from train.command_line import run_training


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""

    def schema() -> type:
        from train.defocus_map_config import DefocusMapConfig

        return DefocusMapConfig

    return run_training(
        argv, script="train/defocus_map.py", description=__doc__, configs="configs/defocus_map/", schema=schema,
        train=train,
    )  # fmt: skip


def train(config, *, dry_run: bool = False, allow_changes: bool = False) -> None:  # noqa: ANN001 - imported late
    """Trains from the newest checkpoint, or from the start, to `optim.steps`.

    Args:
        config: A `DefocusMapConfig`.
        dry_run: Prints settings and sizes, and stops.
        allow_changes: Resumes a run although its settings were others.
    """
    from dataclasses import asdict
    from functools import partial
    from pathlib import Path

    import torch

    from optics.defocus_map.network import DefocusMapNetwork
    from photos import find_photos
    from samplers.weights import checked_folder
    from train.export import export_defocus_map
    from train.initial_networks import start_defocus_map_from
    from train.loop import TrainingLoop
    from train.map_objective import MapObjective
    from train.map_probe import MapProbe
    from train.photo_cache import PhotosInMemory
    from train.reblur_consistency import BlurredOnceMore
    from train.simulated_captures import open_captures

    run = config.run
    loop = TrainingLoop(config, allow_changes=allow_changes)
    accelerator = loop.accelerator
    if config.pipeline is not None:
        # Found out before the training rather than after.
        checked_folder(config.pipeline)
    folder = Path(config.simulation.folder or loop.run_dir / "captures")
    with accelerator.main_process_first():
        captures, held_out = open_captures(
            config.data, config.simulation, run.seed, config.optim.batch, folder, report=accelerator.print,
            left_out=loop.left_out, with_sharp=config.objective.reblur > 0, dry_run=dry_run,
        )  # fmt: skip
    samples = captures
    if config.objective.consistency > 0:
        real = None if config.objective.captures is None else find_photos(config.objective.captures)
        samples = BlurredOnceMore(
            captures, None if real is None else PhotosInMemory(real, config.data.cache_gib, loop.left_out)
        )
    torch.manual_seed(run.seed)
    network = DefocusMapNetwork(**asdict(config.network), largest_radius=config.simulation.largest_radius)
    network = network.to(memory_format=torch.channels_last)
    if config.init is not None and not loop.resumes:
        start_defocus_map_from(network, config.init)
        accelerator.print(f"starting from {config.init}")
    if dry_run:
        words = f"{len(captures.photos)} training and {len(held_out.photos)} held-out photos"
        return loop.preview(network, captures.photos.files, words)
    if run.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    objective = MapObjective(network, config.objective)
    if run.compile:
        objective.compile()
    objective = loop.start(network, objective, captures.photos.files)

    def loss_of(batch: dict) -> torch.Tensor:
        batch = {key: values.to(accelerator.device, non_blocking=True) for key, values in batch.items()}
        batch["y"] = batch["y"].contiguous(memory_format=torch.channels_last)
        return objective(**batch).mean()

    export, probe = partial(export_defocus_map, network, pipeline=config.pipeline), None
    for step in loop.steps(samples, loss_of, export):
        if step.logs:
            loop.tracker.scalars(step.number, step.scalars)
        probes, shows = step.due(run.probe_every), run.samples and step.due(run.panel_every)
        if (probes or shows) and accelerator.is_main_process:
            probe = probe or MapProbe(held_out, config.probes, accelerator.device)
            with loop.averaged():
                if probes:
                    loop.tracker.scalars(step.number, probe.figures(network))
                if shows:
                    loop.tracker.picture(step.number, "maps", probe.pictures(network, run.samples))


if __name__ == "__main__":
    run_command(main)
