"""Trains a latent prior, Swin-Diff, on simulated captures of sharp photographs, in two stages.

    accelerate launch train/latent_prior.py configs/latent_prior/tiny.yaml data.root=PHOTOS run.dir=runs/stage1
    accelerate launch train/latent_prior.py configs/latent_prior/tiny.yaml data.root=PHOTOS run.dir=runs/stage2 stage=2
    init=runs/stage1/export

With pairs=FOLDER pairs_share=1 in place of data.root=PHOTOS it trains on real captures and their sharp photos alone.

Settings are those of `train/latent_prior_config.py`: a YAML file of differences and any number of key=value
overrides. Captures are simulated when they are first needed and kept in `run.dir/captures`, or in
simulation.folder, which several runs may share. Run the same command again to resume, with the same settings:
how often things are written may change, what is trained only with --allow-changes. When the run is complete,
`run.dir/export` holds the averaged weights as `latent_prior/`; with pipeline=FOLDER it is a copy of that saved
pipeline with this network, for `samplers/deblur.py --weights`.
"""

from collections.abc import Sequence

from samplers.standard_streams import run_command
from train.command_line import run_training


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""

    def schema() -> type:
        from train.latent_prior_config import LatentPriorConfig

        return LatentPriorConfig

    return run_training(
        argv, script="train/latent_prior.py", description=__doc__, configs="configs/latent_prior/", schema=schema,
        train=train,
    )  # fmt: skip


def train(config, *, dry_run: bool = False, allow_changes: bool = False) -> None:  # noqa: ANN001 - imported late
    """Trains from the newest checkpoint, or from the start, to `optim.steps`.

    Args:
        config: A `LatentPriorConfig`.
        dry_run: Prints settings and sizes, and stops.
        allow_changes: Resumes a run although its settings were others.
    """
    from dataclasses import asdict
    from functools import partial

    import torch

    from diffusion.latent_prior import SwinDiff
    from samplers.weights import checked_folder
    from train.export import export_latent_prior
    from train.initial_networks import start_latent_prior_from
    from train.loop import TrainingLoop
    from train.real_pairs import open_pairs
    from train.restoration_loss import RestorationLoss, perceptual_distance
    from train.restoration_probe import RestorationProbe
    from train.simulated_pairs import PairedParts

    run, optim = config.run, config.optim
    loop = TrainingLoop(config, allow_changes=allow_changes)
    accelerator = loop.accelerator
    if config.pipeline is not None:
        # Found out before the training rather than after.
        checked_folder(config.pipeline)
    perceptual = perceptual_distance(config.lpips_weight, config.lpips)
    with accelerator.main_process_first():
        training, held_out, photos = open_pairs(config, loop.run_dir, accelerator.print, loop.left_out, dry_run)
    torch.manual_seed(run.seed)
    network = SwinDiff(**asdict(config.network), stage=config.stage).to(memory_format=torch.channels_last)
    parts = PairedParts(
        training, config.data, config.crops, steps=optim.steps, batch=optim.batch, prior_shape=network.prior_shape,
        dropout=config.prior_dropout if config.stage == 1 else 0.0, seed=run.seed,
    )  # fmt: skip
    if config.init is not None and not loop.resumes:
        start_latent_prior_from(network, config.init)
        accelerator.print(f"starting from {config.init}")
    if dry_run:
        return loop.preview(network, training.files, photos)
    if run.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    weights = config.error_weight, config.spectrum_weight, config.lpips_weight
    objective = RestorationLoss(network, *weights, perceptual)
    if run.compile:
        objective.compile()
    objective = loop.start(network, objective, training.files)

    def loss_of(batch: dict) -> torch.Tensor:
        moved = (batch[key].to(accelerator.device, non_blocking=True) for key in ("x", "y", "keep", "noise"))
        x, y, keep, noise = moved
        x, y = (pictures.contiguous(memory_format=torch.channels_last) for pictures in (x, y))
        return sum(part.mean() for part in objective(x, y, keep, noise))

    export, probe = partial(export_latent_prior, network, pipeline=config.pipeline), None
    for step in loop.steps(parts, loss_of, export):
        if step.logs:
            loop.tracker.scalars(step.number, step.scalars)
        probes, shows = step.due(run.probe_every), run.samples and step.due(run.panel_every)
        if (probes or shows) and accelerator.is_main_process:
            probe = probe or RestorationProbe(held_out, config.probes, accelerator.device)
            with loop.averaged():
                if probes:
                    loop.tracker.scalars(step.number, probe.figures(network))
                if shows:
                    loop.tracker.picture(step.number, "restorations", probe.pictures(network, run.samples))


if __name__ == "__main__":
    run_command(main)
