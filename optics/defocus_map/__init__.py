"""Blind estimation of defocus maps: capture -> blur radius of every pixel, and how far it can be trusted."""

from optics.defocus_map.evidence import EvidenceEstimator
from optics.defocus_map.guided_filter import guided_filter

__all__ = ["EvidenceEstimator", "guided_filter"]
