"""Settings of `train/score.py`; YAML files in `configs/score/` hold the differences."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from omegaconf import MISSING

from diffusion.precision import PRECISIONS
from diffusion.score_network import block_counts
from diffusion.weighting import NoiseLevels, ObjectiveConfig, weighting_of
from train.averaging import exponent
from train.changes import changeable
from train.data_config import DataConfig

__all__ = [
    "AveragesConfig", "DataConfig", "NetworkConfig", "OptimConfig", "RunConfig", "ScoreConfig", "TrainingConfig",
]  # fmt: skip


def _require(condition: bool, key: str, expectation: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{key} must be {expectation}, got {value}")


@dataclass
class NetworkConfig:
    """Size of the score network; see `diffusion.ScoreNetwork`. Null is what the weights of `init` have."""

    channels: list[int] | None = field(default_factory=lambda: [48, 96, 160])
    blocks: int | list[int] | None = 2
    embedding: int | None = 128
    sigma_data: float | None = 0.5

    def __post_init__(self) -> None:
        def require(key: str, known: Callable[[object], bool], expectation: str) -> None:
            value = getattr(self, key)
            _require(value is None or known(value), f"network.{key}", expectation, value)

        require("channels", lambda widths: len(widths) >= 1 and min(widths) >= 1, "positive")
        if self.channels is not None and self.blocks is not None:
            try:
                block_counts(self.channels, self.blocks)
            except ValueError as error:
                raise ValueError(f"network.{error}") from None
        require("embedding", lambda width: width >= 1, "at least 1")
        require("sigma_data", lambda deviation: deviation > 0, "positive")

    @property
    def left_open(self) -> list[str]:
        """What the weights of `init` are to decide."""
        return [key for key, value in vars(self).items() if value is None]


@dataclass
class OptimConfig:
    """The optimizer and its schedule; every count is in optimizer steps, whatever the number of processes.

    Attributes:
        optimizer: `muon`, see `train.optimizer`, or `adamw`.
        batch: Patches of one optimizer step, over all processes and accumulation steps.
        accumulate: Forward-backward passes per optimizer step.
        steps: Length of the run.
        lr: Learning rate between warm-up and decay.
        betas: Of AdamW, also for what Muon leaves to it.
        weight_decay: Decoupled from the gradient.
        warmup: Steps of linear warm-up.
        decay: Final part of the run, as a fraction, over which the rate falls linearly to zero.
        clip: Largest norm of the gradient.
    """

    optimizer: str = field(default="muon", metadata={"before": "adamw"})
    batch: int = 16
    accumulate: int = changeable(1)
    steps: int = 20000
    lr: float = 2e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: float = 1e-3
    warmup: int = 300
    decay: float = 0.3
    clip: float = 1.0

    def __post_init__(self) -> None:
        _require(self.optimizer in ("muon", "adamw"), "optim.optimizer", "muon or adamw", self.optimizer)
        _require(self.batch >= 1, "optim.batch", "at least 1", self.batch)
        _require(self.accumulate >= 1, "optim.accumulate", "at least 1", self.accumulate)
        _require(
            self.batch % self.accumulate == 0, "optim.batch", f"divisible by optim.accumulate={self.accumulate}",
            self.batch,
        )  # fmt: skip
        _require(self.steps >= 1, "optim.steps", "at least 1", self.steps)
        _require(self.lr > 0, "optim.lr", "positive", self.lr)
        betas = self.betas
        known = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        _require(known, "optim.betas", "two numbers in [0, 1)", betas)
        _require(self.weight_decay >= 0, "optim.weight_decay", "non-negative", self.weight_decay)
        _require(self.warmup >= 0, "optim.warmup", "non-negative", self.warmup)
        _require(0 <= self.decay <= 1, "optim.decay", "in [0, 1]", self.decay)
        _require(self.clip > 0, "optim.clip", "positive", self.clip)


@dataclass
class AveragesConfig:
    """Power-function averages of the weights, see `train.averaging`.

    Attributes:
        lengths: Lengths that are tracked, as shares of the run so far; the first is exported and shown in the panels.
        every: Steps between snapshots, from which `train/average.py` makes averages of other lengths.
    """

    lengths: list[float] = field(default_factory=lambda: [0.05, 0.1])
    every: int = changeable(1000)

    def __post_init__(self) -> None:
        lengths = self.lengths
        _require(len(lengths) >= 1 and len(set(lengths)) == len(lengths), "averages.lengths", "distinct", lengths)
        _require(self.every >= 1, "averages.every", "at least 1", self.every)
        for length in lengths:
            try:
                exponent(length)
            except ValueError as error:
                raise ValueError(f"averages.lengths: {error}") from None


@dataclass
class RunConfig:
    """Where and how the run happens.

    Attributes:
        dir: Folder of checkpoints, logs and the exported weights; an existing run in it is resumed.
        seed: Seed of weights, patches and noise.
        precision: `bf16` (autocast; weights and their average stay fp32), `fp32`, or `auto` for the one that the device
            is faster in, see `diffusion.precision`; a run keeps what that was.
        compile: Whether the network is compiled for training by torch.compile, which needs a compiler.
        gradient_checkpointing: Whether the residual blocks are computed again on the way back: less memory, more time.
        log_every: Steps between lines of the log.
        panel_every: Steps between panels (denoising of the held-out photos, sample pictures).
        probe_every: Steps between deblurring probes (simulated captures of the held-out photos); 0 for none.
        samples: Number of photos drawn from the prior for a panel; 0 for none.
        save_every: Steps between checkpoints.
        keep: Number of checkpoints kept.
        wandb: `offline`, `online` or `disabled`.
        project: Name of the W&B project.
        artifacts: Exported weights stored at W&B where it is online: `final`, `checkpoints` (at each one) or `none`.
    """

    dir: str = changeable(MISSING)
    seed: int = 0
    precision: str = "auto"
    compile: bool = changeable(False)
    gradient_checkpointing: bool = changeable(False)
    log_every: int = changeable(50)
    panel_every: int = changeable(1000)
    probe_every: int = changeable(1000)
    samples: int = changeable(16)
    save_every: int = changeable(1000)
    keep: int = changeable(2)
    wandb: str = changeable("offline")
    project: str = changeable("scorefocus")
    artifacts: str = changeable("final")

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**64, "run.seed", "in [0, 2^64)", self.seed)
        _require(self.precision in PRECISIONS, "run.precision", "auto, fp32 or bf16", self.precision)
        _require(
            self.wandb in ("offline", "online", "disabled"), "run.wandb", "offline, online or disabled", self.wandb
        )
        for key in ("log_every", "panel_every", "save_every", "keep"):
            _require(getattr(self, key) >= 1, f"run.{key}", "at least 1", getattr(self, key))
        _require(
            self.artifacts in ("final", "checkpoints", "none"), "run.artifacts", "final, checkpoints or none",
            self.artifacts,
        )  # fmt: skip
        for key in ("samples", "probe_every"):
            _require(getattr(self, key) >= 0, f"run.{key}", "non-negative", getattr(self, key))


class TrainingConfig(Protocol):
    """What the settings of every training script hold."""

    optim: OptimConfig
    averages: AveragesConfig
    run: RunConfig


@dataclass
class ScoreConfig:
    """Everything `train/score.py` can be told.

    Attributes:
        init: A saved pipeline, or its folder `score_network`, whose weights the run starts from: the same network is
            fine-tuned; one that had fewer residual blocks is grown without changing what it computes. What of the
            network is null is taken from there.
        pipeline: A saved pipeline that the export completes with the network: its network for the map and its latent
            prior are taken over; null exports the score network alone.
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    init: str | None = None
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    averages: AveragesConfig = field(default_factory=AveragesConfig)
    run: RunConfig = field(default_factory=RunConfig)
    pipeline: str | None = changeable(None)

    def __post_init__(self) -> None:
        if self.network.left_open and self.init is None:
            key = self.network.left_open[0]
            raise ValueError(f"network.{key} must be given unless init names the weights that decide it, got null")
        try:
            weighting_of(self.objective, self.noise, self.network.sigma_data)
        except ValueError as error:
            raise ValueError(f"noise.{error}") from None
        for key in ("samples", "probe_every"):
            if getattr(self.run, key) and self.noise.sigma_max <= 0.01:
                raise ValueError(
                    f"run.{key} must be 0 unless noise.sigma_max is above 0.01, where sampling ends, got "
                    f"{getattr(self.run, key)} with {self.noise.sigma_max}"
                )
