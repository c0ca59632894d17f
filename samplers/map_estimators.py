"""How a defocus map is estimated where none is given: the choices of the pipeline."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from optics import TYPICAL, Lens
from optics.defocus_map import EdgeEstimator, EvidenceEstimator, FusedEstimator, LearnedEstimator

if TYPE_CHECKING:
    from optics.defocus_map.network import DefocusMapNetwork

__all__ = ["MAP_ESTIMATORS", "best_estimator", "map_estimator"]

MAP_ESTIMATORS = ("fused", "learned", "evidence", "edges")
"""Names of estimators; the first two need a network."""


def best_estimator(network: "DefocusMapNetwork | None") -> str:
    """The one of `MAP_ESTIMATORS` that is taken where none is named."""
    return "evidence" if network is None else "fused"


def map_estimator(
    name: str | None, network: "DefocusMapNetwork | None", lens: Lens = TYPICAL, tile: int = 1024
) -> Callable[[Tensor, float | None], tuple[Tensor, Tensor]]:
    """An estimator of defocus maps.

    Args:
        name: One of `MAP_ESTIMATORS`; None for the best there is.
        network: The network of the first two; None if there is none.
        lens: What the evidence and, but for measured PSFs, the edges suppose of the blur.
        tile: Side of the network's tiles in pixels.

    Returns:
        Maps a capture in [0, 1], (1, C, H, W), and its noise or None to radius in pixels and confidence in [0, 1], both
        (1, 1, H, W).

    Raises:
        ValueError: If the name is unknown, or needs a network and there is none.
    """
    name = name or best_estimator(network)
    if name not in MAP_ESTIMATORS:
        raise ValueError(f"map_estimator must be one of {', '.join(MAP_ESTIMATORS)}, got {name!r}")
    if name == "edges":
        return EdgeEstimator(softness=lens.softness)
    evidence = EvidenceEstimator(softness=lens.softness, psf=lens.psf)
    if name == "evidence":
        return evidence
    if network is None:
        raise ValueError(f"map_estimator {name} expects a pipeline with a defocus_map, got one without")
    learned = LearnedEstimator(network, tile=tile)
    return learned if name == "learned" else FusedEstimator(learned, evidence)
