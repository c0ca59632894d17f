"""Trains the conditioning of a score network on a latent prior, on simulated captures of sharp photographs.

    accelerate launch train/conditioning.py configs/conditioning/tiny.yaml data.root=PHOTOS score=weights/small
    latent_prior=weights/small run.dir=runs/conditioning

Score network and latent prior stay as they are. Settings are those of `train/conditioning_config.py`: a YAML file
of differences and any number of key=value overrides. Captures are those of `train/latent_prior.py`: they are
simulated when they are first needed and kept in `run.dir/captures`, or in simulation.folder, which several runs may
share. Run the same command again to resume, with the same settings: how often things are written may change, what is
trained only with --allow-changes. When the run is complete, `run.dir/export` holds the averaged weights as
`conditioning/`; with pipeline=FOLDER it is a copy of that saved pipeline with them, for
`samplers/deblur.py --weights`.
"""

from collections.abc import Sequence

from samplers.standard_streams import run_command
from train.command_line import run_training


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""

    def schema() -> type:
        from train.conditioning_config import ConditioningConfig

        return ConditioningConfig

    return run_training(
        argv, script="train/conditioning.py", description=__doc__, configs="configs/conditioning/", schema=schema,
        train=train,
    )  # fmt: skip


def train(config, *, dry_run: bool = False, allow_changes: bool = False) -> None:  # noqa: ANN001 - imported late
    """Trains from the newest checkpoint, or from the start, to `optim.steps`.

    Args:
        config: A `ConditioningConfig`.
        dry_run: Prints settings and sizes, and stops.
        allow_changes: Resumes a run although its settings were others.
    """
    from functools import partial
    from pathlib import Path

    import torch

    from diffusion import EDMWeighting
    from diffusion.latent_prior import LatentFiLM
    from samplers.weights import load_latent_prior
    from train.conditioned_matching import ConditionedScoreMatching
    from train.conditioning_probe import ConditioningProbe
    from train.export import check_same_networks, export_conditioning
    from train.initial_weights import load_score_network
    from train.loop import TrainingLoop
    from train.simulated_captures import open_captures
    from train.simulated_pairs import NoisyParts, PairedParts, SimulatedPairs

    run, optim = config.run, config.optim
    loop = TrainingLoop(config, allow_changes=allow_changes)
    accelerator = loop.accelerator
    score = load_score_network(config.score).to(accelerator.device, memory_format=torch.channels_last).eval()
    prior = load_latent_prior(config.latent_prior).to(accelerator.device).requires_grad_(False)
    torch.manual_seed(run.seed)
    network = LatentFiLM.between(prior, score, config.width)
    network.check_fits(prior, score)
    if config.pipeline is not None:
        # Found out before the training rather than after.
        check_same_networks(config.pipeline, score_network=score, latent_prior=prior)
    folder = Path(config.simulation.folder or loop.run_dir / "captures")
    with accelerator.main_process_first():
        opened = open_captures(
            config.data, config.simulation, run.seed, optim.batch, folder, report=accelerator.print,
            left_out=loop.left_out, dry_run=dry_run,
        )  # fmt: skip
    training, held_out = (SimulatedPairs(captures) for captures in opened)
    parts = PairedParts(
        training, config.data, config.crops, steps=optim.steps, batch=optim.batch, prior_shape=prior.prior_shape,
        dropout=0.0, seed=run.seed,
    )  # fmt: skip
    if dry_run:
        words = f"{len(opened[0].photos)} training and {len(opened[1].photos)} held-out photos"
        return loop.preview(network, training.files, words)
    if run.gradient_checkpointing:
        score.enable_gradient_checkpointing()
    if run.compile:
        score.compile()
    weighting = EDMWeighting(config.noise, score.config.sigma_data)
    objective = loop.start(network, ConditionedScoreMatching(network, score, weighting), training.files)

    def loss_of(batch: dict) -> torch.Tensor:
        moved = (batch[key].to(accelerator.device, non_blocking=True) for key in ("x", "y", "noise", "prior_noise"))
        x, y, noise, prior_noise = moved
        with torch.no_grad(), accelerator.autocast():
            tokens = prior.prior(prior.capture_encoder(y), prior_noise)
        sigma = weighting.noise_level(batch["quantile"]).to(accelerator.device)
        return objective(x.contiguous(memory_format=torch.channels_last), tokens, noise, sigma).mean()

    export, probe = partial(export_conditioning, network, pipeline=config.pipeline), None
    for step in loop.steps(NoisyParts(parts), loss_of, export):
        if step.logs:
            loop.tracker.scalars(step.number, step.scalars)
        probes, shows = step.due(run.probe_every), run.samples and step.due(run.panel_every)
        if (probes or shows) and accelerator.is_main_process:
            probe = probe or ConditioningProbe(held_out, config.probes, score, prior)
            with loop.averaged():
                if probes:
                    loop.tracker.scalars(step.number, probe.figures(network))
                if shows:
                    loop.tracker.picture(step.number, "denoising", probe.pictures(network, run.samples))


if __name__ == "__main__":
    run_command(main)
