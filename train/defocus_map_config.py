"""Settings of `train/defocus_map.py`; YAML files in `configs/defocus_map/` hold the differences."""

from dataclasses import dataclass, field

from train.changes import changeable
from train.config import AveragesConfig, OptimConfig, RunConfig
from train.data_config import DataConfig
from train.map_objective import MapObjectiveConfig
from train.simulated_captures import SimulationConfig

__all__ = ["DefocusMapConfig", "MapNetworkConfig"]


@dataclass
class MapNetworkConfig:
    """Size of the network; see `optics.defocus_map.network.DefocusMapNetwork`."""

    channels: list[int] = field(default_factory=lambda: [32, 64, 96, 128])
    blocks: list[int] = field(default_factory=lambda: [1, 2, 2, 1])

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"network.channels must be at least 2 positive widths, got {self.channels}")
        if len(self.blocks) != len(self.channels) or min(self.blocks) < 1:
            raise ValueError(
                f"network.blocks must be {len(self.channels)} numbers, at least 1 each, got {self.blocks}"
            )


def _photos() -> DataConfig:
    # What is taken for sharp must be so: photos are shrunk more often, and smooth parts rejected sooner, than
    # for a score network.
    return DataConfig(patch=128, min_scale=0.4, full_size=0.2, max_smoothness=2.0, keep_rejected=0.02)


@dataclass
class DefocusMapConfig:
    """Everything `train/defocus_map.py` can be told.

    Attributes:
        init: Saved pipeline, or export of another run, that the weights start from; null for a fresh network.
        data: Sharp photos; `patch` is the side of the parts of captures that are trained on.
        pipeline: A saved pipeline that the export completes with the network; null exports the network alone.
        probes: Number of captures of held-out photos that the figures are taken on.
        run: As of a score network; `panel_every` is for pictures, of `samples` captures, `probe_every` for figures.
    """

    init: str | None = None
    data: DataConfig = field(default_factory=_photos)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    network: MapNetworkConfig = field(default_factory=MapNetworkConfig)
    objective: MapObjectiveConfig = field(default_factory=MapObjectiveConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(optimizer="adamw", lr=1e-3))
    averages: AveragesConfig = field(default_factory=AveragesConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(samples=6))
    pipeline: str | None = changeable(None)
    probes: int = 24

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ValueError(f"probes must be at least 1, got {self.probes}")
