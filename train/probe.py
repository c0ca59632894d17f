"""The deblurring probe: what a network in training is worth to the restorer it is meant for.

Captures are simulated from held-out photos with the maps, the exact disks and the noise of
`evaluation.simulated`, only smaller, and restored with their true maps by the preset `fast`.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffusion import VESDE
from evaluation.simulated import CROP, NOISE_STD, RADIUS_MAPS, defocus
from samplers.config import load_config
from samplers.pipeline import DefocusDeblurPipeline
from samplers.settings import SamplerSettings, preset_file
from train.panels import held_out_crops, picture_grid

__all__ = ["DeblurringProbe"]


class DeblurringProbe:
    """A few small captures whose sharp photos and blur maps are known.

    Args:
        files: Held-out photos; where there are fewer than captures, each is used with several maps.
        device: Where the network is.
        captures: Number of captures.
        side: Side of a capture in pixels.
    """

    def __init__(self, files: list[Path], device: torch.device, captures: int = 8, side: int = 96) -> None:
        radii = [_radius_map(name, side) for name in RADIUS_MAPS]
        margin = math.ceil(max(float(map_.max()) for map_ in radii)) + 1
        photos = (held_out_crops(files[:captures], side + 2 * margin).permute(0, 2, 3, 1).numpy() + 1) / 2
        self.x, self.y, self.radius_maps = [], [], []
        for number in range(captures):
            # A photo that comes again takes another map.
            turn = number // len(photos)
            photo, map_ = photos[number % len(photos)], radii[(number + turn) % len(radii)]
            noise = np.random.default_rng([0, number]).standard_normal((side, side, 3))
            capture = np.rint(255 * np.clip(defocus(photo, map_) + NOISE_STD * noise, 0, 1)) / 255
            self.x.append(_tensor(photo[margin:-margin, margin:-margin]).to(device))
            self.y.append(_tensor(capture).to(device))
            self.radius_maps.append(torch.from_numpy(map_).float()[None, None].to(device))
        # True maps and exact disks: there is no error of the model to allow for.
        self._settings = replace(load_config(SamplerSettings, preset_file("fast")), model_error=0.0)

    @torch.no_grad()
    def __call__(self, network: nn.Module, seed: int = 0) -> tuple[dict[str, float], np.ndarray]:
        """Restores the captures.

        Args:
            network: Maps (x_t, sigma) to an estimate of x in [-1, 1], as `ScoreNetwork`.
            seed: Seed of the sampler.

        Returns:
            Mean PSNR of the results, and its gain over that of the captures, in dB, by their names in the
            log; and one picture, 8-bit, of a column each for captures, results and photos, a row a capture.
        """
        pipeline = DefocusDeblurPipeline(score_network=network, sde=VESDE())
        known_noise = getattr(network, "config", {}).get("sigma_max", self._settings.sigma_start)
        settings = replace(self._settings, sigma_start=min(self._settings.sigma_start, known_noise))
        psnr, gains, rows = [], [], []
        for x, y, radius_map in zip(self.x, self.y, self.radius_maps, strict=True):
            generator = torch.Generator().manual_seed(seed)
            restored = pipeline(y, radius_map=radius_map, settings=settings, generator=generator).image
            psnr.append(_psnr(restored, x))
            gains.append(psnr[-1] - _psnr(y, x))
            rows.extend([y, restored, x])
        figures = {"deblurring/psnr": sum(psnr) / len(psnr), "deblurring/psnr_gain": sum(gains) / len(gains)}
        return figures, picture_grid(2 * torch.cat(rows) - 1, columns=3)


def _radius_map(name: str, side: int) -> np.ndarray:
    """One of the maps of the simulated protocol, shrunk to side x side; radii stay what they are, in pixels."""
    centres = (np.arange(side) + 0.5) / side
    row, column = np.meshgrid(centres, centres, indexing="ij")
    # The protocol's distances are those on its own, larger crop.
    return RADIUS_MAPS[name](column, CROP * np.hypot(row - 0.5, column - 0.5))


def _psnr(image: Tensor, reference: Tensor) -> float:
    return float(-10 * torch.log10((image - reference).square().mean()))


def _tensor(picture: np.ndarray) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W), float32."""
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
