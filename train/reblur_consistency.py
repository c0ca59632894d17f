"""Maps without labels and without pairs: a capture that is blurred once more must be found blurred so much more.

Variances add under convolution, and a blur radius is twice a standard deviation: whatever the PSF of radius r,
blurring by a Gaussian of radius r0 makes it one of radius

    sqrt(r^2 + r0^2).

A disk, or a disk with a Gaussian, stays in the family of `optics.psf` in the process. So any capture, of a camera that
nobody has measured, gives a pair whose distributions over the radius are known from one another: that of the blurred
one, q, is that of the capture, p, with its probability moved. The loss is the cross-entropy of the moved p, held fixed,
with q.

Two things it cannot know. It determines r^2 up to a constant of the network's own: a network that takes everything for
softer by the same variance is as consistent. Likelihood on simulated captures, mixed in, settles that. And where
blurring changes nothing that can be seen, nothing moves; there the loss has no weight.
"""

import math

import numpy as np
import torch
from scipy.ndimage import correlate1d, gaussian_filter
from torch import Tensor
from torch.utils.data import Dataset

from optics.defocus_map.network import CELL
from optics.noise import estimate_noise_std
from photos import PhotoError
from train.photo_cache import PhotosInMemory
from train.radius_likelihood import soft_labels
from train.simulated_captures import SimulatedCaptures, turned

__all__ = ["BlurredOnceMore", "blurred_once_more", "consistency_loss", "moved"]

_LEAST, _LARGEST = 1.0, 0.75  # of r0: in pixels, and as a share of the largest radius
_NEIGHBOURHOOD = 3  # cells
_TRIES = 24


def moved(probability: Tensor, radii: tuple[float, ...], added_radius: Tensor) -> Tensor:
    """Distributions of sqrt(r^2 + r0^2) from those of r; what lies beyond the candidates counts as the last.

    Args:
        probability: Shape (B, K, h, w).
        radii: K candidate radii in pixels, increasing.
        added_radius: r0 of each capture in pixels, shape (B,).

    Returns:
        Same shape; means are kept, for each radius is shared out between two candidates.
    """
    nodes = probability.new_tensor(radii)
    targets = (nodes.square() + added_radius[:, None].square()).sqrt()  # (B, K)
    shares = soft_labels(targets[:, None, :, None], radii)[..., 0]  # (B, K to, K from)
    return torch.einsum("bjk,bkhw->bjhw", shares.to(probability), probability)


def consistency_loss(
    probability: Tensor, log_again: Tensor, radii: tuple[float, ...], added_radius: Tensor, visible: Tensor
) -> Tensor:
    """Cross-entropy in nats per cell between moved distributions and those found.

    Args:
        probability: p of captures, shape (B, K, h, w); no gradient passes.
        log_again: log q of the captures blurred once more, same shape.
        radii: K candidate radii in pixels, increasing.
        added_radius: r0 of each capture in pixels, shape (B,).
        visible: Weights of the cells in [0, 1], shape (B, 1, h, w).

    Returns:
        Weighted sums over the number of cells, shape (B,): a capture that shows nothing weighs nothing.
    """
    target = moved(probability.detach(), radii, added_radius)
    entropy = -(target * log_again).sum(1, keepdim=True)
    return (visible * entropy).mean((1, 2, 3))


def blurred_once_more(y: np.ndarray, added_radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blurs a capture by a Gaussian and gives it back the noise that blurring took.

    Args:
        y: Capture in [0, 1], float32, shape (3, H, W); H and W are multiples of 4.
        added_radius: r0 in pixels; the Gaussian's standard deviation is half of it.
        rng: Source of the noise.

    Returns:
        The blurred capture, float32, same shape, and how visible the change is in cells of 4 x 4 px, float32 in [0, 1],
        shape (1, H / 4, W / 4): 0 where it is no more than blurred noise.
    """
    std = added_radius / 2
    blurred = gaussian_filter(y, (0, std, std), mode="reflect")
    noise_std = estimate_noise_std(torch.from_numpy(y)[None])
    kernel = np.zeros(2 * math.ceil(4 * std) + 3)
    kernel[len(kernel) // 2] = 1
    kernel = gaussian_filter(kernel, std)
    energy = float(np.square(kernel).sum()) ** 2  # share of the variance of white noise that is left
    again = blurred + noise_std * math.sqrt(1 - energy) * rng.standard_normal(y.shape)
    change = np.square(blurred - y).mean(0)
    cells = change.reshape(y.shape[1] // CELL, CELL, y.shape[2] // CELL, CELL).mean((1, 3))
    box = np.full(_NEIGHBOURHOOD, 1 / _NEIGHBOURHOOD)
    for axis in (0, 1):
        cells = correlate1d(cells, box, axis, mode="nearest")
    # Blurring takes at most its own variance from white noise.
    visible = np.maximum(cells - noise_std**2, 0) / (cells + noise_std**2)
    return again.clip(0, 1).astype(np.float32), visible[None].astype(np.float32)


class BlurredOnceMore(Dataset):
    """Simulated captures, each with a capture to be consistent on.

    To item n it adds `plain`, `again`, `added_radius` and `visible`, see `train.map_objective.MapObjective.forward`.

    Args:
        captures: The simulated captures.
        photos: Real captures, of any sizes, without truth; None takes the simulated ones without theirs.
    """

    def __init__(self, captures: SimulatedCaptures, photos: PhotosInMemory | None = None) -> None:
        self.captures, self.photos = captures, photos
        # What a loader asks for.
        self.config, self.batch = captures.config, captures.batch

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        item = self.captures[sample]
        rng = np.random.default_rng([self.captures.seed, 2, sample])
        plain = item["y"].numpy() if self.photos is None else self._part_of_a_photo(rng)
        largest = self.captures.simulation.largest_radius
        added_radius = rng.uniform(_LEAST, max(_LARGEST * largest, _LEAST))
        again, visible = blurred_once_more(plain, added_radius, rng)
        return item | {
            "plain": torch.from_numpy(plain), "again": torch.from_numpy(again), "visible": torch.from_numpy(visible),
            "added_radius": torch.tensor(added_radius, dtype=torch.float32),
        }  # fmt: skip

    def _part_of_a_photo(self, rng: np.random.Generator) -> np.ndarray:
        """A random part at its own size, turned: shrinking would change its blur, and what the file did to it."""
        side = self.config.patch
        for _ in range(_TRIES):
            try:
                photo = self.photos[int(rng.integers(len(self.photos)))]
            except PhotoError:
                continue
            if min(photo.shape[:2]) >= side:
                break
        else:
            raise ValueError(f"objective.captures: expected whole photos of at least {side} pixels, got too few")
        top, left = (int(rng.integers(length - side + 1)) for length in photo.shape[:2])
        part = photo[top : top + side, left : left + side].transpose(2, 0, 1)
        return turned(part, int(rng.integers(4)), bool(rng.integers(2))).astype(np.float32) / np.float32(255)
