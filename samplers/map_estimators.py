"""How a defocus map is estimated where none is given: the choices of the pipeline."""

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from optics import TYPICAL, Lens, UnknownLens
from optics.defocus_map import EdgeEstimator, EvidenceEstimator, FusedEstimator, LearnedEstimator, MapEstimator
from optics.lens_choice import choose_softness

if TYPE_CHECKING:
    from optics.defocus_map.network import DefocusMapNetwork

__all__ = ["MAP_ESTIMATORS", "best_estimator", "estimate_map", "map_estimator"]

MAP_ESTIMATORS = ("fused", "learned", "evidence", "edges")
"""Names of estimators; the first two need a network."""


def best_estimator(network: "DefocusMapNetwork | None") -> str:
    """The one of `MAP_ESTIMATORS` that is taken where none is named."""
    return "evidence" if network is None else "fused"


def map_estimator(
    name: str | None, network: "DefocusMapNetwork | None", lens: Lens = TYPICAL, tile: int = 1024
) -> MapEstimator:
    """An estimator of defocus maps.

    Args:
        name: One of `MAP_ESTIMATORS`; None for the best there is.
        network: The network of the first two; None if there is none.
        lens: What the evidence and, but for measured PSFs, the edges suppose of the blur.
        tile: Side of the network's tiles in pixels.

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


def estimate_map(
    image: Tensor, noise_std: float, name: str | None, network: "DefocusMapNetwork | None", lens: Lens | UnknownLens,
    tile: int = 1024, plain: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Estimates a defocus map; where the first one shows that the PSF is another than was assumed, once more.

    Args:
        image: Capture in [0, 1], shape (1, 3, H, W).
        noise_std: Its noise, of full range.
        name: As of `map_estimator`, like `network` and `tile`.
        network: See there.
        lens: What is known of the lens.
        tile: See there.
        plain: Whether the map is the estimate itself rather than what a restorer acts upon, see `MapEstimator`.

    Returns:
        Radius in pixels and confidence in [0, 1], both (1, 1, H, W).
    """
    assumed = lens if isinstance(lens, Lens) else lens.assumed
    estimator = map_estimator(name, network, assumed, tile)
    estimate = estimator.estimate(image, noise_std)
    known = isinstance(lens, Lens) or lens.softness is not None or lens.psf is not None
    if not known and name != "learned":
        radius_map, _ = estimator.acted_upon(*estimate)
        softness = choose_softness(image, radius_map.to(image), noise_std)
        if softness != assumed.softness:
            estimator = map_estimator(name, network, replace(assumed, softness=softness), tile)
            estimate = estimator.estimate(image, noise_std)
    return estimate if plain else estimator.acted_upon(*estimate)
