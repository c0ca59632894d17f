"""Moment matching: the covariance of the photo given the state, from the network's own Jacobian.

By Tweedie's second formula Cov[x_0 | x_t] = sigma^2 J in the rescaled state (Efron, JASA 2011). With the Gaussian of
that covariance, p(y | x_t) = N(A D, A sigma^2 J A^T + sigma_n^2 W^-1) and the posterior mean is

    D + sigma^2 J^T A^T (A sigma^2 J^T A^T + sigma_n^2 W^-1)^-1 (y - A D)

Finzi et al., "User-defined Event Sampling and Uncertainty Quantification in Diffusion Models for Physical Dynamical
Systems", ICML 2023 (https://arxiv.org/abs/2306.07526); Rozet et al., "Learning Diffusion Priors from Observations by
Expectation Maximization", NeurIPS 2024 (https://arxiv.org/abs/2405.13712), solve it by conjugate gradients with a
product by J^T in each iteration, as here. Exact for every Gaussian prior, whatever its covariance. A trained network's
J is symmetric only nearly, so that the iterations are few.

Needs the network's gradient, once more in every iteration; takes noise that differs from pixel to pixel, and linear
light.
"""

from torch import Tensor

from diffusion import Denoiser
from optics.conjugate_gradient import conjugate_gradient
from samplers.guidance.gradient import differentiate
from samplers.guidance.likelihood import ForwardModel, GuidedDenoiser

__all__ = ["MomentMatchingGuidance"]


class MomentMatchingGuidance(GuidedDenoiser):
    """The posterior mean of the Gaussian with the first two moments of p(x_0 | x_t).

    Args:
        denoiser: Estimates E[x_0 | x_t]; its network has a gradient.
        model: The blur; linearised at each estimate.
        y: Capture in [-1, 1], shape (B, C, H, W).
        noise_std: Noise of the capture in [-1, 1] units; a number or shape (B, 1 or C, H, W).
        iterations: Of the solver; each costs a pass back through the network.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        model: ForwardModel,
        y: Tensor,
        noise_std: float | Tensor,
        *,
        iterations: int = 4,
    ) -> None:
        super().__init__(denoiser, model, y, noise_std)
        self.iterations = iterations

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        estimate, pullback = differentiate(self.denoiser, x_t, t, "moment-matching")
        variance = self.sde.sigma_ve(t).square()
        residual, derivative = self.linearize(estimate)
        data = self.likelihood
        root = data.weight.sqrt()

        def spread(v: Tensor) -> Tensor:
            """Cov[x_0 | x_t] A^T W^1/2 v, a canvas."""
            return variance * pullback(derivative.adjoint(root * v))

        # For W^-1/2 times the unknown, so that pixels of no weight leave the system well-posed. From zero each time:
        # few iterations with a J that is symmetric only nearly do not mend a start that another level has left.
        solution = conjugate_gradient(
            lambda v: root * derivative(spread(v)) + data.noise_variance * v,
            root * residual,
            residual.new_zeros(residual.shape),
            iterations=self.iterations,
        )
        return estimate + spread(solution)
