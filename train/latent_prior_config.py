"""Settings of `train/latent_prior.py`; YAML files in `configs/latent_prior/` hold the differences."""

from dataclasses import dataclass, field, replace

from train.changes import changeable
from train.config import AveragesConfig, OptimConfig, RunConfig
from train.data_config import DataConfig
from train.simulated_captures import SimulationConfig
from train.simulated_pairs import CropConfig

__all__ = ["LatentPriorConfig", "LatentPriorNetworkConfig", "check_captures", "photos_of_captures"]


@dataclass
class LatentPriorNetworkConfig:
    """Size of the network, and what of it is to be left out; see `diffusion.latent_prior.SwinDiff`."""

    channels: list[int] = field(default_factory=lambda: [48, 96, 128])
    blocks: list[int] = field(default_factory=lambda: [2, 4, 2])
    windows: list[int] = field(default_factory=lambda: [0, 8, 4])
    latent: int = 64
    encoder: int = 48
    steps: int = 8
    prior: str = "diffusion"
    channel_attention: bool = True

    def __post_init__(self) -> None:
        for key, least in (("channels", 1), ("blocks", 1), ("windows", 0)):
            values = getattr(self, key)
            if len(values) < 2 or len(values) != len(self.channels) or min(values) < least:
                raise ValueError(
                    f"network.{key} must be at least 2 numbers from {least}, as many as channels, got {values}"
                )
        narrow = [width for width, window in zip(self.channels, self.windows, strict=True) if window and width % 32]
        if narrow:
            raise ValueError(f"network.channels must be multiples of 32 where there is attention, got {narrow[0]}")
        for key in ("latent", "encoder"):
            if getattr(self, key) < 1:
                raise ValueError(f"network.{key} must be at least 1, got {getattr(self, key)}")
        if self.prior not in ("diffusion", "regression"):
            raise ValueError(f"network.prior must be diffusion or regression, got {self.prior}")
        if not 1 <= self.steps <= 64:
            raise ValueError(f"network.steps must be from 1 to 64, got {self.steps}")


def photos_of_captures() -> DataConfig:
    """Photos as of a defocus map network, whose captures may be used again."""
    return DataConfig(patch=128, min_scale=0.4, full_size=0.2, max_smoothness=2.0, keep_rejected=0.02)


@dataclass
class LatentPriorConfig:
    """Everything `train/latent_prior.py` can be told.

    Attributes:
        stage: 1, where the prior sees the sharp photo, or 2, where it is drawn from what the capture says.
        init: Export of another run that the weights start from: that of stage 1 for stage 2.
        data: Sharp photos, which pairs_share=1 does without; `patch` is the side of the parts of captures that are
            trained on at the end of the run.
        crops: Sides of the parts before.
        pairs: Folder of real captures with their sharp photos, see `train.real_pairs`; null for none.
        pairs_share: Share of samples that are cut from them. With 1 nothing is simulated, and the pairs of
            `data.holdout` sharp photos are held out for the figures.
        pipeline: A saved pipeline that the export completes with the network; null exports the network alone.
        prior_dropout: Share of samples of stage 1 whose prior is left out, so that the network can do without.
        error_weight: Weight of the likelihood of the expected error.
        spectrum_weight: Weight of the error of the photo's spectrum beside that of its pixels.
        lpips_weight: Weight of the photo's LPIPS (squeeze) beside them. A network that was trained by it is no longer
            judged independently by that measure.
        lpips: Folder with the backbone of LPIPS, see `evaluation.metrics.LPIPS`; null for torch's own cache.
        probes: Number of captures of held-out photos that the figures are taken on.
        run: As of a score network; `panel_every` is for pictures, of `samples` captures, `probe_every` for figures.
    """

    stage: int = 1
    init: str | None = None
    data: DataConfig = field(default_factory=lambda: replace(photos_of_captures(), root=""))
    crops: CropConfig = field(default_factory=CropConfig)
    simulation: SimulationConfig = field(default_factory=lambda: SimulationConfig(buried=0.0))
    network: LatentPriorNetworkConfig = field(default_factory=LatentPriorNetworkConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(optimizer="adamw", batch=8, lr=8e-4))
    averages: AveragesConfig = field(default_factory=AveragesConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(samples=6))
    pairs: str | None = None
    pairs_share: float = 0.5
    pipeline: str | None = changeable(None)
    prior_dropout: float = 0.25
    error_weight: float = 0.02
    spectrum_weight: float = 0.0
    lpips_weight: float = 0.0
    lpips: str | None = changeable(None)
    probes: int = 32

    def __post_init__(self) -> None:
        def require(condition: bool, key: str, expectation: str) -> None:
            if not condition:
                raise ValueError(f"{key} must be {expectation}, got {getattr(self, key)}")

        require(self.stage in (1, 2), "stage", "1 or 2")
        if self.stage == 2 and self.init is None:
            raise ValueError("init must be the export of a run of stage 1 for stage=2, got null")
        require(0 <= self.prior_dropout <= 1, "prior_dropout", "in [0, 1]")
        require(0 < self.pairs_share <= 1, "pairs_share", "in (0, 1]")
        if self.pairs is None and self.pairs_share == 1:
            raise ValueError("pairs_share must be below 1 unless pairs names a folder, got 1 with null")
        if self.simulates and not self.data.root:
            raise ValueError("no value for data.root: give it as data.root=..., or pairs=... with pairs_share=1")
        if not self.simulates and self.data.root:
            raise ValueError(f"data.root must be left out with pairs_share=1, all of pairs, got {self.data.root}")
        require(self.error_weight > 0, "error_weight", "positive")
        require(self.spectrum_weight >= 0, "spectrum_weight", "non-negative")
        require(self.lpips_weight >= 0, "lpips_weight", "non-negative")
        smallest = min([*self.crops.first, self.data.patch])
        if self.lpips_weight and smallest < 32:
            raise ValueError(f"crops.first and data.patch must be at least 32 for lpips_weight, got {smallest}")
        require(self.probes >= 1, "probes", "at least 1")
        check_captures(self.data, self.crops, self.simulation)

    @property
    def simulates(self) -> bool:
        """Whether captures are simulated of the photos in `data.root`."""
        return self.pairs is None or self.pairs_share < 1


def check_captures(data: DataConfig, crops: CropConfig, simulation: SimulationConfig) -> None:
    """Checks settings of captures that are to be restored.

    Raises:
        ValueError: If captures are smaller than the parts that are cut from them, or too bad to be restored.
    """
    if simulation.buried:
        raise ValueError(
            "simulation.buried must be 0 for a latent prior: what is buried in noise is not to be restored, got "
            f"{simulation.buried}"
        )
    largest = max([*crops.first, data.patch])
    if largest > simulation.side:
        raise ValueError(f"simulation.side must be at least the largest crop, {largest}, got {simulation.side}")
