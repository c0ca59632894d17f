"""Lenses: measured PSFs against the round family they were measured from, colours, light."""

import math

import numpy as np
import pytest
import torch

import optics.blocks as blocks_module
from optics import (
    DISK,
    DefocusOperator,
    Lens,
    LinearLightDefocus,
    MeasuredPSF,
    UnknownLens,
    defocus_psf,
    read_measured_psf,
)

LENS_SHAPE = (37, 50)


def _random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _ramp(high=4.0):
    return torch.linspace(0, high, LENS_SHAPE[1]).expand(1, 1, *LENS_SHAPE).contiguous()


def _lopsided(side=25):
    """A comet, nothing about which is symmetric, and its mirror image."""
    rows, columns = np.meshgrid(*(np.arange(side) - side // 2,) * 2, indexing="ij")
    light = np.exp(-(rows**2 + columns**2) / 30) * (1 + np.tanh(columns / 2)) * (rows + columns > -6)
    return light, light[:, ::-1].copy()


@pytest.mark.parametrize("radius", [1.5, 3.0, 6.0, 9.0])
def test_measured_disk_is_the_disk_at_every_radius(radius):
    measured = MeasuredPSF(defocus_psf(7.0, reach=12).numpy())
    kernel, disk = measured.kernel(radius), defocus_psf(radius, reach=measured.reach(radius))
    # The rim that the measurement smears by its pixels holds about a tenth of the light.
    assert float((kernel - disk).abs().sum()) < 0.1
    centred = torch.arange(len(kernel)) - len(kernel) // 2
    along = torch.stack([(kernel.sum(axis) * centred**2).sum() for axis in (0, 1)])
    # A small disk is no sum of its pixels' widths and its own.
    rtol = 0.035 if radius < 2 else 0.005
    torch.testing.assert_close(2 * (along.mean() - 1 / 12).sqrt(), torch.tensor(radius).double(), rtol=rtol, atol=0)
    assert abs(float((kernel.sum(0) * centred).sum())) < 0.01


@pytest.mark.parametrize("own", [1.5, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("radius", [3.0, 6.0])
def test_measurements_of_small_blur_have_the_radius_asked_for(own, radius):
    """Their pixels, and the lines between them, widen such kernels by much of their own width."""
    kernel = MeasuredPSF(defocus_psf(own, 0.3).numpy()).kernel(radius)
    centred = torch.arange(len(kernel)) - len(kernel) // 2
    variance = torch.stack([(kernel.sum(axis) * centred**2).sum() for axis in (0, 1)]).mean()
    assert 2 * math.sqrt(variance - 1 / 12) == pytest.approx(radius, rel=0.01)


def test_a_part_of_the_picture_has_the_psfs_of_its_place():
    measured = MeasuredPSF(np.stack([np.stack(_lopsided()), np.stack(_lopsided()[::-1])]))
    part = measured.part((0.25, 0.75), (0.5, 1.0)).part((0.0, 0.5), (0.5, 1.0))
    for row in (0.0, 0.3, 1.0):
        for column in (0.0, 0.9):
            where = 0.25 + 0.25 * row, 0.75 + 0.25 * column
            assert torch.equal(part.kernel(4.0, (row, column)), measured.kernel(4.0, where))
    assert torch.equal(measured.kernel(4.0, (0, 0)), measured.part((0, 0), (0, 0)).kernel(4.0, (1, 1)))


def test_kernels_are_centred_wherever_they_were_measured():
    moved = np.pad(_lopsided()[0], ((0, 6), (4, 0)))
    np.testing.assert_allclose(MeasuredPSF(moved).kernel(4.0), MeasuredPSF(_lopsided()[0]).kernel(4.0), atol=1e-12)


def test_field_interpolates_between_the_kernels_of_its_grid():
    one, other = _lopsided()
    psf = MeasuredPSF(np.stack([one, other])[None])
    reach = psf.reach(3.0)
    alone = [MeasuredPSF(kernel).kernel(3.0) for kernel in (one, other)]
    assert {len(kernel) // 2 for kernel in alone} == {reach}
    for column, share in ((0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.65, 0.8), (1.0, 1.0)):
        expected = (1 - share) * alone[0] + share * alone[1]
        torch.testing.assert_close(psf.kernel(3.0, (0.3, column)), expected)


@pytest.mark.parametrize("block", [16, 128])
@pytest.mark.parametrize("scales", [None, (1.1, 1.0, 0.9)])
def test_operator_of_measured_psfs_has_its_adjoint_and_keeps_light(block, scales):
    psf = MeasuredPSF(np.stack(_lopsided()).reshape(1, 2, 25, 25))
    operator = DefocusOperator(_ramp(), block=block, psf=psf, channel_scales=scales)
    x, y = _random((2, 3, *operator.canvas_size), 0), _random((2, 3, *LENS_SHAPE), 1)
    forward, backward = (operator(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(forward - backward)) < 1e-5 * float(operator(x).norm() * y.norm())
    flat = operator(torch.ones(1, 3, *operator.canvas_size))
    torch.testing.assert_close(flat, torch.ones_like(flat), rtol=0, atol=1e-5)


def test_operator_shows_a_point_of_light_as_it_was_measured():
    psf = MeasuredPSF(_lopsided()[0])
    radius = psf._cells[0][0].radius
    assert not torch.allclose(psf.kernel(radius), psf.kernel(radius).flip(0, 1), atol=1e-3)
    operator = DefocusOperator(torch.full((1, 1, *LENS_SHAPE), radius), psf=psf)
    x = torch.zeros(1, 1, *operator.canvas_size)
    x[..., operator.margin + 18, operator.margin + 25] = 1
    reach = psf.reach(radius)
    seen = operator(x)[0, 0, 18 - reach : 19 + reach, 25 - reach : 26 + reach]
    # A radius between two of the bank shows the mixture of theirs.
    assert float((seen - psf.kernel(radius)).abs().sum()) < 0.02


def test_each_colour_has_its_own_radius():
    scales = (1.25, 1.0, 0.5)
    together = DefocusOperator(_ramp(), 0.3, channel_scales=scales)
    x = _random((1, 3, *together.canvas_size), 2)
    y = together(x)
    for channel, scale in enumerate(scales):
        alone = DefocusOperator(scale * _ramp(), 0.3)
        cut = together.margin - alone.margin
        inner = x[:, channel : channel + 1, cut : x.shape[-2] - cut, cut : x.shape[-1] - cut]
        torch.testing.assert_close(alone(inner)[:, 0], y[:, channel], rtol=0, atol=1e-4)


def test_the_operator_of_an_estimated_map_is_as_exact_as_it_says():
    exact, rough = (DISK.operator(_ramp(12.0), estimated=estimated) for estimated in (False, True))
    x = _random((1, 3, *exact.canvas_size), 3)
    # Photos have most of their light in slow changes.
    for _ in range(3):
        x = torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    error = float((rough(x) - exact(x)).std() / x.std())
    assert 0 < error < 0.03
    y = _random((1, 3, *LENS_SHAPE), 4)
    torch.testing.assert_close((rough(x) * y).sum(), (x * rough.adjoint(y)).sum(), atol=1e-3, rtol=1e-4)


def test_light_decides_the_model():
    operator = Lens(light="linear").operator(_ramp())
    assert isinstance(Lens(light="linear").model(operator), LinearLightDefocus)
    assert DISK.model(operator) is operator


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (Lens, {"light": "log"}, "srgb, linear, got 'log'"), (UnknownLens, {"light": "log"}, "srgb, linear, got 'log'"),
        (UnknownLens, {"light": ""}, "srgb, linear, got ''"),
        (Lens, {"softness": math.nan}, "softness must be in .0, 1., got nan"),
        (Lens, {"softness": 1.5}, "softness must be in .0, 1., got 1.5"),
        (Lens, {"softness": "disk"}, "softness must be in .0, 1., got 'disk'"),
        (UnknownLens, {"softness": -0.1}, "softness must be in .0, 1., got -0.1"),
        (Lens, {"psf": np.ones((5, 5))}, "psf must be a MeasuredPSF or None, got ndarray"),
        (UnknownLens, {"psf": "psf.npy"}, "psf must be a MeasuredPSF or None, got str"),
        (Lens, {"doubt": -0.1}, "doubt must be finite and non-negative, got -0.1"),
        (Lens, {"doubt": math.inf}, "doubt must be finite and non-negative, got inf"),
        (Lens, {"channel_scales": (1.0, 0.0, 1.0)}, "channel_scales must be positive and finite"),
        (Lens, {"channel_scales": (1.0, math.nan, 1.0)}, "channel_scales must be positive and finite"),
    ],
)  # fmt: skip
def test_impossible_lenses_are_refused(kind, values, words):
    with pytest.raises(ValueError, match=words):
        kind(**values)


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        (np.ones(5), r"\(5,\)"), (np.ones((2, 5, 5)), "no grid"), (np.zeros((5, 5)), "hold light"),
        (-np.ones((5, 5)), "non-negative"), (np.full((5, 5), np.nan), "finite"), (np.array(["a"]), "numbers"),
        (np.pad([[1.0]], 2), "wider than a pixel"),
    ],
)  # fmt: skip
def test_files_that_hold_no_psfs_are_refused_by_name(tmp_path, kernels, words):
    np.save(tmp_path / "psf.npy", kernels)
    with pytest.raises(ValueError, match=words) as caught:
        read_measured_psf(tmp_path / "psf.npy")
    assert "psf.npy" in str(caught.value)


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "psf.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"psf\.npy: expected a NumPy file"):
        read_measured_psf(tmp_path / "psf.npy")


def test_file_of_a_list_of_kernels_needs_its_grid(tmp_path):
    one, other = _lopsided()
    np.save(tmp_path / "psf.npy", np.stack([one, other] * 3))
    assert read_measured_psf(tmp_path / "psf.npy", (3, 2)).grid == (3, 2)
    with pytest.raises(ValueError, match="6 PSFs, got a grid of 2 x 2"):
        read_measured_psf(tmp_path / "psf.npy", (2, 2))


def test_a_grid_that_contradicts_the_file_is_refused(tmp_path):
    one, other = _lopsided()
    np.save(tmp_path / "field.npy", np.stack([one, other] * 3).reshape(2, 3, *one.shape))
    np.save(tmp_path / "one.npy", one)
    assert read_measured_psf(tmp_path / "field.npy", (2, 3)).grid == (2, 3)
    assert read_measured_psf(tmp_path / "one.npy", (1, 1)).grid == (1, 1)
    for name, own in (("field", "2 x 3"), ("one", "1 x 1")):
        with pytest.raises(ValueError, match=rf"{name}\.npy: expected a grid of {own}, .* got one of 3 x 2"):
            read_measured_psf(tmp_path / f"{name}.npy", (3, 2))


def test_kernels_of_a_field_are_made_once_however_many_blocks_there_are(monkeypatch):
    made = []
    make = blocks_module.psf_components

    def counted(*arguments):
        made.append(1)
        return make(*arguments)

    monkeypatch.setattr(blocks_module, "psf_components", counted)
    psf = MeasuredPSF(np.stack(_lopsided()).reshape(1, 2, 25, 25))
    # More blocks than any cache of a sensible size holds.
    operator = DefocusOperator(torch.full((1, 1, 68, 68), 1.0), block=4, psf=psf)
    x = torch.rand(1, 1, *operator.canvas_size, generator=torch.Generator().manual_seed(0))
    first = operator(x)
    assert len(made) == 17 * 17 > 256
    assert torch.equal(operator(x), first) and len(made) == 17 * 17
