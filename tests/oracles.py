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


class MatrixModel:
    """A linear capture y = M x of E values by a matrix (E, D), with shapes (B, C, H, W) -> (B, 1, 1, E)."""

    def __init__(self, matrix: Tensor, shape: tuple[int, int, int]) -> None:
        self.matrix, self.shape = matrix, shape

    def __call__(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.mT)[:, None, None]

    def adjoint(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.matrix).reshape(-1, *self.shape)

    def normal(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.adjoint(weight * self(x))

    def linearize(self, x: Tensor) -> tuple[Tensor, "MatrixModel"]:
        return self(x), self


def row_capture(
    size: int = 8, noise_std: float = 0.1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels in a row seen through a box blur of three and noise: mean, covariance, matrix and capture, float64."""
    mean = torch.linspace(-0.4, 0.6, size, dtype=torch.float64).reshape(1, 1, size)
    covariance = smooth_covariance(1, size, std=0.5, length=2.0)
    blur = sum(torch.diag(torch.full((size - abs(k),), 1 / 3, dtype=torch.float64), k) for k in (-1, 0, 1))
    generator = torch.Generator().manual_seed(5)
    z, n = torch.randn(2, size, generator=generator, dtype=torch.float64)
    x_0 = mean.flatten() + torch.linalg.cholesky(covariance) @ z
    return mean, covariance, blur, (blur @ x_0 + noise_std * n).reshape(1, 1, 1, size)


def row_posterior(noise_std: float = 0.1) -> tuple[Tensor, Tensor]:
    """Mean (1, 1, 8) and covariance (8, 8) of the row given its capture."""
    return linear_posterior(*row_capture(noise_std=noise_std), torch.tensor(noise_std**2))


def assert_drawn_from(samples: Tensor, mean: Tensor, covariance: Tensor, discretisation: float = 0.02) -> None:
    """Moments within Monte-Carlo error, 4.5 standard errors over all figures, and a share for discretisation."""
    samples = samples.flatten(1)
    count = len(samples)
    std = covariance.diagonal().sqrt()
    mean_error = (samples.mean(0) - mean.flatten()).abs() / std
    assert float(mean_error.max()) < 4.5 / count**0.5 + discretisation
    # The variance of a sample covariance is (C_ii C_jj + C_ij^2) / count.
    scale = torch.sqrt(std[:, None] ** 2 * std**2 + covariance.square())
    covariance_error = (samples.T.cov() - covariance).abs() / scale
    assert float(covariance_error.max()) < 4.5 / count**0.5 + discretisation
