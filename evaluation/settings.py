"""Settings of `evaluation/benchmark.py`; YAML files in `configs/benchmark/` hold the differences."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from evaluation.methods import METHODS, PEERS, column
from evaluation.scoring import METRICS
from samplers.weights import DEFAULT_WEIGHTS

__all__ = ["MAPS", "PROTOCOLS", "BenchmarkConfig", "DataConfig"]

PROTOCOLS = ("simulated", "real")
MAPS = ("true", "estimated", "both")


@dataclass
class DataConfig:
    """What is measured.

    Attributes:
        root: Folder of sharp photos (`simulated`), or a set of captures or a folder of such sets (`real`);
            `scikit-image` takes the CC0 photos of that package (`simulated`).
        protocol: `simulated` or `real`.
        sets: Names of sets of `evaluation.paired_sets` (`real`); null takes every set found that has references.
        split: Part of sets that are split (`real`).
        count: Number of photos, first by name, in each set; null for all.
        stride: Takes every stride-th photo (`simulated`): settings are tuned on a spread of training photos.
    """

    root: str = MISSING
    protocol: str = "simulated"
    sets: list[str] | None = None
    split: str = "test"
    count: int | None = 24
    stride: int = 1

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"data.protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"data.count must be null or at least 1, got {self.count}")
        if self.stride < 1 or (self.stride > 1 and self.protocol == "real"):
            raise ValueError(f"data.stride must be at least 1, and 1 for real captures, got {self.stride}")
        if self.sets is not None and self.protocol == "simulated":
            raise ValueError("data.sets needs data.protocol=real: simulated captures are made from one folder")


@dataclass
class BenchmarkConfig:
    """Everything `evaluation/benchmark.py` can be told.

    Attributes:
        methods: Some of `evaluation.methods.METHODS`, and `folder:PATH` for results of another program.
        map: Blur map that methods are given: `true`, `estimated` from the capture, or `both` in turn.
            Real captures have no true map.
        metrics: Some of `evaluation.scoring.METRICS`.
        weights: Folder of a saved pipeline for the score methods, relative to here or to the project.
        preset: Sampler settings of the method `score`: a preset, or a YAML file of `SamplerSettings`.
        sampler: Assignments that win over the preset, as `[steps=8,strength=1]`.
        lpips: Folder with weights of LPIPS backbones, see `evaluation.metrics.LPIPS`.
        seed: Seed of the sampler's noise, for each picture anew, from 0 to 2^63 - 1.
        device: `cpu`, `cuda` or another of torch; `auto` takes a GPU if there is one.
        out: Folder of `results.json`, `results.md` and the pages.
        overwrite: Whether results already there are measured anew; a run that was interrupted goes on without it.
        pictures: Whether pictures, contact sheets and `report.html` are written too.
    """

    data: DataConfig = field(default_factory=DataConfig)
    methods: list[str] = field(default_factory=lambda: [*PEERS, "score"])
    map: str = "both"
    metrics: list[str] = field(
        default_factory=lambda: [
            "psnr", "ssim", "ssim_uniform", "lpips_squeeze", "mae", "sharpness", "whiteness", "colour_shift"
        ]
    )
    weights: str = DEFAULT_WEIGHTS
    preset: str = "balanced"
    sampler: list[str] = field(default_factory=list)
    lpips: str | None = None
    seed: int = 0
    device: str = "auto"
    out: str = MISSING
    overwrite: bool = False
    pictures: bool = True

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS and not name.startswith("folder:")]
        if unknown or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                f"methods must be different ones of {', '.join(METHODS)} and folder:PATH, got {', '.join(self.methods)}"
            )
        columns = [column(name, None) for name in self.methods]
        if twice := next((name for name in columns if columns.count(name) > 1), None):
            raise ValueError(f"methods must be folders with different last names, got two whose column is {twice}")
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or "psnr" not in self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise ValueError(
                f"metrics must be psnr and different ones of {', '.join(METRICS)}, got {', '.join(self.metrics)}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2^63 - 1, got {self.seed}")
        # YAML takes an unquoted true for a boolean, which arrives here as "True".
        self.map = self.map.lower()
        if self.map not in MAPS:
            raise ValueError(f"map must be one of {', '.join(MAPS)}, got {self.map!r}")
        if self.data.protocol == "real" and self.map == "true":
            raise ValueError("map=true needs data.protocol=simulated: real captures have no true map")

    @property
    def maps(self) -> tuple[str, ...]:
        """The maps that methods are given, in turn."""
        if self.data.protocol == "real":
            return ("estimated",)
        return ("true", "estimated") if self.map == "both" else (self.map,)
