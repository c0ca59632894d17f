"""Blind estimation of defocus maps: capture -> blur radius of every pixel, and how far it can be trusted."""

from optics.defocus_map.edges import EdgeEstimator
from optics.defocus_map.estimator import MapEstimator
from optics.defocus_map.evidence import EvidenceEstimator
from optics.defocus_map.guided_filter import guided_filter
from optics.defocus_map.learned import FusedEstimator, LearnedEstimator
from optics.defocus_map.motion import MotionBlur, MotionDetector

__all__ = [
    "EdgeEstimator", "EvidenceEstimator", "FusedEstimator", "LearnedEstimator", "MapEstimator", "MotionBlur",
    "MotionDetector", "guided_filter",
]  # fmt: skip
