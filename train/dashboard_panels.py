"""What a dashboard of training shows; the HTML page and the one at Weights & Biases are both built from it."""

from dataclasses import dataclass

from train.loss_by_noise import LOSS_BINS
from train.panels import DENOISING_SIGMAS

__all__ = ["PANELS", "Chart", "Pictures"]


@dataclass(frozen=True)
class Chart:
    """Figures of the log over optimizer steps.

    Attributes:
        title: Heading.
        curves: Key in the log and name in the legend of each curve.
        unit: What the vertical axis measures.
        explanation: One sentence for the reader.
        log_scale: Whether the vertical axis is logarithmic.
        smooth: Whether a running mean is drawn over the noisy curve.
    """

    title: str
    curves: tuple[tuple[str, str], ...]
    unit: str
    explanation: str
    log_scale: bool = False
    smooth: bool = False


@dataclass(frozen=True)
class Pictures:
    """The pictures of one name that a run has written.

    Attributes:
        title: Heading.
        name: Name in the log and in the run's folder `panels/`.
        explanation: One sentence for the reader.
    """

    title: str
    name: str
    explanation: str


def _by_sigma(panel: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{panel}/{sigma}", f"σ = {sigma}") for sigma in DENOISING_SIGMAS)


PANELS: tuple[Chart | Pictures, ...] = (
    Chart("Loss", (("loss", "loss"),), "weighted loss", "Mean over all noise levels; 1 is an untrained network.",
          log_scale=True, smooth=True),
    Chart("Loss by noise level", tuple((name, f"σ {name.split('/')[1].replace('-', ' – ').replace('inf', '∞')}")
                                       for name in LOSS_BINS), "weighted loss",
          "Noise levels are in [-1, 1] units; a rising curve among falling ones is a level that is given up.",
          log_scale=True, smooth=True),
    Chart("Denoising of held-out photos", _by_sigma("denoising_psnr"), "PSNR, dB", "With the averaged weights."),
    Chart("Denoising with raw weights", _by_sigma("denoising_psnr_raw"), "PSNR, dB",
          "The weights of the last step alone."),
    Chart("Gain of averaging", _by_sigma("denoising_psnr_ema_gain"), "PSNR, dB",
          "Averaged minus raw weights; it closes as the learning rate decays."),
    Chart("Deblurring probe", (("deblurring/psnr_gain", "gain"),), "PSNR gain, dB",
          "Small simulated captures of held-out photos, restored with their true maps by the preset fast."),
    Chart("Gradient norm", (("grad_norm", "norm"),), "norm before clipping", "Of one step in every logged interval.",
          log_scale=True, smooth=True),
    Chart("Learning rate", (("lr", "rate"),), "learning rate", "Warm-up, constant, decay."),
    Chart("Throughput", (("patches_per_s", "patches"),), "patches per second", "Over all processes."),
    Chart("Peak memory", (("memory_mib", "process"), ("gpu_memory_mib", "GPU")), "MiB", "Of the main process so far."),
    Pictures("Deblurring probe", "deblurring", "Each row: capture, result, sharp photo."),
    Pictures("Samples of the prior", "samples", "Drawn with the same seed at every step."),
    Pictures("Denoising at σ = 0.4", "denoising", "Each row: noisy photo, denoised photo."),
)  # fmt: skip
"""Charts first, then pictures, in the order of the page."""
