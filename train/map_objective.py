"""What a defocus map network is trained for: likelihood of true radii, re-blurring, consistency, or a mixture."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optics.defocus_map.network import DefocusMapNetwork
from train.radius_likelihood import radius_cross_entropy
from train.reblur_consistency import consistency_loss
from train.reblur_misfit import ReblurMisfit

__all__ = ["MapObjective", "MapObjectiveConfig"]


@dataclass
class MapObjectiveConfig:
    """Weights of the parts of the objective; a part of weight 0 is not computed.

    Attributes:
        likelihood: Of the true radii of simulated captures, in nats per cell, see `train.radius_likelihood`.
        reblur: Of the misfit of the sharp photo, blurred by the map, to the capture, see `train.reblur_misfit`; it does
            without the radii.
        kernels: Kernels of the re-blurring: `disk`, or `learned` along with the network.
        consistency: Of captures with themselves blurred once more, see `train.reblur_consistency`; it does without the
            radii and without the photos. On its own it leaves the zero of the radius open.
        captures: Folder of real captures to be consistent on; null takes the simulated ones.
    """

    likelihood: float = 1.0
    reblur: float = 0.0
    kernels: str = "disk"
    consistency: float = 0.0
    captures: str | None = None

    def __post_init__(self) -> None:
        weights = (self.likelihood, self.reblur, self.consistency)
        # Negated, so that NaN is refused too.
        if not all(0 <= weight < float("inf") for weight in weights):
            raise ValueError(f"objective.likelihood, reblur and consistency must be at least 0, got {weights}")
        if not self.likelihood + self.reblur > 0:
            raise ValueError("objective.likelihood or reblur must be above 0: consistency leaves the zero open")
        if self.kernels not in ("disk", "learned"):
            raise ValueError(f"objective.kernels must be disk or learned, got {self.kernels}")
        if self.kernels == "learned" and not self.reblur > 0:
            raise ValueError("objective.kernels=learned needs objective.reblur above 0")
        if self.captures is not None and not self.consistency > 0:
            raise ValueError(f"objective.captures={self.captures} needs objective.consistency above 0")


class MapObjective(nn.Module):
    """The weighted sum of the parts.

    Args:
        network: The network.
        config: The weights.
    """

    def __init__(self, network: DefocusMapNetwork, config: MapObjectiveConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        learned = config.kernels == "learned"
        self.misfit = ReblurMisfit(network.radii, learned=learned) if config.reblur > 0 else None

    def forward(
        self, y: Tensor, radius_map: Tensor, x: Tensor | None = None, plain: Tensor | None = None,
        again: Tensor | None = None, added_radius: Tensor | None = None, visible: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The loss of each capture.

        Args:
            y: Captures in [0, 1], shape (B, 3, H, W); H and W are multiples of 4.
            radius_map: True blur radii in pixels, shape (B, 1, H, W); used by the likelihood alone.
            x: Sharp photos in [0, 1], same shape as y; for re-blurring.
            plain: Captures in [0, 1], shape (B, 3, H, W); for consistency, as the following are.
            again: The same blurred once more.
            added_radius: By how much in pixels, shape (B,).
            visible: Weights of their cells, shape (B, 1, H / 4, W / 4).

        Returns:
            Shape (B,).
        """
        config, radii, loss = self.config, self.network.radii, 0
        log_probability = self.network(y)
        if config.likelihood > 0:
            loss = loss + config.likelihood * radius_cross_entropy(log_probability, radius_map, radii)
        if self.misfit is not None:
            loss = loss + config.reblur * self.misfit(log_probability.exp(), y, x)
        if config.consistency > 0:
            with torch.no_grad():
                probability = self.network(plain).exp()
            found = self.network(again)
            loss = loss + config.consistency * consistency_loss(probability, found, radii, added_radius, visible)
        return loss
