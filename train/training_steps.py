"""Training steps whose speed is compared: ours, that of a plain diffusers loop, and the convolutions alone.

Each is a function without arguments that does one optimizer step's work on patches that lie in memory, so
that nothing but the step is timed. All use the network of the same settings.
"""

import math
from collections.abc import Callable
from dataclasses import asdict

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffusion import (
    DenoisingScoreMatching,
    EDMWeighting,
    ScoreNetwork,
    Uncertainty,
    denoising_error,
    weighting_of,
)
from train.averaging import PowerAverages
from train.config import ScoreConfig
from train.loss_by_noise import LossByNoise
from train.optimizer import optimizer_for

__all__ = ["convolution_pass", "our_step", "plain_step", "step_flops"]

Step = Callable[[], object]


def our_step(config: ScoreConfig, accelerator: Accelerator) -> tuple[Step, nn.Module]:
    """One step of `train/score.py`: precision, memory format, objective, averages and clipping as configured.

    Args:
        config: Settings of training.
        accelerator: Made with the precision of the settings.

    Returns:
        The step, and its network.
    """
    network = ScoreNetwork(**asdict(config.network)).to(memory_format=torch.channels_last)
    weighting = weighting_of(config.objective, config.noise, config.network.sigma_data)
    learned = Uncertainty() if config.objective.weighting == "uncertainty" else None
    objective = DenoisingScoreMatching(network, weighting, learned)
    optimizer = optimizer_for(objective.parameters(), config.optim)
    if config.run.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if config.run.compile:
        objective.compile_network()
    objective, optimizer = accelerator.prepare(objective, optimizer)
    averages, by_noise = PowerAverages(network.parameters(), config.averages.lengths), LossByNoise()
    x = _patches(config, accelerator.device)
    losses, compared = [], EDMWeighting(config.noise, config.network.sigma_data)

    def step() -> None:
        sigma = weighting.noise_level(torch.rand(len(x))).to(x.device)
        sample_losses, errors = objective(x, torch.randn_like(x), sigma)
        accelerator.backward(sample_losses.mean())
        accelerator.clip_grad_norm_(objective.parameters(), config.optim.clip)
        optimizer.step()
        optimizer.zero_grad()
        averages.update(network.parameters())
        losses.append(sample_losses.mean().detach())
        by_noise.add(sigma, compared.weight(sigma) * errors)
        if len(losses) == config.run.log_every:
            by_noise.collect(lambda sums: sums)
            torch.stack(losses).mean().item()
            losses.clear()

    return step, network


def plain_step(config: ScoreConfig, device: torch.device) -> tuple[Step, nn.Module]:
    """One step of diffusers' example of unconditional training, with its defaults but our network.

    That is `examples/unconditional_image_generation/train_unconditional.py`: single precision, the memory
    format that tensors are born with, `DDPMScheduler` with a linear beta schedule, prediction of the noise,
    no average of the weights, the loss read at every step. Accelerate adds nothing to it on one device.
    Our network takes the noise-to-signal ratio for the time step.

    Returns:
        The step, and its network.
    """
    network = ScoreNetwork(**asdict(config.network)).to(device)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=100_000)
    ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().to(device)
    x = _patches(config, device)

    def step() -> float:
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(x),), device=x.device).long()
        noisy = scheduler.add_noise(x, noise, timesteps)
        loss = F.mse_loss(network(noisy, ratios[timesteps]).float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        return loss.detach().item()

    return step, network


def convolution_pass(config: ScoreConfig, device: torch.device) -> tuple[Step, int]:
    """The network's convolutions alone, forward and backward in bf16, channels last, one after the other.

    Returns:
        The pass, and its floating-point operations.
    """
    network = ScoreNetwork(**asdict(config.network)).to(device)
    shapes, hooks = [], []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            hooks.append(module.register_forward_hook(lambda layer, given, _: shapes.append((layer, given[0].shape))))
    with torch.no_grad():
        network(_patches(config, device), torch.full((config.optim.batch,), 0.1, device=device))
    for hook in hooks:
        hook.remove()
    layers = []
    for layer, shape in shapes:
        layer.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
        given = torch.randn(shape, device=device).to(torch.bfloat16, memory_format=torch.channels_last)
        given.requires_grad_()
        layers.append((layer, given, torch.randn_like(layer(given))))

    def run() -> None:
        for layer, given, back in layers:
            layer.zero_grad()
            given.grad = None
            layer(given).backward(back)

    with FlopCounterMode(display=False) as counter:
        run()
    return run, counter.get_total_flops()


def step_flops(config: ScoreConfig) -> int:
    """Floating-point operations of the network in one step, forward and backward; a product and a sum are two."""
    network = ScoreNetwork(**asdict(config.network))
    x = _patches(config, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        denoising_error(network, x, torch.randn_like(x), torch.full((len(x),), 0.1)).mean().backward()
    return counter.get_total_flops()


def _patches(config: ScoreConfig, device: torch.device) -> Tensor:
    """Patches in [-1, 1], shape (B, 3, P, P), with the smoothness of photos."""
    side = config.data.patch
    coarse = torch.rand(config.optim.batch, 3, math.ceil(side / 8), math.ceil(side / 8)) * 2 - 1
    return F.interpolate(coarse, size=(side, side), mode="bilinear").to(device)
