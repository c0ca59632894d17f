"""Closed forms that the samplers and guides are compared with: everything Gaussian and linear.

The prior is x_0 ~ N(mean, covariance) over the D = C H W flattened pixels of one photo. Given a linear
capture y = M x_0 + n the posterior is Gaussian again, and since x_t depends on y through x_0 alone,
E[x_0 | x_t, y] is the denoiser of that posterior.
"""

import torch
from torch import Tensor

from diffusion import Denoiser


class GaussianDenoiser(Denoiser):
    """Exact E[x_0 | x_t] of a Gaussian prior.

    Args:
        sde: The diffusion of x_t.
        mean: Mean photo, shape (C, H, W).
        covariance: Shape (D, D), or variances of independent pixels, shape (C, H, W).
    """

    def __init__(self, sde, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.sde, self.mean = sde, mean
        self.covariance = covariance if covariance.shape == 2 * (mean.numel(),) else torch.diag(covariance.flatten())
        self.variances, self.axes = torch.linalg.eigh(self.covariance)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.marginal(torch.as_tensor(t))
        gain = alpha * self.variances / (alpha.square() * self.variances + sigma.square())
        offset = (x_t - alpha * self.mean).flatten(1) @ self.axes
        return self.mean + ((gain * offset) @ self.axes.mT).reshape(x_t.shape)

    def marginal(self, t: Tensor) -> torch.distributions.MultivariateNormal:
        """The distribution of the flattened x_t."""
        alpha, sigma = self.sde.marginal(t)
        covariance = alpha.square() * self.covariance + sigma.square() * torch.eye(self.mean.numel()).to(self.mean)
        return torch.distributions.MultivariateNormal(alpha * self.mean.flatten(), covariance)


def linear_posterior(
    mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise_variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean (C, H, W) and covariance (D, D) of x_0 given y = matrix x_0 + n, n of independent variances.

    Args:
        mean: Shape (C, H, W).
        covariance: Shape (D, D).
        matrix: Shape (E, D).
        y: Capture of E values in any shape.
        noise_variance: Scalar, or of E values.
    """
    noise = torch.diag(torch.as_tensor(noise_variance).to(mean).expand(y.shape).flatten())
    gain = torch.linalg.solve(matrix @ covariance @ matrix.mT + noise, matrix @ covariance).mT
    posterior_mean = mean.flatten() + gain @ (y.flatten() - matrix @ mean.flatten())
    posterior = covariance - gain @ matrix @ covariance
    return posterior_mean.reshape(mean.shape), (posterior + posterior.mT) / 2


def dense_matrix(operator, shape: tuple[int, int, int]) -> Tensor:
    """The matrix (E, D) of a linear map of photos of shape (C, H, W), column by column."""
    size = shape[0] * shape[1] * shape[2]
    basis = torch.eye(size).reshape(size, *shape)
    return torch.cat([operator(column[None]).flatten()[:, None] for column in basis], dim=1)


def smooth_covariance(height: int, width: int, std: float = 0.5, length: float = 2.0) -> Tensor:
    """Covariance of a one-channel photo whose pixels correlate as exp(-distance / length), float64."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
    return std**2 * torch.exp(-torch.cdist(places, places) / length)
