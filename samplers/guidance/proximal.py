"""Proximal guidance: a denoiser that knows the capture, without the network's gradient.

If the prior given x_t is approximated by a Gaussian around the denoiser's estimate D,
p(x_0 | x_t) = N(D, v I), then the posterior mean given the capture y = A x_0 + n as well is

    argmin_x ||W^1/2 (y - A x)||^2 / sigma_n^2 + ||x - D||^2 / v

solved for the increment d = x - D by conjugate gradients: (A^T W A + rho) d = A^T W (y - A D),
rho = sigma_n^2 / v. A second estimate x_bar with errors of variance u, independent of those of D, makes the
prior N(m, 1 / (1 / v + 1 / u)), m the mean of both weighted by 1 / v and 1 / u, pixel by pixel; m takes the place
of D and the new variance that of v. The same step is the data step of half-quadratic splitting in Zhu et al.,
"Denoising Diffusion Models for Plug-and-Play Image Restoration", CVPRW 2023
(https://arxiv.org/abs/2305.08995); reading it as E[x_0 | x_t, y] lets every sampler use it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion import Denoiser
from samplers.guidance.likelihood import ForwardModel, GuidedDenoiser, prior_variance

__all__ = ["ForwardModel", "ProximalGuidance", "SecondEstimate"]


@dataclass(frozen=True)
class SecondEstimate:
    """An estimate of the photo beside the denoiser's, as a regression gives it.

    Attributes:
        x: On the canvas, in [-1, 1] units, shape (B, C, H, W).
        precision: 1 / u, at least 0, shape (B, 1 or C, H, W) on the canvas; 0 where nothing is known.
        fade: Noise level in VE units below which it counts less: u is taken times 1 + (fade / sigma)^2, for both
            estimates come from one capture, and what they have in common is the more of the error the less noise
            there is. 0 keeps it.
    """

    x: Tensor
    precision: Tensor
    fade: float = 0.0

    def precision_at(self, sigma: Tensor) -> Tensor:
        """1 / u at the noise level sigma (VE units), shape of the precision."""
        return self.precision / (1 + (self.fade / sigma).square())


class ProximalGuidance(GuidedDenoiser):
    """Estimates E[x_0 | x_t, y] for a known blur.

    The variance v of the prior is `prior_variance`; at lambda = 1 and with s_d the standard deviation of
    photos this is the exact posterior variance of an isotropic Gaussian prior.

    Increments are kept between calls: at the next, lower noise level they are the solver's start.

    Args:
        denoiser: Estimates E[x_0 | x_t].
        model: The blur; linearised at each estimate.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units; a number or shape (B, 1 or C, H, W).
        strength: lambda; smaller trusts the capture more.
        photo_std: s_d in [-1, 1] units.
        iterations: Bound of the solver's iterations; the number used grows with the noise level.
        second: An estimate beside the denoiser's, or None.
        graph_capture: Whether the solver's product is captured in a CUDA graph at each evaluation; on a CUDA device
            alone.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        model: ForwardModel,
        y: Tensor,
        noise_std: float | Tensor,
        *,
        strength: float = 0.5,
        photo_std: float = 0.5,
        iterations: int = 16,
        second: SecondEstimate | None = None,
        graph_capture: bool = False,
    ) -> None:
        super().__init__(denoiser, model, y, noise_std, graph_capture)
        self.strength, self.photo_std, self.iterations = strength, photo_std, iterations
        self.second = second

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate, rho = self._prior(self.denoiser(x_t, t), self.sde.sigma_ve(t))
        return estimate + self.increment(estimate, rho, self.iterations)

    def _prior(self, estimate: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and rho of p(x_0 | x_t): those of the denoiser, or of both estimates."""
        precision = 1 / prior_variance(sigma, self.strength, self.photo_std)
        if self.second is not None:
            added = self.second.precision_at(sigma)
            precision = precision + added
            # The mean of two as one of them and a share of the difference.
            estimate = torch.lerp(estimate, self.second.x, added / precision)
        return estimate, self.likelihood.noise_variance * precision
