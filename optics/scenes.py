"""Scenes to defocus: layers back to front, each with a field of blur radii.

Fields are affine, smooth, constant or, from a depth map, those of a thin lens. Borders of layers are
random shapes, outlines of what the photo shows, or the depth edges themselves.

References:
    Falcao, Stolfi & Lotufo, The Image Foresting Transform: Theory, Algorithms, and Applications, IEEE TPAMI 26(1), 2004
    (watersheds, as of `scipy.ndimage.watershed_ift`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    gaussian_gradient_magnitude,
    mean,
    watershed_ift,
    zoom,
)

__all__ = ["Layer", "depth_layers", "fill_unknown", "random_layers", "thin_lens_radius"]


@dataclass(frozen=True)
class Layer:
    """One layer of a scene.

    Attributes:
        mask: Where it is, before blur, in [0, 1], shape (H, W). The layer at the back is everywhere.
        radius: Blur radius in pixels, also outside the mask, where its blurred edge reaches; shape (H, W).
    """

    mask: np.ndarray
    radius: np.ndarray


def fill_unknown(depth: np.ndarray) -> np.ndarray:
    """Gives places of unknown distance that of the nearest pixel where it is known.

    Args:
        depth: Distances, NaN where unknown but not everywhere, shape (H, W).

    Returns:
        Distances, same shape; those that were known as they were.
    """
    nearest = distance_transform_edt(np.isnan(depth), return_distances=False, return_indices=True)
    return depth[tuple(nearest)]


def thin_lens_radius(
    depth: np.ndarray, focus: float, focal_length: float, f_number: float, pixel_pitch: float
) -> np.ndarray:
    """Signed radius of the circle of confusion of a thin lens.

        r = f^2 (d - d_f) / (2 N d (d_f - f)) / pitch

    Args:
        depth: Distances d of the scene in metres, positive; infinity is allowed.
        focus: Distance d_f that is in focus in metres, larger than the focal length.
        focal_length: f in metres.
        f_number: N.
        pixel_pitch: Side of a pixel in metres.

    Returns:
        Radii in pixels, negative in front of the plane of focus, of the shape of `depth`.

    Raises:
        ValueError: If a quantity is not positive, or the plane of focus is nearer than the focal length.
    """
    if min(focal_length, f_number, pixel_pitch) <= 0 or np.min(depth) <= 0:
        raise ValueError("depths, focal length, f-number and pixel pitch must be positive")
    if focus <= focal_length:
        raise ValueError(f"the plane of focus must be farther than the focal length, {focal_length} m, got {focus} m")
    # (d - d_f) / d, written so that infinity is no special case.
    relative = 1 - focus / np.asarray(depth, dtype=np.float64)
    return focal_length**2 * relative / (2 * f_number * (focus - focal_length)) / pixel_pitch


def random_layers(
    size: tuple[int, int], largest: float, generator: np.random.Generator, photos: Sequence[np.ndarray] = (),
    fewest: int = 1,
) -> list[Layer]:  # fmt: skip
    """A random scene of 1 to 3 layers.

    Args:
        size: Height and width in pixels.
        largest: Largest blur radius in pixels.
        generator: Source of randomness.
        photos: What the layers in front show, in turn, shape (H, W, C) each, whose edges they are to end at; none for
            borders that have nothing to do with it.
        fewest: Number of layers that the scene has at least, up to 3.

    Returns:
        Layers, back to front; a third of all layers are nearly in focus.
    """
    count = max(int(generator.choice([1, 2, 3], p=[0.45, 0.35, 0.2])), fewest)
    layers = [Layer(np.ones(size), _field(size, largest, generator))]
    for index in range(count - 1):
        shape = _shape(size, generator)
        if photos:
            shape = _along_edges(shape, photos[index % len(photos)], generator)
        layers.append(Layer(shape, _field(size, largest, generator)))
    return layers


def depth_layers(radius: np.ndarray, count: int = 4) -> list[Layer]:
    """Cuts a map of signed radii, negative in front, into layers at its quantiles.

    Args:
        radius: Signed radii in pixels, as of `thin_lens_radius`, shape (H, W).
        count: Number of layers at most.
    """
    edges = np.unique(np.quantile(radius, np.linspace(0, 1, count + 1)))
    layers = []
    # From the largest, which lies farthest back; each layer holds all that is in front of its back edge.
    for near, far in zip(edges[-2::-1], edges[:0:-1], strict=True):
        mask = (radius <= far).astype(np.float64) if layers else np.ones(radius.shape)
        layers.append(Layer(mask, np.abs(np.clip(radius, near, far))))
    return layers or [Layer(np.ones(radius.shape), np.abs(radius))]


def _field(size: tuple[int, int], largest: float, generator: np.random.Generator) -> np.ndarray:
    kind = generator.choice(["focus", "constant", "plane", "smooth"], p=[0.3, 0.25, 0.25, 0.2])
    if kind == "focus":
        return np.full(size, generator.uniform(0, min(0.7, largest)))
    # More small radii than large ones, as in photos.
    level = largest * generator.beta(1.2, 1.6)
    if kind == "constant":
        return np.full(size, level)
    if kind == "plane":
        angle, slope = generator.uniform(0, 2 * math.pi), generator.uniform(-1, 1) * largest
        row, column = np.meshgrid(*(np.linspace(-0.5, 0.5, side) for side in size), indexing="ij")
        # Through focus the radius grows again: the absolute value of a signed plane.
        return np.clip(np.abs(level + slope * (math.cos(angle) * column + math.sin(angle) * row)), 0, largest)
    return np.clip(level + largest * 0.25 * _smooth(size, generator), 0, largest)


def _shape(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A random region whose border is sharp: where a smooth field, or a half-plane, exceeds a level."""
    if generator.random() < 0.3:
        angle, offset = generator.uniform(0, 2 * math.pi), generator.uniform(-0.3, 0.3)
        row, column = np.meshgrid(*(np.linspace(-0.5, 0.5, side) for side in size), indexing="ij")
        field = 40 * (math.cos(angle) * column + math.sin(angle) * row - offset)
        return np.clip(field + 0.5, 0, 1)
    field = _smooth(size, generator) + 0.15 * gaussian_filter(generator.standard_normal(size), 1.5) * 1.5
    return np.clip(8 * (field - np.quantile(field, generator.uniform(0.3, 0.8))) + 0.5, 0, 1)


