"""Settings of `evaluation/benchmark.py`; YAML files in `configs/benchmark/` hold the differences."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from evaluation.methods import METHODS

__all__ = ["MAPS", "PROTOCOLS", "BenchmarkConfig", "DataConfig"]

PROTOCOLS = ("simulated", "real")
MAPS = ("true", "estimated", "both")


@dataclass
class DataConfig:
    """What is measured.

    Attributes:
        root: Folder of sharp photos (`simulated`), or of a set, or several, with `blurred/` and `sharp/` (`real`).
        protocol: `simulated` or `real`.
        count: Number of photos, first by name, in each set; null for all.
        stride: Takes every stride-th photo (`simulated`): settings are tuned on a spread of training photos.
    """

    root: str = MISSING
    protocol: str = "simulated"
    count: int | None = 24
    stride: int = 1

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"data.protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"data.count must be null or at least 1, got {self.count}")
        if self.stride < 1 or (self.stride > 1 and self.protocol == "real"):
            raise ValueError(f"data.stride must be at least 1, and 1 for real captures, got {self.stride}")


@dataclass
class BenchmarkConfig:
    """Everything `evaluation/benchmark.py` can be told.

    Attributes:
        methods: Some of `evaluation.methods.METHODS`.
        map: Blur map that methods are given: `true`, `estimated` from the capture, or `both` in turn.
            Real captures have no true map.
        weights: Folder of a saved pipeline for the score methods, relative to here or to the project.
        preset: Sampler settings of the score methods: a preset, or a YAML file of `SamplerSettings`.
        sampler: Assignments that win over the preset, as `[steps=8,strength=1]`.
        lpips: Folder with LPIPS-SqueezeNet weights, see `evaluation.metrics.LPIPS`.
        seed: Seed of the sampler's noise, for each picture anew.
        device: `cpu`, `cuda` or another of torch; `auto` takes a GPU if there is one.
        out: Folder of `results.json` and `results.md`.
        overwrite: Whether results already there are replaced.
        save_pictures: Whether strips of input, restored, reference and map are written too.
    """

    data: DataConfig = field(default_factory=DataConfig)
    methods: list[str] = field(default_factory=lambda: ["input", "tv", "score"])
    map: str = "both"
    weights: str = "weights/small"
    preset: str = "balanced"
    sampler: list[str] = field(default_factory=list)
    lpips: str | None = None
    seed: int = 0
    device: str = "auto"
    out: str = MISSING
    overwrite: bool = False
    save_pictures: bool = False

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods must be different ones of {', '.join(METHODS)}, got {', '.join(self.methods)}")
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
