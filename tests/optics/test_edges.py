"""The sharpness of edges against closed forms, and maps propagated from them."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf

from optics.defocus_map.edge_profiles import EdgeProfiles, find_edges
from optics.defocus_map.edges import EdgeEstimator, _laplacian
from optics.operator import DefocusOperator
from optics.psf import defocus_psf

SMOOTHING, REBLUR = 1.0, 2.0


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _step(std, offset=0.0, angle=0.0, height=0.6, side=64):
    """A straight step blurred by a Gaussian in closed form, averaged over 8 x 8 points of every pixel."""
    centres = (np.arange(8 * side) + 0.5) / 8 - side / 2
    column, row = np.meshgrid(centres, centres)
    distance = column * math.cos(angle) + row * math.sin(angle) - offset
    values = 0.2 + height * 0.5 * (1 + erf(distance / (math.sqrt(2) * std)))
    return torch.from_numpy(values.reshape(side, 8, side, 8).mean((1, 3)))[None, None].float()


def _measured(brightness, profiles, reach=18):
    """Radii by local contrast and by gradient ratio along the middle of the step."""
    edges = find_edges(brightness, SMOOTHING, REBLUR, 0.02, reach)
    middle = (edges.row > 22) & (edges.row < 42) & (edges.column > 16) & (edges.column < 48)
    assert middle.sum() > 15
    return profiles.radius_of_contrast(edges.contrast[middle]), profiles.radius_of_ratio(edges.ratio[middle])


def _profiles(softness, intrinsic_std=0.0):
    return EdgeProfiles(softness, SMOOTHING, REBLUR, intrinsic_std, 10.0)


def _stripes(side, pixels, low, high):
    """Grey bands, alternately dark and bright: lone steps."""
    dark = torch.arange(side) // pixels % 2 == 1
    return torch.where(dark, low, high)[:, None].expand(1, 3, side, side).contiguous()


def _captured(radius_map, noise_std=0.005, pixels=32, low=0.1, high=0.9):
    operator = DefocusOperator(radius_map)
    y = operator(_stripes(operator.canvas_size[0], pixels, low, high))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return (y + noise_std * noise).clamp(0, 1)


def _constant(radius, side=128):
    return torch.full((1, 1, side, side), float(radius))


@pytest.mark.parametrize("std", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("offset", "angle"), [(0.0, 0.0), (0.3, 0.0), (0.2, 0.5), (0.1, math.pi / 4)])
def test_a_step_blurred_by_a_gaussian_gives_its_deviation_in_both_measures(std, offset, angle):
    by_contrast, by_ratio = _measured(_step(std, offset, angle), _profiles(1.0))
    # The ratio is exact but for sampling; the plateaus begin where 1.4 % of the height is yet to come.
    assert by_ratio.mean() / 2 == pytest.approx(std, rel=0.05 if std < 1 else 0.003)
    assert by_contrast.mean() / 2 == pytest.approx(std, rel=0.2 if std < 1 else 0.045)
    assert (by_contrast.mean() / 2 < std) or std < 1


@pytest.mark.parametrize("intrinsic_std", [0.4, 1.0])
def test_pixels_and_the_lens_in_focus_are_no_defocus(intrinsic_std):
    # Gaussians add in variance; the picture of this step holds the integration over pixels once.
    std = math.hypot(1.5, intrinsic_std)
    _, by_ratio = _measured(_step(std), _profiles(1.0, intrinsic_std))
    assert by_ratio.mean() == pytest.approx(3.0, rel=0.003)


def test_measures_are_those_of_the_closed_form_of_a_gaussian():
    profiles = _profiles(1.0, 0.4)
    radius = torch.tensor([0.5, 2.0, 5.0], dtype=torch.float64)
    variance = radius**2 / 4 + 1 / 12 + 0.16 + SMOOTHING**2
    torch.testing.assert_close(profiles.peak(radius, SMOOTHING), 1 / (2 * math.pi * variance).sqrt())
    contrast, ratio = 1 / (2 * math.pi * variance).sqrt(), (1 + REBLUR**2 / variance).sqrt()
    torch.testing.assert_close(profiles.radius_of_contrast(contrast), radius, atol=1e-3, rtol=0)
    torch.testing.assert_close(profiles.radius_of_ratio(ratio), radius, atol=1e-3, rtol=0)


@pytest.mark.parametrize("softness", [0.0, 0.3])
@pytest.mark.parametrize("radius", [3.0, 6.0, 9.0])
def test_the_peak_is_that_of_the_psf_summed_along_the_edge(softness, radius):
    psf = defocus_psf(radius, softness).numpy()
    line = psf.sum(0)
    offset = np.arange(len(line)) - len(line) // 2
    smoothing = 2.0
    # The PSF is integrated over pixels, which is 1 / 12 of variance; the edge itself is ideal here.
    expected = (line * np.exp(-(offset**2) / (2 * smoothing**2)) / math.sqrt(2 * math.pi * smoothing**2)).sum()
    peak = float(_profiles(softness).peak(torch.tensor(radius), smoothing))
    assert peak == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("softness", "radius"), [(0.0, 2.0), (0.0, 4.0), (0.3, 3.0)])
def test_a_step_blurred_by_the_psf_gives_its_radius(softness, radius):
    operator = DefocusOperator(_constant(radius, 64), softness)
    side = operator.canvas_size[0]
    x = (torch.arange(side) >= side // 2).float().expand(1, 1, side, -1) * 0.6 + 0.2
    # The step has gone through the pixels twice: once in x and once in the PSF.
    by_contrast, by_ratio = _measured(operator(x.contiguous()), _profiles(softness, math.sqrt(1 / 12)))
    # A disk of 2 px on pixels is not quite one.
    assert by_ratio.mean() == pytest.approx(radius, abs=0.15)
    assert by_contrast.mean() == pytest.approx(radius, abs=0.25)


def test_the_height_of_an_edge_does_not_matter():
    low, high = (torch.stack(_measured(_step(1.5, 0.3, 0.4, height), _profiles(1.0))) for height in (0.15, 0.75))
    torch.testing.assert_close(low.mean(1), high.mean(1), atol=0.01, rtol=0)


def test_a_line_is_no_step():
    step = find_edges(_step(1.0), SMOOTHING, REBLUR, 0.02, 12)
    line = find_edges(_step(1.0) - _step(1.0, 3.0) + 0.2, SMOOTHING, REBLUR, 0.02, 12)
    assert step.likeness.median() > 0.9
    assert line.likeness.max() == 0


def test_edges_are_one_pixel_wide():
    edges = find_edges(_step(2.0, 0.2, 0.0), SMOOTHING, REBLUR, 0.02, 12)
    assert sorted(edges.row.tolist()) == list(range(64))
    assert set(edges.column.tolist()) == {32}


@pytest.mark.parametrize("radius", [2.0, 3.0, 5.0])
def test_maps_of_constant_blur(radius):
    found, confidence = EdgeEstimator()(_captured(_constant(radius)))
    assert confidence.median() > 0.5
    assert float(found[confidence > 0.5].mean()) == pytest.approx(radius, abs=0.4)


def test_two_regions_are_told_apart():
    truth = _constant(1.5, 160)
    truth[..., 80:] = 5.0
    found, _ = EdgeEstimator()(_captured(truth))
    assert found[..., :64].mean() == pytest.approx(1.5, abs=0.5)
    assert found[..., 96:].mean() == pytest.approx(5.0, abs=0.7)


def test_faint_edges_weigh_little_and_noise_costs_no_truth():
    faint = _captured(_constant(3), noise_std=0.02, low=0.45, high=0.55)
    clear = _captured(_constant(3), noise_std=0.02)
    weights = [EdgeEstimator().measure(y[:, :1], 0.02)[2] for y in (faint, clear)]
    assert weights[0].max() < 0.3 * weights[1].median()
    radius, confidence = EdgeEstimator()(clear)
    assert float(radius[confidence > 0.5].mean()) == pytest.approx(3, abs=0.5)
    radius, confidence = EdgeEstimator()(faint)
    assert confidence.mean() < EdgeEstimator()(clear)[1].mean()
    assert radius.max() < 5


def test_edges_on_which_the_measures_disagree_are_not_heard():
    y = _captured(torch.linspace(1, 6, 128).expand(1, 1, 128, 128).contiguous(), pixels=20)
    edges, radius, strict = EdgeEstimator(disagreement=0.02).measure(y[:, :1], 0.004)
    loose = EdgeEstimator(disagreement=1e6).measure(y[:, :1], 0.004)[2]
    profiles = EdgeProfiles(0.0, 1.0, 2.0, 0.4, 8.0)
    by_contrast, by_ratio = profiles.radius_of_contrast(edges.contrast), profiles.radius_of_ratio(edges.ratio)
    torch.testing.assert_close(radius, (by_contrast + by_ratio) / 2)
    apart, seen = (by_contrast - by_ratio).abs() / (1 + radius), loose > 0.01
    assert (seen & (apart > 0.06)).any() and (seen & (apart < 0.01)).any()
    assert (strict / loose)[seen & (apart > 0.06)].max() < 0.05
    assert (strict / loose)[seen & (apart < 0.01)].min() > 0.8


def test_caution_prefers_the_sharper_of_the_edges():
    truth = torch.linspace(1, 6, 128).expand(1, 1, 128, 128).contiguous()
    y = _captured(truth)
    cautious, even, bold = (EdgeEstimator(caution=caution)(y)[0].mean() for caution in (0.05, 0.5, 0.95))
    assert cautious < even - 0.02 < bold - 0.04


def test_sharp_edges_are_left_alone():
    found, confidence = EdgeEstimator()(_captured(_constant(0)))
    assert found.max() == 0
    assert confidence.median() > 0.5


def test_flat_regions_follow_the_edges_nearby_and_confidence_fades_with_distance():
    radius, confidence = EdgeEstimator()(_captured(_constant(3, 200), pixels=160))
    by_row = confidence[0, 0].mean(1)
    assert by_row.argmax() > 140 and by_row[:150].diff().min() > -1e-3
    assert by_row[100] < by_row[145] / 2 and by_row[0] < 0.1
    assert float(radius[confidence > 0.5].mean()) == pytest.approx(3, abs=0.3)
    assert radius[..., :40, :].max() == 0


def test_laplacian_is_the_sum_over_neighbours():
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(2, 1, 4, 5, generator=generator)
    down, right = torch.rand(1, 1, 3, 5, generator=generator), torch.rand(1, 1, 4, 4, generator=generator)
    expected = torch.zeros_like(x)
    for i in range(4):
        for j in range(5):
            for k, m, link in (
                (i - 1, j, down[0, 0, i - 1, j] if i else None), (i + 1, j, down[0, 0, i, j] if i < 3 else None),
                (i, j - 1, right[0, 0, i, j - 1] if j else None), (i, j + 1, right[0, 0, i, j] if j < 4 else None),
            ):  # fmt: skip
                if link is not None:
                    expected[:, 0, i, j] += link * (x[:, 0, i, j] - x[:, 0, k, m])
    torch.testing.assert_close(_laplacian(x, [down, right]), expected)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_picture_says_unknown(value):
    for values in EdgeEstimator()(torch.full((1, 3, 40, 60), value)):
        assert values.max() == 0


def test_pure_noise_says_unknown():
    noise = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    radius, confidence = EdgeEstimator()((0.5 + 0.1 * noise).clamp(0, 1))
    assert confidence.mean() < 0.05
    assert (radius > 0).float().mean() < 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (2, 3), (8, 8), (33, 31)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_gives_finite_maps_of_that_size(size, channels):
    y = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(2))
    for values in EdgeEstimator()(y):
        assert values.shape == (1, 1, *size)
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
        assert values.min() >= 0


@pytest.mark.parametrize("y", [torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8), torch.full((1, 3, 8, 8), torch.nan)])
def test_impossible_captures_are_errors(y):
    with pytest.raises(ValueError, match="^y must"):
        EdgeEstimator()(y)


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"largest_radius": 1.0}, "largest_radius"), ({"caution": 1.0}, "caution"), ({"reach": 0.0}, "reach")],
)
def test_impossible_settings_are_errors(settings, name):
    with pytest.raises(ValueError, match=name):
        EdgeEstimator(**settings)
