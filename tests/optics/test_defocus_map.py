"""The guided filter against its definition, and maps estimated from captures of known blur."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch.nn import functional as F

from optics.defocus_map import EvidenceEstimator, guided_filter
from optics.defocus_map.guided_filter import box_mean
from optics.defocus_map.spectra import _transfer_power
from optics.operator import DefocusOperator
from optics.psf import defocus_psf

SIDE = 192


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Pictures this small gain nothing from threads, which wait for one another where other work is running."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sharp_photos():
    """Photos at half size, where those are sharp that are not quite at full size."""
    photos = [data.chelsea()[20:, 60:], data.coffee()[:, 100:], data.astronaut()]
    photos = [torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255 for photo in photos]
    photos = [F.avg_pool2d(photo, 2) for photo in photos]
    return [photo[..., : min(SIDE, photo.shape[-2]), : min(SIDE, photo.shape[-1])] for photo in photos]


def _captured(y, noise_std=0.01):
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return (y + noise_std * noise).clamp(0, 1).mul(255).round() / 255


def _defocused(x, radius, softness=0.0):
    """One PSF everywhere, by direct convolution."""
    psf = defocus_psf(radius, softness).float()[None, None]
    reach = psf.shape[-1] // 2
    return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect").transpose(0, 1), psf).transpose(0, 1)


def _trusted_mean(radius, confidence):
    return float((radius * confidence).sum() / confidence.sum())


@pytest.mark.parametrize("radius", [2.0, 3.0, 4.0, 5.0])
def test_matched_disks_are_found_to_a_quarter_pixel_on_average(sharp_photos, radius):
    found = [_trusted_mean(*EvidenceEstimator()(_captured(_defocused(x, radius)))) for x in sharp_photos]
    assert np.mean(found) == pytest.approx(radius, abs=0.25)
    assert max(found) < radius + 0.5


def test_jpeg_is_not_taken_for_blur(sharp_photos):
    errors = []
    for x in sharp_photos:
        file = io.BytesIO()
        y = _captured(_defocused(x, 3.0), 0.005)
        Image.fromarray((y[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=75)
        y = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255
        errors.append(_trusted_mean(*EvidenceEstimator()(y)) - 3)
    assert max(abs(error) for error in errors) < 0.5


def test_the_shape_of_the_psf_is_taken_into_account(sharp_photos):
    as_gaussian, as_disk = [], []
    for x in sharp_photos:
        y = _captured(_defocused(x, 3.0, softness=1.0))
        as_gaussian.append(_trusted_mean(*EvidenceEstimator(softness=1.0)(y)))
        as_disk.append(_trusted_mean(*EvidenceEstimator()(y)))
    # A Gaussian has no zeros: a wider one and a blander photo look much alike.
    assert np.mean(as_gaussian) == pytest.approx(3.0, abs=0.7)
    assert np.mean(as_disk) < np.mean(as_gaussian) - 0.5


def test_sharp_photos_are_left_alone(sharp_photos):
    touched = []
    for x in sharp_photos:
        radius, confidence = EvidenceEstimator()(_captured(x))
        touched.append(float((radius > 0).float().mean()))
        assert confidence.mean() > 0.5
    # The astronaut's background is truly a little out of focus.
    assert np.mean(touched) < 0.06
    assert max(touched) < 0.15


def test_a_ramp_is_followed(sharp_photos):
    for x in sharp_photos:
        width = x.shape[-1]
        truth = (5.5 * (torch.arange(width) + 0.5) / width).expand(1, 1, x.shape[-2], -1).contiguous()
        operator = DefocusOperator(truth)
        radius, confidence = EvidenceEstimator()(_captured(operator(operator.extend(x))))
        error = (radius - truth).abs()
        assert (error * confidence).sum() / confidence.sum() < 0.8
        assert ((radius - truth > 0.75) * confidence).mean() < 0.1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise_std", [0.0, 0.02])
def test_a_flat_picture_says_unknown(value, noise_std):
    radius, confidence = EvidenceEstimator()(_captured(torch.full((1, 3, 100, 140), value), noise_std))
    assert radius.max() == 0
    if noise_std == 0 or value == 0.5:  # clipped noise is not white, and its strength is not seen
        assert confidence.max() < 0.1


def test_flat_regions_follow_their_surroundings(sharp_photos):
    x = sharp_photos[0].clone()
    x[..., 70:106, 70:106] = 0.5
    radius, _ = EvidenceEstimator()(_captured(_defocused(x, 3.0)))
    assert float(radius[..., 80:96, 80:96].mean()) == pytest.approx(3.0, abs=0.6)


def test_noise_is_measured_if_it_is_not_given(sharp_photos):
    y = _captured(_defocused(sharp_photos[0], 3.0), 0.02)
    measured, given = (EvidenceEstimator()(y, noise_std)[0] for noise_std in (None, 0.02))
    assert (measured - given).abs().mean() < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (2, 3), (9, 8), (33, 31), (65, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_gives_finite_maps_of_that_size(size, channels):
    y = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(2))
    for values in EvidenceEstimator()(y):
        assert values.shape == (1, 1, *size)
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
        assert values.min() >= 0


def test_long_photos_are_worked_on_in_strips(sharp_photos, monkeypatch):
    y = _captured(_defocused(sharp_photos[0], 2.0))
    whole = EvidenceEstimator()(y)
    monkeypatch.setattr("optics.defocus_map.spectra._CHUNK", 60)
    for part, values in zip(EvidenceEstimator()(y), whole, strict=True):
        torch.testing.assert_close(part, values, rtol=0, atol=1e-3)


@pytest.mark.parametrize("side", [1, 12, 64, 67, 150])
def test_transfer_functions_of_psfs_of_any_size_are_exact(side):
    psf = torch.rand(side, side, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    turns = torch.outer(torch.arange(64), torch.arange(side)).double() / 64
    waves = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
    expected = (waves @ psf.to(waves.dtype) @ waves.T).abs().square()
    torch.testing.assert_close(_transfer_power(psf / psf.sum(), 64), expected / psf.sum().square())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"largest_radius": 1.0}, "largest_radius"),
        ({"least_noise": 0.0}, "least_noise"),
        ({"quantile": 1.0}, "quantile"),
        ({"outliers": 0.0}, "outliers"),
    ],
)
def test_impossible_settings_are_errors(settings, name):
    with pytest.raises(ValueError, match=name):
        EvidenceEstimator(**settings)


@pytest.mark.parametrize("y", [torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8), torch.full((1, 3, 8, 8), torch.nan)])
def test_impossible_captures_are_errors(y):
    with pytest.raises(ValueError, match="^y must"):
        EvidenceEstimator()(y)


def test_box_mean_is_the_mean_of_the_window_cut_off_at_the_border():
    x = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(3))
    expected = F.avg_pool2d(x, 5, 1, padding=2, count_include_pad=False)
    torch.testing.assert_close(box_mean(x, 2), expected)


def test_guided_filter_is_a_mean_of_local_linear_regressions():
    generator = torch.Generator().manual_seed(4)
    height, width, radius, eps = 9, 11, 2, 0.02
    guide = torch.rand(1, 1, height, width, generator=generator, dtype=torch.float64)
    source = torch.rand(1, 2, height, width, generator=generator, dtype=torch.float64)
    predictions = [[[[] for _ in range(width)] for _ in range(height)] for _ in range(2)]
    for slice_index, values in enumerate(source[0].numpy()):
        for row in range(height):
            for column in range(width):
                rows = range(max(row - radius, 0), min(row + radius + 1, height))
                columns = range(max(column - radius, 0), min(column + radius + 1, width))
                window = np.ix_(rows, columns)
                inside = guide[0, 0].numpy()[window].ravel()
                # Ridge regression on the slope alone: (mean of squares + eps) slope = covariance.
                design = np.stack([inside - inside.mean(), np.ones_like(inside)], 1)
                penalty = np.diag([eps * inside.size, 0])
                slope, level = np.linalg.solve(design.T @ design + penalty, design.T @ values[window].ravel())
                for r in rows:
                    for c in columns:
                        value = slope * (float(guide[0, 0, r, c]) - inside.mean()) + level
                        predictions[slice_index][r][c].append(value)
    expected = torch.tensor([[[np.mean(cell) for cell in row] for row in values] for values in predictions])[None]
    torch.testing.assert_close(guided_filter(guide, source, radius, eps), expected)


def test_guided_filter_keeps_the_edges_of_the_guide_and_smooths_elsewhere():
    guide = (torch.arange(40) >= 20).float().expand(1, 1, 30, -1)
    noise = torch.randn(guide.shape, generator=torch.Generator().manual_seed(5))
    filtered = guided_filter(guide, 3 * guide + noise, 4, 1e-3)
    assert (filtered - 3 * guide).std() < 0.25
    assert (filtered[..., 20] - filtered[..., 19]).mean() == pytest.approx(3.0, abs=0.3)
