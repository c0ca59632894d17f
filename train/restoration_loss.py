"""What a latent prior is trained on: the sharp photo, its own error, and in stage 2 the prior of stage 1.

    stage 1    |x_bar - x|
    stage 2    |x_bar - x| + |z - z_1|       z_1 = E_1(x, y), no longer trained
    both       w_f |F (x_bar - x)|           F the orthonormal Fourier transform, moduli
    both       w_p d(x_bar, x)               d a perceptual distance
    both       w (log 2 b + e / b)           e = |x_bar - x|, mean over the colours of a pixel

The first two are those of the relatives of Swin-Diff, see `diffusion/latent_prior/encoder.py`, all means of
absolute values. The third asks for the fine details, which are faint and spread over many pixels: Cho et al.,
"Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (MIMO-UNet), ICCV 2021
(https://arxiv.org/abs/2108.05054), at one scale. The fourth asks for textures that look right where those that are
right cannot be told: pixels alone ask for their mean, which is smooth; Zhang et al., CVPR 2018, see
`evaluation.metrics.LPIPS`. The last is the negative log-likelihood of a Laplace distribution; e is held fixed in it and
b has layers of its own, so that the estimate is where the others alone would have it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion.latent_prior.swin_diff import SwinDiff
from evaluation.metrics import LPIPS

__all__ = ["RestorationLoss", "perceptual_distance"]


class RestorationLoss(nn.Module):
    """Network and loss as one module, so that data parallelism sees all that learns.

    What a stage does not train has its gradients switched off: E_2 and the diffusion in stage 1, E_1 in stage 2.

    Args:
        network: The network, of either stage.
        error_weight: w.
        spectrum_weight: w_f.
        perceptual_weight: w_p.
        perceptual: d, from two batches in [-1, 1], (B, 3, H, W), to (B,); unused where w_p is 0.
    """

    def __init__(
        self, network: SwinDiff, error_weight: float, spectrum_weight: float = 0.0, perceptual_weight: float = 0.0,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.error_weight, self.spectrum_weight = network, error_weight, spectrum_weight
        # No module: its weights are not to be in checkpoints.
        self.perceptual_weight, self.perceptual = perceptual_weight, perceptual
        idle = (network.pair_encoder,) if self.stage == 2 else (network.capture_encoder, network.latent_diffusion)
        for part in idle:
            part.requires_grad_(False)

    @property
    def stage(self) -> int:
        """1 or 2."""
        return self.network.config.stage

    def forward(self, x: Tensor, y: Tensor, keep: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The parts of the loss of each sample.

        Args:
            x: Sharp photos in [-1, 1], shape (B, 3, H, W).
            y: Captures in [-1, 1], same shape.
            keep: 1 where the prior is kept, 0 where it is left out, shape (B, 1).
            noise: Standard normal, shape (B, N, D).

        Returns:
            Loss of the photo with its spectrum and looks, of the prior (0 in stage 1), of the expected error (times its
            weight), shape (B,) each.
        """
        prior, prior_loss = self._prior(x, y, noise)
        estimate = self.network.restore(y, prior * keep[:, :, None])
        error = (estimate.x - x).abs()
        photo_loss = error.mean((1, 2, 3))
        if self.spectrum_weight:
            spectrum = torch.fft.rfft2((estimate.x - x).float(), norm="ortho").abs()
            photo_loss = photo_loss + self.spectrum_weight * spectrum.mean((1, 2, 3))
        if self.perceptual_weight:
            photo_loss = photo_loss + self.perceptual_weight * self.perceptual(estimate.x, x)
        fixed = error.detach().mean(1, keepdim=True)
        likelihood = estimate.log_scale + 0.6931 + fixed * (-estimate.log_scale).exp()
        return photo_loss, prior_loss, self.error_weight * likelihood.mean((1, 2, 3))

    def _prior(self, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        if self.stage == 1:
            return network.pair_prior(x, y), x.new_zeros(len(x))
        with torch.no_grad():
            target = network.pair_prior(x, y)
        diffusion = network.latent_diffusion
        prior = network.prior(network.capture_encoder(y), diffusion.noised(target, diffusion.steps, noise))
        return prior, (prior - target).abs().mean((1, 2))


def perceptual_distance(weight: float, folder: str | None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The distance d that photos are trained by, LPIPS of SqueezeNet; None for a weight of 0.

    Args:
        weight: w_p.
        folder: As `weights` of `LPIPS`.

    Raises:
        ValueError: If it cannot be had.
    """
    if not weight:
        return None
    distance = LPIPS("squeeze", folder)
    if distance.reason:
        raise ValueError(f"lpips_weight={weight:g} needs LPIPS: {distance.reason}; give its folder as lpips=")
    return distance.distances
