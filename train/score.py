"""Trains a score network on sharp photographs by denoising score matching.

    accelerate launch train/score.py configs/score/small.yaml data.root=PHOTOS run.dir=runs/small

Settings are those of `train/config.py`: a YAML file of differences and any number of key=value
overrides. Run the same command again to resume, with the same settings: how often things are written may
change, what is trained only with --allow-changes. When the run is complete, `run.dir/export` holds the
averaged weights as a pipeline folder for `samplers/deblur.py --weights`; with pipeline=FOLDER it has the
other networks of that saved pipeline too. `train/average.py` makes averages of other lengths.
"""

from collections.abc import Sequence

from samplers.standard_streams import run_command
from train.command_line import run_training


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""

    def schema() -> type:
        from train.config import ScoreConfig

        return ScoreConfig

    return run_training(
        argv, script="train/score.py", description=__doc__, configs="configs/score/", schema=schema, train=train
    )


def train(config, *, dry_run: bool = False, allow_changes: bool = False) -> None:  # noqa: ANN001 - imported late
    """Trains from the newest checkpoint, or from the start, to `optim.steps`.

    Args:
        config: A `ScoreConfig`.
        dry_run: Prints settings and sizes, and stops.
        allow_changes: Resumes a run although its settings were others.
    """
    from dataclasses import asdict, replace
    from functools import partial

    import torch

    from diffusion import DenoisingScoreMatching, EDMWeighting, ScoreNetwork, Uncertainty, weighting_of
    from samplers.weights import checked_folder
    from train.export import export_pipeline
    from train.initial_weights import start_from, with_network_of_init
    from train.loop import TrainingLoop
    from train.loss_by_noise import LossByNoise
    from train.panels import denoising_pictures, denoising_psnr, ema_gap, held_out_crops, sample_pictures
    from train.probe import DeblurringProbe
    from train.sharp_photos import open_patches

    config = with_network_of_init(config)
    run = config.run
    loop = TrainingLoop(config, allow_changes=allow_changes)
    accelerator = loop.accelerator
    if config.pipeline is not None:
        # Found out before the training rather than after.
        checked_folder(config.pipeline)
    # Nothing is decoded into a cache to say what there is.
    data = replace(config.data, cache=None) if dry_run else config.data
    patches = open_patches(
        data, run.seed, config.optim.batch, held_out_dir=loop.run_dir / "held_out", report=accelerator.print,
        left_out=loop.left_out,
    )  # fmt: skip
    torch.manual_seed(run.seed)
    network = ScoreNetwork(**asdict(config.network), sigma_max=config.noise.sigma_max)
    network = network.to(memory_format=torch.channels_last)
    if config.init is not None and not loop.resumes:
        added = start_from(network, config.init)
        accelerator.print(f"starting from {config.init}" + (f", grown by {added} residual blocks" if added else ""))
    if dry_run:
        return loop.preview(network, patches.files, patches.description)
    weighting = weighting_of(config.objective, config.noise, config.network.sigma_data)
    learned = Uncertainty() if config.objective.weighting == "uncertainty" else None
    objective = DenoisingScoreMatching(network, weighting, learned)
    if run.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if run.compile:
        objective.compile_network()
    # In one weighting whatever is minimised, so that runs can be compared.
    by_noise, compared = LossByNoise(), EDMWeighting(config.noise, config.network.sigma_data)
    objective = loop.start(network, objective, patches.files, by_noise)
    tracker = loop.tracker

    def loss_of(batch: dict) -> torch.Tensor:
        sigma = weighting.noise_level(batch["quantile"]).to(accelerator.device)
        x, noise = (batch[key].to(accelerator.device, non_blocking=True) for key in ("x", "noise"))
        losses, errors = objective(x, noise, sigma)
        by_noise.add(sigma, compared.weight(sigma) * errors)
        return losses.mean()

    export = partial(export_pipeline, network, noise=config.noise, pipeline=config.pipeline)
    held_out_files = patches.held_out_files()
    held_out, probe = held_out_crops(held_out_files).to(accelerator.device), None
    for step in loop.steps(patches, loss_of, export):
        if step.logs or step.saves:
            by_noise.collect(partial(accelerator.reduce, reduction="sum"))
        if step.logs:
            tracker.scalars(step.number, step.scalars | by_noise.means())
            by_noise.forget()
        if not accelerator.is_main_process:
            continue
        if step.due(run.panel_every):
            raw = denoising_psnr(network, held_out, run.seed)
            with loop.averaged():
                average = denoising_psnr(network, held_out, run.seed)
                tracker.scalars(step.number, {**average, **ema_gap(average, raw)})
                tracker.picture(step.number, "denoising", denoising_pictures(network, held_out, seed=run.seed))
                if run.samples:
                    samples = sample_pictures(network, run.samples, seed=run.seed, sigma_max=config.noise.sigma_max)
                    tracker.picture(step.number, "samples", samples)
        if step.due(run.probe_every):
            probe = probe or DeblurringProbe(held_out_files, accelerator.device)
            with loop.averaged():
                figures, pictures = probe(network, run.seed)
            tracker.scalars(step.number, figures)
            tracker.picture(step.number, "deblurring", pictures)


if __name__ == "__main__":
    run_command(main)
