"""Integrating the reverse SDE: predictors, correctors, guidance, tiles, and the restoration pipeline."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplers.pipeline import DeblurOutput, DefocusDeblurPipeline, Restoration
    from samplers.settings import SamplerSettings

__all__ = ["DeblurOutput", "DefocusDeblurPipeline", "Restoration", "SamplerSettings"]


def __getattr__(name: str) -> object:
    # Imported at first use: the scripts of this folder answer --help without waiting for torch.
    if name in ("DeblurOutput", "DefocusDeblurPipeline", "Restoration"):
        from samplers import pipeline

        return getattr(pipeline, name)
    if name == "SamplerSettings":
        from samplers.settings import SamplerSettings

        return SamplerSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
