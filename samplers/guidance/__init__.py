"""Posterior denoisers: E[x_0 | x_t, y] from E[x_0 | x_t], a capture y and a model of the blur."""

from samplers.guidance.dps import DPSGuidance
from samplers.guidance.likelihood import ForwardModel, GuidanceError, GuidedDenoiser, Likelihood
from samplers.guidance.moment_matching import MomentMatchingGuidance
from samplers.guidance.pigdm import PiGDMGuidance
from samplers.guidance.proximal import ProximalGuidance, SecondEstimate
from samplers.guidance.range_null import RangeNullGuidance

__all__ = [
    "DPSGuidance", "ForwardModel", "GuidanceError", "GuidedDenoiser", "Likelihood", "MomentMatchingGuidance",
    "PiGDMGuidance", "ProximalGuidance", "RangeNullGuidance", "SecondEstimate",
]  # fmt: skip
