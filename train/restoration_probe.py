"""What a latent prior in training is worth: captures of held-out photos, restored."""

import numpy as np
import torch
from torch import Tensor

from diffusion.latent_prior.swin_diff import Regression, SwinDiff
from train.simulated_pairs import SimulatedPairs, whole_pairs

__all__ = ["RestorationProbe"]


class RestorationProbe:
    """A few whole captures whose sharp photos are known.

    Args:
        pairs: Those of held-out photos.
        count: Number of captures.
        device: Where the network is.
    """

    def __init__(self, pairs: SimulatedPairs, count: int, device: torch.device) -> None:
        self.x, self.y = (one.to(device) for one in whole_pairs(pairs, count))

    @torch.no_grad()
    def figures(self, network: SwinDiff) -> dict[str, float]:
        """Means over the captures, by their names in the log.

        Returns:
            Gain in PSNR over the capture in dB, of all and of the eighth where it is least, with the prior that is
            had from captures alone, or none in stage 1; in stage 1 also the gain with the prior that saw the sharp
            photo; absolute error in [-1, 1] units, and what the network takes it to be.
        """
        estimates = [network(y[None]) for y in self.y]
        gains = self._gains(estimates)
        figures = {
            "restoration/gain_db": float(gains.mean()),
            "restoration/worst_gain_db": float(gains.sort().values[: max(len(gains) // 8, 1)].mean()),
            "restoration/error": _mean((one.x - x).abs() for one, x in zip(estimates, self.x, strict=True)),
            "restoration/expected_error": _mean(one.log_scale.exp() for one in estimates),
        }
        if network.config.stage == 1:
            pairs = zip(self.x, self.y, strict=True)
            seen = [network.restore(y[None], network.pair_prior(x[None], y[None])) for x, y in pairs]
            figures["restoration/gain_db_sharp_prior"] = float(self._gains(seen).mean())
        return figures

    @torch.no_grad()
    def pictures(self, network: SwinDiff, count: int) -> np.ndarray:
        """One picture, 8-bit: a row each of capture, restored photo, sharp photo, expected error; (count S, 4 S, 3)."""
        rows = []
        for x, y in list(zip(self.x, self.y, strict=True))[:count]:
            estimate = network(y[None])
            # The whole scale is an error of a tenth of the range.
            error = (10 * estimate.log_scale[0].exp().expand(3, -1, -1) - 1).clamp(-1, 1)
            seen = [(127.5 * (one.clamp(-1, 1) + 1)).round().byte() for one in (y, estimate.x[0], x, error)]
            rows.append(torch.cat(seen, dim=2).permute(1, 2, 0).cpu().numpy())
        return np.concatenate(rows)

    def _gains(self, estimates: list[Regression]) -> Tensor:
        squares = [
            [(one.clamp(-1, 1) - x).square().mean() for one in (estimate.x[0], y)]
            for estimate, x, y in zip(estimates, self.x, self.y, strict=True)
        ]
        return torch.stack([10 * (before / after).log10() for after, before in squares])


def _mean(values) -> float:  # noqa: ANN001 - tensors, one after the other
    return float(torch.stack([value.mean() for value in values]).mean())
