"""The score network without any knowledge of the blur: plain denoising, and restoration by noising and denoising.

Both see the capture alone. What they gain is what a prior of sharp photos gives without an operator; the
difference to the guided sampler is what the operator gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.methods import Method, Restored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffusion import SDE
    from evaluation.captures import Capture
    from evaluation.methods.network import CountedNetwork
    from evaluation.settings import BenchmarkConfig
    from samplers.settings import SamplerSettings

__all__ = ["denoise", "sdedit"]

SIGMA_START = 0.05
STEPS = 8


@dataclass(frozen=True)
class _Denoise:
    network: CountedNetwork
    takes_map = False

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        import torch

        from optics import estimate_noise_std

        before = self.network.evaluations
        sigma = torch.tensor(2 * estimate_noise_std(capture.y))
        with torch.no_grad():
            x = self.network(2 * capture.y - 1, sigma)
        return Restored(((x + 1) / 2).clamp(0, 1), None, self.network.evaluations - before)


@dataclass(frozen=True)
class _SDEdit:
    network: CountedNetwork
    sde: SDE
    settings: SamplerSettings
    takes_map = False

    def __call__(self, capture: Capture, radius_map: Tensor | None, generator: torch.Generator) -> Restored:
        import torch

        from diffusion import ScoreDenoiser
        from samplers.predictor_corrector import start_state

        before = self.network.evaluations
        sampler = self.settings.sampler()
        with torch.no_grad():
            x_t = start_state(self.sde, 2 * capture.y - 1, sampler.sigmas[0], generator)
            x = sampler(ScoreDenoiser(self.network, self.sde), x_t, generator=generator)
        return Restored(((x + 1) / 2).clamp(0, 1), None, self.network.evaluations - before)


def denoise(config: BenchmarkConfig, device: torch.device) -> Method:
    """One evaluation of our score network at the noise level of the capture: a Gaussian denoiser.

    It stands in for DnCNN and FFDNet, the denoisers that the paper on score-based defocus deblurring compares
    itself with (+13.4 % PSNR and +34.7 % SSIM on average over them and CycleGAN, on its own captures): like them
    it removes noise and no blur.
    """
    from evaluation.methods.network import load_network

    return _Denoise(load_network(config, device)[0])


def sdedit(config: BenchmarkConfig, device: torch.device) -> Method:
    """Noises the capture and integrates the reverse SDE with the unguided score, predictor and corrector.

    The plainest reading of score-based defocus deblurring: the score of sharp photos alone is to remove the blur.
    The scheme is that of Meng et al., "SDEdit", ICLR 2022 (https://arxiv.org/abs/2108.01073), with the sampler of
    Song et al., ICLR 2021: reverse diffusion and a Langevin correction at each noise level.

    On simulated captures of 3 photos of BSDS500's training split, one per radius map of `evaluation.simulated`, it
    loses the more the more noise it starts from: -0.04, -0.6, -2.2 and -3.9 dB at 0.05, 0.1, 0.2 and 0.3 in [-1, 1]
    units, LPIPS 0.27, 0.31, 0.38 and 0.41 against 0.27 before. It starts from the least of these.
    """
    from evaluation.methods.network import load_network
    from samplers.settings import SamplerSettings

    settings = SamplerSettings(
        steps=STEPS,
        sigma_start=SIGMA_START,
        predictor="reverse-diffusion",
        temperature=1.0,
        corrector_below=SIGMA_START,
    )
    return _SDEdit(*load_network(config, device), settings)
