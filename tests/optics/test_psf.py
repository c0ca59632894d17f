"""Point spread functions: mass, shape, width."""

import numpy as np
import pytest
import torch

from optics import PSF_SOFTNESS, bank_radii, defocus_psf, psf_bank
from optics.psf import psf_reach

SOFTNESSES = [0.0, 0.1, 0.3, 0.7, 1.0]


def _variance_along_an_axis(psf):
    reach = psf.shape[0] // 2
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return float((psf.sum(0) * places.square()).sum())


@pytest.mark.parametrize("softness", SOFTNESSES)
@pytest.mark.parametrize("radius", [0.0, 0.1, 0.6, 1.0, 2.3, 7.0])
def test_mass_is_one_and_no_light_is_negative(radius, softness):
    psf = defocus_psf(radius, softness)
    assert psf.dtype == torch.float64
    assert psf.shape == (2 * psf_reach(radius, softness) + 1,) * 2
    assert float(psf.sum()) == pytest.approx(1, abs=1e-12)
    assert float(psf.min()) >= 0


@pytest.mark.parametrize("softness", SOFTNESSES)
@pytest.mark.parametrize("radius", [0.4, 1.5, 4.2])
def test_symmetric_under_turns_and_flips(radius, softness):
    psf = defocus_psf(radius, softness)
    for mirrored in (psf.flip(0), psf.flip(1)):
        torch.testing.assert_close(psf, mirrored, rtol=0, atol=1e-12)
    # The two axes are rasterised differently, exactly and by points.
    torch.testing.assert_close(psf, psf.mT, rtol=0, atol=0.006 * float(psf.max()))


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.75, 3.3, 6.0])
def test_disk_covers_the_area_of_each_pixel(radius):
    psf = defocus_psf(radius)
    side, fine = psf.shape[0], 100
    places = (np.arange(side * fine) + 0.5) / fine - side / 2
    inside = places[:, None] ** 2 + places[None] ** 2 <= radius**2
    coverage = inside.reshape(side, fine, side, fine).mean(axis=(1, 3))
    np.testing.assert_allclose(psf.numpy(), coverage / coverage.sum(), rtol=0, atol=4e-3 * float(psf.max()))


def test_gaussian_is_integrated_over_pixels():
    psf = defocus_psf(3.0, softness=1.0)
    edges = torch.arange(-6, 6, dtype=torch.float64) + 0.5
    cumulative = torch.special.ndtr(edges / 1.5)
    profile = torch.cat([cumulative[:1], cumulative.diff(), 1 - cumulative[-1:]])[1:-1]
    reach = psf.shape[0] // 2
    middle = psf[reach - 5 : reach + 6, reach - 5 : reach + 6]
    # A point of light fills one pixel, so that the Gaussian is seen through a pixel's box.
    torch.testing.assert_close(middle.sum(1) / middle.sum(), profile / profile.sum(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("softness", SOFTNESSES)
@pytest.mark.parametrize("radius", [2.0, 3.7, 8.0])
def test_radius_is_twice_the_standard_deviation_for_every_shape(radius, softness):
    variance = _variance_along_an_axis(defocus_psf(radius, softness))
    expected = radius**2 / 4
    # Integration over pixels adds 1/12 on average; what lies beyond three standard deviations is cut away.
    assert expected - 0.035 * softness * expected - 0.01 < variance < expected + 1 / 12 + 0.04


@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
def test_width_grows_with_the_radius(softness):
    # A disk of less than half a pixel lies within one.
    radii = torch.linspace(0.5, 4, 29, dtype=torch.float64).tolist()
    widths = [_variance_along_an_axis(defocus_psf(radius, softness)) for radius in radii]
    assert np.all(np.diff(widths) > 0)


def test_radius_zero_is_a_single_pixel():
    for softness in SOFTNESSES:
        assert defocus_psf(0.0, softness).flatten().tolist() == [1.0]


def test_names_run_from_the_disk_to_the_gaussian():
    assert PSF_SOFTNESS["disk"] == 0 and PSF_SOFTNESS["gaussian"] == 1
    assert 0 < PSF_SOFTNESS["disk-gaussian"] < 1


def test_bank_spacing_follows_the_radius():
    radii = bank_radii(20.0)
    steps = radii.diff()
    assert radii[0] == 0 and radii[-1] >= 20 and radii[-2] < 20
    assert torch.equal(steps[radii[:-1] < 2], torch.full_like(steps[radii[:-1] < 2], 0.25))
    middle = (radii[:-1] >= 2) & (radii[:-1] < 6)
    assert torch.equal(steps[middle], torch.full_like(steps[middle], 0.5))
    torch.testing.assert_close(steps[radii[:-1] >= 6], 0.08 * radii[:-1][radii[:-1] >= 6])
    assert bank_radii(0.0).tolist() == [0.0]


def test_bank_shares_the_support_of_the_largest():
    radii = torch.tensor([0.0, 1.0, 3.5])
    bank = psf_bank(radii, softness=0.3)
    assert bank.shape[1:] == defocus_psf(3.5, 0.3).shape
    torch.testing.assert_close(bank.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(bank[2], defocus_psf(3.5, 0.3))
    centre = bank.shape[1] // 2
    assert bank[0, centre, centre] == 1
    reach = psf_reach(1.0, 0.3)
    inner = bank[1, centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]
    torch.testing.assert_close(inner / inner.sum(), defocus_psf(1.0, 0.3))


@pytest.mark.parametrize(
    ("radius", "softness", "named"),
    [
        (-0.1, 0.0, "-0.1"), (float("nan"), 0.0, "nan"), (float("inf"), 0.0, "inf"),
        (1.0, -0.5, "softness.*-0.5"), (1.0, 1.01, "softness.*1.01"),
    ],
)  # fmt: skip
def test_impossible_blur_is_refused(radius, softness, named):
    with pytest.raises(ValueError, match=named):
        defocus_psf(radius, softness)
