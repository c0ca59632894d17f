"""Copies of photos are found, other photos are not."""

import io

import numpy as np
import pytest
from PIL import Image

from train.duplicates import copies_among, fingerprint


def _photo(seed, height=120, width=160):
    """Smooth patches of light and colour with noise: neighbours resemble each other as in photos."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)


def _jpeg(pixels, quality=40):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image)


def _half(pixels):
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC))


def _brighter(pixels):
    return np.clip(pixels.astype(float) * 0.8 + 40, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [np.copy, _jpeg, _half, lambda p: _jpeg(_half(p)), _brighter])
def test_copies_are_found_in_any_size_and_encoding(change):
    photos = [_photo(seed) for seed in range(20)]
    others = [fingerprint(photo) for photo in photos]
    assert copies_among([fingerprint(change(photo)) for photo in photos], others) == list(range(20))


def test_other_photos_are_not_copies():
    prints = [fingerprint(_photo(seed)) for seed in range(40)]
    assert copies_among(prints[:20], prints[20:]) == [None] * 20
    assert copies_among(prints[:3], []) == [None] * 3


def test_likeness_of_light_alone_is_not_enough():
    # Sky over land: the same brightness from top to bottom, another texture.
    rng = np.random.default_rng(0)
    ramp = np.linspace(250, 20, 120)[:, None, None] * np.ones((1, 160, 3))
    views = []
    for _ in range(6):
        grain = np.asarray(Image.fromarray(rng.normal(0, 10, (16, 17)).astype(np.float32)).resize((160, 120), 0))
        views.append(fingerprint(np.clip(ramp + grain[..., None], 0, 255).astype(np.uint8)))
    assert copies_among(views[:3], views[3:]) == [None] * 3


def test_flat_photos_are_copies_of_their_equals_alone():
    flat = [fingerprint(np.full((40, 50, 3), code, np.uint8)) for code in (10, 200)]
    assert copies_among(flat, flat) == [0, 1]
    assert copies_among(flat, [fingerprint(_photo(0))]) == [None, None]
