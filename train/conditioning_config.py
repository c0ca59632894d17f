"""Settings of `train/conditioning.py`; YAML files in `configs/conditioning/` hold the differences."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from diffusion.weighting import NoiseLevels
from train.changes import changeable
from train.config import AveragesConfig, OptimConfig, RunConfig
from train.data_config import DataConfig
from train.latent_prior_config import check_captures, photos_of_captures
from train.simulated_captures import SimulationConfig
from train.simulated_pairs import CropConfig

__all__ = ["ConditioningConfig"]


@dataclass
class ConditioningConfig:
    """Everything `train/conditioning.py` can be told.

    Attributes:
        score: A saved pipeline, or its folder `score_network`: what is conditioned. It is not trained.
        latent_prior: Folder that holds `latent_prior/`, of stage 2: what it is conditioned on. It is not trained.
        width: Numbers that the prior is brought to, see `diffusion.latent_prior.LatentFiLM`.
        data: Sharp photos; `patch` is the side of the parts of captures that are trained on at the end of the run.
        crops: Sides of the parts before.
        noise: Noise levels, as of a score network.
        pipeline: A saved pipeline of these two networks that the export completes; null exports the conditioning alone.
        probes: Number of captures of held-out photos that the figures are taken on.
        run: As of a score network; `panel_every` is for pictures, of `samples` captures, `probe_every` for figures.
    """

    score: str = MISSING
    latent_prior: str = MISSING
    width: int = 128
    data: DataConfig = field(default_factory=photos_of_captures)
    crops: CropConfig = field(default_factory=CropConfig)
    simulation: SimulationConfig = field(default_factory=lambda: SimulationConfig(buried=0.0))
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(optimizer="adamw", batch=8, lr=1e-3, warmup=100))
    averages: AveragesConfig = field(default_factory=AveragesConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(samples=6))
    pipeline: str | None = changeable(None)
    probes: int = 32

    def __post_init__(self) -> None:
        for key, least in (("width", 1), ("probes", 2)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, got {getattr(self, key)}")
        check_captures(self.data, self.crops, self.simulation)
