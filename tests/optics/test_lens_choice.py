"""What is found of the lens, on captures of lenses that are known."""

import numpy as np
import pytest
import torch

from optics import TYPICAL, Lens, MeasuredPSF, UnknownLens
from optics.lens_choice import UNKNOWN, choose_softness
from optics.psf import defocus_psf

SIDE = 144
NOISE = 0.01


def _scene(side, seed=0):
    """Overlapping bright and dark rectangles with fine texture: spectra and edges like those of photos."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.full((1, 3, side, side), 0.5)
    for _ in range(160):
        top, left, height, width = (torch.rand(4, generator=generator) * torch.tensor([side, side, 40, 40])).long()
        colour = torch.rand(3, 1, 1, generator=generator)
        scene[0, :, top : top + height + 2, left : left + width + 2] = 0.02 + 0.96 * colour
    return (scene + 0.05 * torch.randn(1, 3, side, side, generator=generator)).clamp(0, 1)


def _capture(lens, radius=3.0, noise=NOISE, seed=0):
    radius_map = torch.full((1, 1, SIDE, SIDE), radius)
    operator = lens.operator(radius_map)
    y = (lens.model(operator)(2 * _scene(operator.canvas_size[0], seed) - 1) + 1) / 2
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return (255 * y.clamp(0, 1)).round() / 255, radius_map


@pytest.mark.parametrize("light", ["srgb", "linear"])
@pytest.mark.parametrize("seed", [0, 1])
def test_light_that_was_mixed_is_found(light, seed):
    y, radius_map = _capture(Lens(softness=0.3, light=light), seed=seed)
    assert UnknownLens(softness=0.3).found(y, radius_map, NOISE) == Lens(softness=0.3, light=light, doubt=0.45)


@pytest.mark.parametrize(("softness", "noise", "doubt"), [(0.1, 0.008, 0.45), (0.1, 0.006, 1.0), (1.0, 0.008, 1.0)])
def test_a_lens_is_doubted_less_where_noise_shows_it(softness, noise, doubt):
    y, radius_map = _capture(Lens(softness=softness), noise=noise)
    assert UNKNOWN.found(y, radius_map, noise).doubt == doubt


@pytest.mark.parametrize(("softness", "low", "high"), [(0.0, 0.0, 0.1), (0.3, 0.1, 0.6), (1.0, 0.6, 1.0)])
def test_shape_is_found_where_noise_is_left_to_measure_by(softness, low, high):
    y, radius_map = _capture(Lens(softness=softness))
    # Also where the map is off by a tenth.
    for scale in (0.9, 1.0, 1.1):
        assert low <= choose_softness(y, scale * radius_map, NOISE) <= high
    assert choose_softness(y, radius_map, 0.004) == TYPICAL.softness
    assert UNKNOWN.found(y, radius_map, 0.004).channel_scales is None


@pytest.mark.parametrize("scales", [(1.06, 1.0, 0.94), (1.0, 1.0, 1.0)])
def test_radii_of_the_colours_are_found(scales):
    y, radius_map = _capture(Lens(channel_scales=scales), radius=5.0)
    # Whatever the error of the map, which the colours share.
    found = UnknownLens(light="srgb").found(y, 1.05 * radius_map, NOISE).channel_scales or (1.0, 1.0, 1.0)
    assert found == pytest.approx(scales, abs=0.031)


def test_what_is_known_is_not_looked_for():
    y, radius_map = _capture(Lens(softness=1.0))
    assert UnknownLens(softness=0.0, light="linear").found(y, radius_map, 0.004) == Lens(light="linear")
    measured = MeasuredPSF(defocus_psf(5.0).numpy())
    found = UnknownLens(psf=measured, light="srgb").found(y, radius_map, NOISE)
    assert found.psf is measured and found.light == "srgb" and found.channel_scales is None


def test_measured_psfs_of_a_grid_are_taken_from_their_places():
    """Kernels differ from left to right; fitted by those of the wrong side, linear light is taken for code values."""
    wide = np.zeros((23, 23))
    wide[9:14, 1:22] = 1
    measured = MeasuredPSF(np.stack([[wide, wide.T]]))
    radius_map = torch.full((1, 1, SIDE, 3 * SIDE), 4.0)
    for light in ("linear", "srgb"):
        lens = Lens(psf=measured, light=light)
        operator = lens.operator(radius_map)
        scene = _scene(operator.canvas_size[1])[..., : operator.canvas_size[0], :]
        y = (lens.model(operator)(2 * scene - 1) + 1) / 2
        y = (y + 0.004 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
        assert UnknownLens(psf=measured).found(y, radius_map, 0.004).light == light


def test_strips_too_narrow_to_tell_leave_the_lens_typical():
    y, _ = _capture(Lens(softness=1.0))
    radius_map = torch.zeros(1, 1, SIDE, SIDE)
    radius_map[..., 60:68] = 2.0
    found = UNKNOWN.found(y, radius_map, 0.02)
    assert (found.softness, found.channel_scales, found.doubt) == (TYPICAL.softness, None, 1.0)
    assert choose_softness(y, radius_map, 0.02) == TYPICAL.softness


@pytest.mark.parametrize("shape", [(9, 11), (40, 200)])
def test_a_capture_that_says_nothing_has_the_typical_lens(shape):
    flat = torch.full((1, 3, *shape), 0.4)
    for radius in (0.0, 3.0):
        assert UNKNOWN.found(flat, torch.full((1, 1, *shape), radius), 0.004) == TYPICAL
