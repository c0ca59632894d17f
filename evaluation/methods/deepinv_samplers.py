"""DPS and DiffPIR as the library deepinv implements them, with our score network and our operator.

Network, operator, noise level and a true map are those of our own sampler, so that the difference is the sampler's
alone. Blind, the map is that of `evaluation.methods.blur`, where ours has a network for it too.
With `deepinv_blur` the operator is deepinv's own `SpaceVaryingBlur`, of the same PSFs and weights: nearly the same
pictures, for ours leaves out what a photo does not show, in the time that the library takes for them.
Both start where ours does, from the capture with noise, instead of from noise alone: the network knows noise up to
a standard deviation of 3 in [-1, 1] units, and their own start is beyond 100. Blind, the noise level includes the
error of the model that our sampler allows for, at the mean radius.

Settings were chosen by the mean gain in PSNR on simulated captures of 3 photos of BSDS500's training split, one per
radius map of `evaluation.simulated`, with the true map.

References:
    Chung et al., Diffusion Posterior Sampling for General Noisy Inverse Problems, ICLR 2023.
    Zhu et al., Denoising Diffusion Models for Plug-and-Play Image Restoration, CVPRW 2023.
    The library: https://github.com/deepinv/deepinv, version 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.methods import Method, MethodUnavailable, Restored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluation.captures import Capture
    from evaluation.methods.blur import Blur
    from evaluation.methods.network import CountedNetwork
    from evaluation.settings import BenchmarkConfig
    from optics import DefocusOperator

__all__ = ["DPS", "DiffPIR", "deepinv_physics", "diffpir", "dps", "physics"]


def physics(operator: DefocusOperator, **options):
    """Our operator as a `deepinv.physics.LinearPhysics` of canvases and captures in [0, 1], with its options.

    A noise model is to be given to DPS alone: DiffPIR would replace its schedule by one for that noise.
    """
    from deepinv.physics import LinearPhysics

    device = operator.radius_map.device
    return LinearPhysics(
        A=lambda x, **_: operator(x), A_adjoint=lambda y, **_: operator.adjoint(y), device=device, **options
    )


def deepinv_physics(operator: DefocusOperator, **options):
    """The same blur as `deepinv.physics.SpaceVaryingBlur`: y = sum_k w_k (h_k * x), by K convolutions of the picture.

    Args:
        operator: Our operator, of round PSFs.
        options: Of the physics.
    """
    import torch
    from deepinv.physics import SpaceVaryingBlur

    from optics.psf import bank_radii, psf_bank

    radius = operator.radius_map
    radii = bank_radii(float(radius.max()))
    filters, radii = psf_bank(radii).to(radius), radii.to(radius)
    upper = torch.searchsorted(radii, radius.contiguous()).clamp(1, len(radii) - 1)
    fraction = (radius - radii[upper - 1]) / (radii[upper] - radii[upper - 1])
    nodes = torch.arange(len(radii), device=radius.device).view(1, -1, 1, 1)
    weights = (1 - (upper - 1 + fraction - nodes).abs()).clamp(min=0)
    return SpaceVaryingBlur(
        filters[None, None], weights[:, None], use_fft=True, mask_first=False, device=radius.device, **options
    )


@dataclass(frozen=True)
class _Sampler:
    """What both share: the blur, the operator on its canvas, and random numbers from the generator.

    Attributes:
        network: The score network.
        steps: Network evaluations.
        sigma_start: Noise level in [-1, 1] units at which the capture is taken for a state.
        deepinv_blur: Whether deepinv's own blur stands for our operator.
    """

    network: CountedNetwork
    steps: int
    sigma_start: float
    deepinv_blur: bool = False
    takes_map = True

    def physics(self, operator: DefocusOperator, **options):
        """The blur as deepinv's samplers take it."""
        return (deepinv_physics if self.deepinv_blur else physics)(operator, **options)

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        import torch

        from evaluation.methods.blur import blur_of
        from optics import DefocusOperator

        blur = blur_of(capture.y, radius_map)
        if not blur.radius_map.any():
            return Restored(capture.y, blur.radius_map, 0)
        operator = DefocusOperator(blur.radius_map)
        before = self.network.evaluations
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        x = operator.crop(self.sample(capture.y, operator, blur, seed))
        restored = torch.lerp(capture.y, x.to(capture.y).clamp(0, 1), blur.radius_map.to(capture.y).clamp(max=1))
        return Restored(restored, blur.radius_map, self.network.evaluations - before)

    def sample(self, y: Tensor, operator: DefocusOperator, blur: Blur, seed: int) -> Tensor:
        """A canvas in [0, 1], shape (1, 3, H + 2m, W + 2m), for a capture in [0, 1]."""
        raise NotImplementedError


