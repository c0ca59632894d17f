"""How much a patch shows, and whether it is in focus, from second differences of its luminance.

Let W(h) = mean over both axes of (L(p + h) - 2 L(p) + L(p - h))^2. Natural photos in focus are made of edges
and textures whose structure functions grow about linearly with the distance, W(h) ~ h; white noise has W(h)
constant, and a smooth function W(h) ~ h^4. The exponent between the distances 1 and 3 therefore tells a
patch in focus (about 1) from a defocused one (towards 4), whatever its contrast.
"""

import math

import numpy as np

__all__ = ["accepted", "contrast_and_smoothness"]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_NEAR, _FAR = 1, 3  # pixels
_NOISE = 12.0  # W at any distance, both axes together, of white noise of one 8-bit code


def contrast_and_smoothness(patch: np.ndarray) -> tuple[float, float]:
    """Measures a patch.

    Args:
        patch: 8-bit values, shape (H, W, 3), at least 7 x 7.

    Returns:
        Contrast at the distance of 3 pixels: the standard deviation of the white noise that has as much, in 8-bit
        codes. And smoothness, the exponent of W(h), once noise of one code is allowed for; it means nothing where the
        contrast is below 1.
    """
    luminance = patch.astype(np.float32) @ _LUMA
    near, far = (_second_difference_energy(luminance, distance) for distance in (_NEAR, _FAR))
    ratio = (max(far - _NOISE, 0) + 1) / (max(near - _NOISE, 0) + 1)
    return math.sqrt(far / _NOISE), math.log(ratio) / math.log(_FAR / _NEAR)


def accepted(patch: np.ndarray, min_contrast: float, max_smoothness: float | None) -> bool:
    """Whether a patch is neither flat nor out of focus; see `contrast_and_smoothness`."""
    if min_contrast == 0 and max_smoothness is None:
        return True
    contrast, smoothness = contrast_and_smoothness(patch)
    return contrast >= min_contrast and (max_smoothness is None or smoothness <= max_smoothness)


def _second_difference_energy(values: np.ndarray, distance: int) -> float:
    """W at a distance: the means over rows and over columns, added."""
    energy = 0.0
    for v in (values, values.T):
        difference = v[2 * distance :] - 2 * v[distance:-distance] + v[: -2 * distance]
        energy += float(np.square(difference).mean())
    return energy
