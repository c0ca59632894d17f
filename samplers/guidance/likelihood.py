"""What a capture says of the photo: y = A(x) + n, n ~ N(0, diag(sigma_n^2)), and denoisers that know it.

Noise may differ from pixel to pixel: sigma_n^2 is then the smallest variance, and weights W in [0, 1] carry the rest. A
blur that is not linear, as that of linear light, is linearised at each estimate.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from diffusion import Denoiser
from optics.conjugate_gradient import improve
from samplers.guidance.graph import CapturedMap

__all__ = ["ForwardModel", "GuidanceError", "GuidedDenoiser", "Likelihood", "LinearOperator", "prior_variance"]


class GuidanceError(ValueError):
    """A guidance cannot do what it is asked for; the message, for the user, names those that can."""


class LinearOperator(Protocol):
    """A linear map of canvases to captures with its adjoint."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def adjoint(self, y: Tensor) -> Tensor: ...

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        """The adjoint of weight times the map of x; the weight is a number or one of each value of the capture."""


class ForwardModel(Protocol):
    """What happened to the photo: `optics.DefocusOperator` or `optics.LinearLightDefocus`."""

    def linearize(self, x: Tensor) -> tuple[Tensor, LinearOperator]:
        """The prediction of the capture at x, and the derivative there."""


class Likelihood:
    """The density of a capture given the photo.

    Args:
        model: The blur.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units; a number or shape (B, 1 or C, H, W).
        graph_capture: Whether `solve` captures its product in a CUDA graph; on a CUDA device alone.

    Raises:
        ValueError: If the noise is not positive, or the capture is of another size than those of the model.
    """

    def __init__(
        self, model: ForwardModel, y: Tensor, noise_std: float | Tensor, graph_capture: bool = False
    ) -> None:
        # A model of someone else's may take captures of any size.
        size = getattr(model, "capture_size", None)
        if size is not None and tuple(y.shape[-2:]) != tuple(size):
            raise ValueError(f"y must be of the size {tuple(size)} of the model's captures, got {tuple(y.shape[-2:])}")
        noise_std = torch.as_tensor(noise_std, device=y.device, dtype=y.dtype)
        if not (noise_std > 0).all():
            raise ValueError(f"noise_std must be positive, got {float(noise_std.min()):g} at least")
        self.model, self.y, self.graph_capture = model, y, graph_capture
        noise_variance = noise_std.square()
        # One number serves as sigma_n^2; where noise varies, the weights W carry the rest.
        self.noise_variance = noise_variance.min()
        self.weight = self.noise_variance / noise_variance

    def linearize(self, x: Tensor) -> tuple[Tensor, LinearOperator]:
        """The residual y - A(x) of a canvas x, shape (B, C, H, W), and the derivative of A there."""
        prediction, derivative = self.model.linearize(x)
        return self.y - prediction, derivative

    def misfit(self, residual: Tensor) -> Tensor:
        """Root mean square of a residual in standard deviations of the noise: 1 is what noise alone leaves; scalar."""
        return (self.weight * residual.square()).mean().div(self.noise_variance).sqrt()

    def solve(self, derivative: LinearOperator, rho: Tensor, x: Tensor, residual: Tensor, iterations: int) -> Tensor:
        """Improves a solution of (A^T W A + rho) x = b by conjugate gradients.

        Args:
            derivative: A.
            rho: sigma_n^2 / v, scalar or of the shape of x.
            x: Start, a canvas, shape (B, C, H, W); overwritten.
            residual: b - (A^T W A + rho) x, same shape; overwritten.
            iterations: Bound of the solver's iterations.

        Returns:
            x.

        Raises:
            ValueError: If the product is to be captured on a device that is not CUDA's.
        """

        def normal(d: Tensor) -> Tensor:
            return derivative.normal(d, self.weight).addcmul_(rho, d)

        apply = CapturedMap(normal, x) if self.graph_capture else normal
        return improve(apply, x, residual, _sufficient(rho.min(), iterations))


class GuidedDenoiser(Denoiser):
    """A denoiser that knows the capture; on its own the prior's, for samplers that meet the capture themselves.

    Args:
        denoiser: Estimates E[x_0 | x_t].
        model: The blur; linearised at each estimate.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units; a number or shape (B, 1 or C, H, W).
        graph_capture: As of `Likelihood`.

    Attributes:
        residual: `Likelihood.misfit` of the prior's estimate in the last evaluation, scalar; None before it.
    """

    def __init__(
        self, denoiser: Denoiser, model: ForwardModel, y: Tensor, noise_std: float | Tensor,
        graph_capture: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.denoiser, self.sde = denoiser, denoiser.sde
        self.likelihood = Likelihood(model, y, noise_std, graph_capture)
        self.residual: Tensor | None = None
        self._increment: Tensor | None = None

    def restart(self) -> None:
        """Forgets the run before, so that the next one is that of a new denoiser."""
        self.residual = self._increment = None

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate = self.denoiser(x_t, t)
        self.linearize(estimate)
        return estimate

    def linearize(self, estimate: Tensor) -> tuple[Tensor, LinearOperator]:
        """`Likelihood.linearize` at the prior's estimate, whose misfit is kept."""
        residual, derivative = self.likelihood.linearize(estimate)
        self.residual = self.likelihood.misfit(residual)
        return residual, derivative

    def increment(self, estimate: Tensor, rho: Tensor, iterations: int) -> Tensor:
        """What the capture adds to a Gaussian prior of mean D and variance v = sigma_n^2 / rho.

        Argmin over d of ||W^1/2 (y - A(D + d))||^2 / sigma_n^2 + ||d||^2 / v, with A linearised at D. It is kept: at
        the next, lower noise level it is the solver's start.

        Args:
            estimate: D, the prior's mean, shape (B, C, H, W).
            rho: Scalar or of the shape of D.
            iterations: Bound of the solver's iterations.

        Returns:
            d = (A^T W A + rho)^-1 A^T W (y - A D), by conjugate gradients; of the shape of D.
        """
        data, x = self.likelihood, self._increment
        difference, derivative = self.linearize(estimate)
        if x is not None:
            difference -= derivative(x)
        residual = derivative.adjoint(data.weight * difference)
        del difference  # Every array counts where photos are large.
        if x is None:
            x = torch.zeros_like(residual)
        else:
            residual.addcmul_(rho, x, value=-1)
        self._increment = data.solve(derivative, rho, x, residual, iterations)
        return self._increment


def prior_variance(sigma: Tensor, strength: float = 1.0, photo_std: float = 0.5) -> Tensor:
    """The variance v = sigma^2 / (lambda (1 + sigma^2 / s_d^2)) of x_0 given x_t.

    At lambda = 1 it is exact for photos of independent pixels with standard deviation s_d.

    Args:
        sigma: Noise level of x_t / alpha (VE units).
        strength: lambda; smaller trusts the capture more.
        photo_std: s_d in [-1, 1] units.
    """
    return sigma.square() / (strength * (1 + sigma.square() / photo_std**2))


def _sufficient(rho: Tensor, bound: int) -> int:
    # Conjugate gradients reduce the error by about exp(-2 k / sqrt(condition)) in k iterations, and the
    # spectrum of A^T A + rho lies in [rho, 1 + rho]: what is left of the error is a tenth.
    return min(bound, math.ceil(1.5 * math.sqrt(1 + 1 / float(rho))))