@dataclass(frozen=True)
class DPS(_Sampler):
    """Diffusion posterior sampling.

    Attributes:
        weight: Of the data term, with the annealed variance of noise and state: the norm of the original form
            makes the weight depend on the number of pixels.
    """

    weight: float = 5.0

    def sample(self, y: Tensor, operator: DefocusOperator, blur: Blur, seed: int) -> Tensor:
        import torch
        from deepinv.physics import GaussianNoise
        from deepinv.sampling import DPS as Sampler
        from deepinv.sampling import DDPMSolver

        from evaluation.methods.network import UnitRangeDenoiser

        random = torch.Generator(y.device).manual_seed(seed)
        times = torch.linspace(_vp_time(self.sigma_start), 0, self.steps + 1, dtype=torch.float64)
        sampler = Sampler(
            UnitRangeDenoiser(self.network),
            solver=DDPMSolver(timesteps=times, rng=random),
            weight=self.weight,
            guidance="annealed",
            device=y.device,
        )
        noise = torch.randn(operator.extend(y).shape, generator=random, device=y.device)
        x_t = (2 * operator.extend(y) - 1 + self.sigma_start * noise) / math.hypot(1, self.sigma_start)
        model = self.physics(operator, noise_model=GaussianNoise(blur.total_std))
        return sampler(y, model, x_init=x_t.double())


@dataclass(frozen=True)
class DiffPIR(_Sampler):
    """Denoising diffusion models for plug-and-play image restoration.

    Attributes:
        strength: lambda, which multiplies the weight of the prior.
        renoise: zeta, the share of noise that is drawn anew.
    """

    strength: float = 2.0
    renoise: float = 1.0

    def sample(self, y: Tensor, operator: DefocusOperator, blur: Blur, seed: int) -> Tensor:
        import torch
        from deepinv.optim import L2
        from deepinv.sampling import DiffPIR as Sampler

        from evaluation.methods.network import UnitRangeDenoiser

        class FromCapture(Sampler):
            """Starts late: the library scales the first state by the last entry of its schedule."""

            def get_alpha_prod(self):
                return tuple(values[: start + 1] for values in super().get_alpha_prod())

        sampler = FromCapture(
            UnitRangeDenoiser(self.network),
            L2(),
            sigma=blur.total_std,
            max_iter=self.steps,
            zeta=self.renoise,
            lambda_=self.strength,
            device=y.device,
        )
        start = int(sampler.find_nearest(sampler.reduced_alpha_cumprod, self.sigma_start))
        last = sampler.num_train_timesteps - 1
        # Indices count from the noisiest level; the library spaces their squares evenly.
        squares = torch.linspace((last - start) ** 2, last**2, self.steps, device=y.device, dtype=torch.float64)
        sampler.seq = squares.sqrt().round().int()
        # The library draws from the global generator, and takes seed 0 for none.
        with torch.random.fork_rng(devices=[y.device] if y.device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(seed)
            return sampler(y, self.physics(operator, max_iter=20), x_init=operator.extend(y))


def dps(
    config: BenchmarkConfig, device: torch.device, deepinv_blur: bool = False, steps: int = 50, weight: float = 5.0
) -> Method:
    """DPS: the gradient of the data term is taken through the network.

    50 steps with a weight of 3 and 10 gained 1.24 and 1.28 dB. On the central 128 x 128 pixels: 1.9 dB with a weight
    of 5, 1.8 dB from a noise level of 0.15 with 5 or 10, and with 100 steps and a weight of 10 2.0 dB from 0.3 and
    1.75 dB from 0.15. With few steps a large weight diverges.

    Args:
        config: Its weights.
        device: Where it runs.
        deepinv_blur: Whether deepinv's own blur stands for our operator.
        steps: Network evaluations.
        weight: Of the data term, see `DPS`.

    Raises:
        MethodUnavailable: If deepinv is not installed.
    """
    _require_deepinv()
    from evaluation.methods.network import load_network

    network, _ = load_network(config, device)
    return DPS(network, steps=steps, sigma_start=0.3, deepinv_blur=deepinv_blur, weight=weight)


def diffpir(config: BenchmarkConfig, device: torch.device, deepinv_blur: bool = False, steps: int = 20) -> Method:
    """DiffPIR: a proximal step on the data after each denoising.

    lambda = 2 gained 2.2 dB with zeta = 0.3, and 3.7 dB with zeta = 1; 1 and 7 gained 0.0 and 1.9 dB with zeta = 0.3.
    On the central 128 x 128 pixels with zeta = 1: 2.2, 3.2, 3.3, 3.1 and 2.8 dB for lambda = 1, 1.5, 2, 3 and 4, and
    3.3 dB for 2 from a noise level of 0.2. Proximal steps are solved by at most 20 conjugate gradients.

    Args:
        config: Its weights.
        device: Where it runs.
        deepinv_blur: Whether deepinv's own blur stands for our operator.
        steps: Network evaluations.

    Raises:
        MethodUnavailable: If deepinv is not installed.
    """
    _require_deepinv()
    from evaluation.methods.network import load_network

    return DiffPIR(load_network(config, device)[0], steps=steps, sigma_start=0.3, deepinv_blur=deepinv_blur)


def _require_deepinv() -> None:
    try:
        import deepinv  # noqa: F401
    except ImportError:
        raise MethodUnavailable("needs the package deepinv: pip install 'scorefocus[peers]'") from None


def _vp_time(sigma: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """The time at which deepinv's variance-preserving SDE has the noise-to-signal ratio sigma."""
    slope = beta_max - beta_min
    return (math.sqrt(beta_min**2 + 2 * slope * math.log1p(sigma**2)) - beta_min) / slope
