"""What a defocus map network in training is worth: maps of simulated captures of held-out photos."""

import numpy as np
import torch

from optics.defocus_map import LearnedEstimator
from optics.defocus_map.network import DefocusMapNetwork
from photos import map_picture
from train.radius_likelihood import RadiusLikelihood
from train.simulated_captures import SimulatedCaptures

__all__ = ["MapProbe"]


class MapProbe:
    """A few captures of held-out photos whose radius maps are known.

    Args:
        captures: Those of held-out photos.
        count: Number of captures.
        device: Where the network is.
    """

    def __init__(self, captures: SimulatedCaptures, count: int, device: torch.device) -> None:
        self.largest = captures.simulation.largest_radius
        pairs = [captures.capture(number) for number in range(count)]
        self.y = torch.stack([torch.from_numpy(y.astype(np.float32) / 255) for y, _ in pairs]).to(device)
        self.radius_map = torch.stack([torch.from_numpy(radius.astype(np.float32)) for _, radius in pairs]).to(device)

    @torch.no_grad()
    def figures(self, network: DefocusMapNetwork) -> dict[str, float]:
        """Means over all pixels, by their names in the log.

        Returns:
            Absolute error in pixels; share of pixels that are right to half a pixel or 20 %; what the network believes
            that share to be; and the loss.
        """
        errors, right, believed = [], [], []
        for y, truth in zip(self.y, self.radius_map, strict=True):
            radius, confidence = LearnedEstimator(network).estimate(y[None])
            error = (radius - truth).abs()
            errors.append(error.mean())
            right.append((error <= (0.2 * truth).clamp(min=0.5)).float().mean())
            believed.append(confidence.mean())
        loss = RadiusLikelihood(network)(self.y, self.radius_map).mean()
        return {
            "map/error_px": _mean(errors), "map/right": _mean(right), "map/confidence": _mean(believed),
            "map/loss": float(loss),
        }  # fmt: skip

    @torch.no_grad()
    def pictures(self, network: DefocusMapNetwork, count: int) -> np.ndarray:
        """One picture, 8-bit: a row each of capture, true map, estimated map and confidence; (count S, 4 S, 3)."""
        rows = []
        for y, truth in list(zip(self.y, self.radius_map, strict=True))[:count]:
            radius, confidence = LearnedEstimator(network).estimate(y[None])
            maps = [map_picture(values[0].cpu().numpy(), self.largest) for values in (truth, radius[0])]
            seen = [(255 * values.permute(1, 2, 0)).round().byte().cpu().numpy() for values in (y, confidence[0])]
            rows.append(np.concatenate([seen[0], *maps, seen[1].repeat(3, 2)], axis=1))
        return np.concatenate(rows)


def _mean(values: list[torch.Tensor]) -> float:
    return float(torch.stack(values).mean())
