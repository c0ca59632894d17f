"""PSFs of apertures: energy, width, centre and symmetry, whatever the shape."""

import math
from dataclasses import replace

import numpy as np
import pytest

from optics.aperture import Aperture, aperture_psf
from optics.psf import defocus_psf

SHAPES = [
    Aperture(),
    Aperture(softness=0.3),
    Aperture(softness=1.0),
    Aperture(blades=6, rotation=0.4),
    Aperture(blades=5),
    Aperture(cut=0.7, rotation=1.1),
    Aperture(rim=0.4),
    Aperture(rim=2.0, softness=0.1),
    Aperture(stretch=1.3, rotation=0.7),
    Aperture(coma=0.2),
    Aperture(coma=0.4, softness=0.2, rotation=2.0),
    Aperture(coma=0.15, blades=5, cut=0.5, rim=1.6, stretch=1.2, rotation=0.9),
]


def moments(psf):
    """Centre and variances along rows and columns."""
    values = psf.numpy()
    offsets = np.arange(len(values)) - len(values) // 2
    rows, columns = values.sum(axis=1), values.sum(axis=0)
    centre = np.array([(offsets * rows).sum(), (offsets * columns).sum()])
    return centre, np.array([(offsets**2 * rows).sum(), (offsets**2 * columns).sum()]) - centre**2


@pytest.mark.parametrize("aperture", SHAPES)
@pytest.mark.parametrize("radius", [2.0, 5.3])
def test_radius_is_twice_the_standard_deviation(aperture, radius):
    psf = aperture_psf(aperture, radius)
    assert float(psf.sum()) == pytest.approx(1) and float(psf.min()) >= 0
    centre, variances = moments(psf)
    assert np.abs(centre).max() < 0.1
    # A pixel integrates over its square, which adds 1/12; sampling and the cut tails of a Gaussian take 3 %.
    assert variances.mean() - 1 / 12 == pytest.approx((radius / 2) ** 2, rel=0.04)


def test_round_shapes_are_those_of_the_restorer():
    for softness in (0.0, 0.3, 1.0):
        ours, theirs = aperture_psf(Aperture(softness=softness), 4.0), defocus_psf(4.0, softness)
        side = max(len(ours), len(theirs))
        ours, theirs = (np.pad(psf.numpy(), (side - len(psf)) // 2) for psf in (ours, theirs))
        assert np.abs(ours - theirs).sum() < 0.02


def test_a_polygon_has_the_symmetry_of_its_blades():
    square = aperture_psf(Aperture(blades=4), 5.0).numpy()
    assert np.abs(square - np.rot90(square)).max() < 1e-12
    turned = aperture_psf(Aperture(blades=4, rotation=math.pi / 4), 5.0).numpy()
    middle = len(square) // 2, len(turned) // 2
    # Corners to the right reach sqrt(2) farther than sides: here the corner, there the side.
    widths = [np.count_nonzero(psf[at] > 1e-4) for psf, at in zip((square, turned), middle, strict=True)]
    assert max(widths) / min(widths) == pytest.approx(math.sqrt(2), rel=0.12)


def test_a_cat_eye_is_narrow_along_its_cut():
    _, (rows, columns) = moments(aperture_psf(Aperture(cut=0.8), 5.0))
    assert columns < 0.7 * rows
    _, (rows, columns) = moments(aperture_psf(Aperture(cut=0.8, rotation=math.pi / 2), 5.0))
    assert rows < 0.7 * columns


def test_a_rim_is_brighter_or_darker_than_the_centre():
    for rim in (0.4, 2.0):
        psf = aperture_psf(Aperture(rim=rim), 16.0).numpy()
        middle = len(psf) // 2
        edge = np.flatnonzero(psf[middle] > 0.1 * psf[middle, middle]).max()
        distance = (edge - 2 - middle) / (edge + 0.5 - middle)
        expected = 1 + (rim - 1) * distance**6
        assert psf[middle, edge - 2] / psf[middle, middle] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("coma", [0.1, 0.25, 0.6])
def test_coma_pulls_light_to_one_side_as_its_rays_do(coma):
    """Third moments along and across of rays u + c (3 u^2 + v^2), v + 2 c u v through a uniform disk."""
    rotation, radius = 0.6, 6.0
    psf = aperture_psf(Aperture(coma=coma, rotation=rotation), radius)
    (top, left), _ = moments(psf)
    psf = psf.numpy()
    row, column = np.meshgrid(*[np.arange(len(psf)) - len(psf) // 2] * 2, indexing="ij")
    along = (column - left) * math.cos(rotation) + (row - top) * math.sin(rotation)
    across = (row - top) * math.cos(rotation) - (column - left) * math.sin(rotation)
    # Variances 1/4 + c^2 / 2 and 1/4 + c^2 / 6, which are given a mean of (radius / 2)^2.
    unit = radius / 2 / math.sqrt(0.25 + coma**2 / 3)
    assert (psf * along**3).sum() == pytest.approx(unit**3 * (coma / 2 + coma**3 / 4), rel=0.04)
    assert (psf * along * across**2).sum() == pytest.approx(unit**3 * (coma / 6 + coma**3 / 12), rel=0.04)
    assert abs((psf * across**3).sum()) < 0.002 * radius**3
    variances = [(psf * offset**2).sum() - 1 / 12 for offset in (along, across)]
    assert variances == pytest.approx([unit**2 * (0.25 + coma**2 / share) for share in (2, 6)], rel=0.03)


def test_coma_breaks_the_symmetry_along_the_rotation_alone():
    psf = aperture_psf(Aperture(coma=0.25, blades=6), 5.0).numpy()
    assert np.abs(psf - psf[::-1]).sum() < 0.01 < 0.3 < np.abs(psf - psf[:, ::-1]).sum()
    turned = aperture_psf(Aperture(coma=0.25, blades=6, rotation=math.pi), 5.0).numpy()
    assert np.abs(turned - psf[:, ::-1]).sum() < 0.01


@pytest.mark.parametrize("aperture", SHAPES[:9])
def test_rays_without_coma_land_where_the_pupil_is_imaged(aperture):
    """Two rasterisations of one shape: rays that are counted, and the pupil looked up for each subpixel."""
    traced = aperture_psf(replace(aperture, coma=1e-12), 5.3)
    # Of subpixels at the outline all or nothing counts in one of them.
    assert float((traced - aperture_psf(aperture, 5.3)).abs().sum()) < 0.035


def test_no_blur_is_an_impulse():
    assert aperture_psf(Aperture(blades=6), 0.0).tolist() == [[1.0]]


@pytest.mark.parametrize(
    "options", [{"softness": 2}, {"blades": 2}, {"cut": 2.0}, {"rim": 0.0}, {"stretch": -1.0}, {"coma": 1.5}]
)
def test_impossible_shapes_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Aperture(**options)
    with pytest.raises(ValueError, match="non-negative"):
        aperture_psf(Aperture(), -1.0)