def _along_edges(shape: np.ndarray, photo: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The regions of a photo that lie within a shape for the most part: (H, W), (H, W, C) -> (H, W).

    Regions are the catchment basins of the gradient about random points, so that they end where something else begins.
    """
    gradient = gaussian_gradient_magnitude(photo.mean(-1), generator.uniform(0.7, 2))
    # Coarse steps, so that where there is next to no edge a border runs half way between the points.
    height = (255 * np.sqrt(gradient / max(gradient.max(), 1e-6))).astype(np.uint8) // 8
    count = int(np.exp(generator.uniform(np.log(8), np.log(60))))
    markers = np.zeros(shape.shape, np.int32)
    markers[tuple(generator.integers(shape.shape, size=(count, 2)).T)] = np.arange(1, count + 1)
    region = watershed_ift(height, markers)
    inside = mean(shape, region, region) > 0.5
    smooth = gaussian_filter(inside.astype(np.float64), 2) > 0.5  # no frayed borders
    return gaussian_filter(smooth.astype(np.float64), generator.uniform(0.3, 0.8))


def _smooth(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A smooth random field of unit variance, about."""
    cells = int(generator.integers(3, 7))
    coarse = generator.standard_normal((cells, cells))
    return zoom(coarse, [side / cells for side in size], order=3, mode="nearest", grid_mode=True)[: size[0], : size[1]]
