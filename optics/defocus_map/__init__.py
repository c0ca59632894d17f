"""Blind estimation of defocus maps: capture -> blur radius of every pixel, and how far it can be trusted."""

from optics.defocus_map.evidence import EvidenceEstimator
from optics.defocus_map.guided_filter import guided_filter
from optics.defocus_map.learned import FusedEstimator, LearnedEstimator

__all__ = ["EvidenceEstimator", "FusedEstimator", "LearnedEstimator", "guided_filter"]
