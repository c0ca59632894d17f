"""Blocks that are computed at once, against the same blocks one by one."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import optics.block_batches as batches_module
from optics import DefocusOperator, LinearLightDefocus, MeasuredPSF
from optics.block_batches import block_batches

HEIGHT, WIDTH = 75, 92
READS_BACK = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "item"}
COPIES = {"_to_copy", "lift_fresh", "scalar_tensor", "arange", "stack", "cat"}


class Kernels(TorchDispatchMode):
    """Counts what PyTorch is asked to do, by name."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _map(seed, high=7.0, size=(HEIGHT, WIDTH), least=-0.4):
    """Smooth radii up to `high`, and 0 in about a third; whole blocks of them."""
    coarse = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(seed))
    radius_map = F.interpolate(coarse * (1 - least) + least, size, mode="bilinear", align_corners=False)
    radius_map = high * radius_map.clamp(0, 1) ** 1.5
    radius_map[..., : size[0] // 3, : size[1] // 3] = max(least, 0)
    return radius_map


def _measured(grid):
    """A comet, nothing about which is symmetric, or four that differ."""
    rows, columns = np.meshgrid(*(np.arange(25) - 12,) * 2, indexing="ij")
    light = np.exp(-(rows**2 + columns**2) / 30) * (1 + np.tanh(columns / 2)) * (rows + columns > -6)
    turned = [np.rot90(light, turn) for turn in range(4)]
    return MeasuredPSF(np.stack(turned).reshape(2, 2, 25, 25) if grid else light)


def _pair(radius_map, batch, **options):
    return DefocusOperator(radius_map, **options), DefocusOperator(radius_map, **options, batch=batch)


def _assert_same(alone, batched, pictures=2, channels=3):
    """Both maps are those of the other operator to the rounding of single precision."""
    x, y = _random((pictures, channels, *alone.canvas_size), 1), _random((pictures, channels, *alone.capture_size), 2)
    assert batched.canvas_size == alone.canvas_size
    # Values of 1, about, some larger; of transforms of thousands.
    torch.testing.assert_close(batched(x), alone(x), rtol=0, atol=3e-6)
    torch.testing.assert_close(batched.adjoint(y), alone.adjoint(y), rtol=0, atol=5e-6)


OPTIONS = {
    "round": lambda: {},
    "soft": lambda: {"softness": 0.3},
    "colours": lambda: {"channel_scales": (1.2, 1.0, 0.8)},
    "measured": lambda: {"psf": _measured(False)},
    "field": lambda: {"psf": _measured(True)},
    "field, colours": lambda: {"psf": _measured(True), "channel_scales": (1.1, 1.0, 1.0)},
}


@pytest.mark.parametrize("batch", [4, 1000])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
@pytest.mark.parametrize("lens", OPTIONS)
def test_batches_are_the_blocks_one_by_one(lens, tolerance, batch):
    for seed, block in ((0, 16), (1, 24)):
        alone, batched = _pair(_map(seed), batch, block=block, tolerance=tolerance, **OPTIONS[lens]())
        _assert_same(alone, batched)


@pytest.mark.parametrize(("high", "least"), [(0.4, -0.4), (2.0, -2.0), (16.0, -0.4), (5.0, 0.3)])
@pytest.mark.parametrize("block", [7, 16, 40])
def test_any_radii_in_blocks_of_any_size(block, high, least):
    for seed in (2, 3, 4):
        _assert_same(*_pair(_map(seed, high, least=least), 1000, block=block, tolerance=0.01), pictures=1)


def _patches(levels, side=16):
    """Blocks of one radius each, side by side in a row."""
    return torch.tensor(levels).repeat_interleave(side).expand(1, 1, side, side * len(levels)).contiguous()


@pytest.mark.parametrize(
    "levels",
    [
        (2.0, 3.0, 2.0, 1.0),  # of one size of transforms, and not of one reach
        (0.0, 0.75, 0.5, 0.0),  # sharp blocks have the same size too
        (0.1, 1.5, 1.5, 0.1),  # some with a share of no blur
        (6.0, 0.0, 6.0, 6.0),  # windows that overlap beyond their neighbours
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_neighbours_that_differ_share_a_batch(levels):
    ramp = torch.linspace(0, 1e-3, 16 * len(levels)) * (torch.tensor(levels).repeat_interleave(16) > 0)
    for radius_map in (_patches(levels), _patches(levels) + ramp, _patches(levels).mT.contiguous()):
        for batch in (2, 3, 1000):
            _assert_same(*_pair(radius_map, batch, block=16), pictures=1, channels=2)


@pytest.mark.parametrize("size", [(9, 11), (1, 30), (30, 1), (16, 16)])
def test_captures_no_larger_than_a_block(size):
    _assert_same(*_pair(_map(5, size=size), 1000))
    _assert_same(*_pair(_map(5, size=size), 1000, block=16))


@pytest.mark.parametrize("batch", [3, 1000])
@pytest.mark.parametrize("lens", OPTIONS)
def test_the_adjoint_of_batches_is_exact(lens, batch):
    operator = DefocusOperator(_map(6), block=20, batch=batch, **OPTIONS[lens]())
    x, y = _random((2, 3, *operator.canvas_size), 3), _random((2, 3, HEIGHT, WIDTH), 4)
    forward, backward = (operator(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(float(forward - backward)) < 1e-5 * float(operator(x).norm() * y.norm())


@pytest.mark.parametrize("weight", [(), (1, 1, HEIGHT, WIDTH), (1, 3, HEIGHT, WIDTH)])
@pytest.mark.parametrize("lens", OPTIONS)
def test_the_normal_product_of_batches_is_that_of_both_maps_to_the_bit(lens, weight):
    for batch in (3, 1000):
        operator = DefocusOperator(_map(7), block=20, batch=batch, **OPTIONS[lens]())
        x, weight_of = _random((2, 3, *operator.canvas_size), 5), _random(weight, 6)
        assert torch.equal(operator.normal(x, weight_of), operator.adjoint(weight_of * operator(x)))


@pytest.mark.parametrize("lens", ["round", "colours", "field"])
def test_gradients_go_through_both_maps_of_batches(lens):
    operator = DefocusOperator(_map(8), block=16, batch=5, **OPTIONS[lens]())
    x = _random((1, 3, *operator.canvas_size), 1).requires_grad_()
    y = _random((1, 3, HEIGHT, WIDTH), 2).requires_grad_()
    for loss, by, expected in (
        ((operator(x) * y).sum(), x, operator.adjoint(y)), ((operator.adjoint(y) * x).sum(), y, operator(x))
    ):  # fmt: skip
        torch.testing.assert_close(torch.autograd.grad(loss, by)[0], expected.detach(), atol=1e-5, rtol=0)


def test_linear_light_by_batches():
    alone, batched = (LinearLightDefocus(operator) for operator in _pair(_map(9), 1000, block=16))
    x = _random((1, 3, *alone.operator.canvas_size), 7).clamp(-1, 1)
    (prediction, derivative), (expected, slope) = batched.linearize(x), alone.linearize(x)
    torch.testing.assert_close(prediction, expected, rtol=0, atol=2e-5)
    d, weight = _random(x.shape, 8), _random((1, 3, HEIGHT, WIDTH), 9).abs()
    torch.testing.assert_close(derivative.normal(d, weight), slope.normal(d, weight), rtol=1e-3, atol=1e-3)


def _kernels(operator):
    x, y = _random((1, 3, *operator.canvas_size), 1), _random((1, 3, *operator.capture_size), 2)
    weight = torch.tensor(0.7)
    with Kernels() as kernels:
        operator(x)
        operator.adjoint(y)
        operator.normal(x, weight)
    return kernels.counts


def test_more_blocks_of_a_kind_are_no_more_kernels():
    few, many = (
        DefocusOperator(torch.full((1, 1, side, side), 2.7), block=16, batch=1000) for side in (32, 112)
    )  # fmt: skip
    assert _kernels(few) == _kernels(many)
    assert _kernels(DefocusOperator(many.radius_map, block=16))["_fft_r2c"] == 49 * _kernels(many)["_fft_r2c"]


def test_no_component_is_computed_for_blocks_that_lack_it(monkeypatch):
    # One block of many radii among blocks of one: what it needs more, it needs alone.
    radius_map = torch.full((1, 1, 16, 160), 4.0)
    radius_map[..., :16] = torch.linspace(2.5, 4, 16)
    operator = DefocusOperator(radius_map, block=16, batch=1000)
    transformed, back = [], torch.fft.irfft2

    def counted(spectrum, **options):
        transformed.append(len(spectrum.flatten(0, -3)))
        return back(spectrum, **options)

    monkeypatch.setattr(torch.fft, "irfft2", counted)
    operator(_random((1, 1, *operator.canvas_size), 1))
    assert transformed[0] == 10 and len(transformed) > 2 and set(transformed[1:]) == {1}


@pytest.mark.parametrize("lens", OPTIONS)
def test_products_make_nothing_anew_and_read_nothing_back(lens, monkeypatch):
    operator = DefocusOperator(_map(10), block=16, batch=6, **OPTIONS[lens]())

    def made(*arguments):
        raise AssertionError("made anew")

    for name in ("Block.parts", "_components", "_shared_components", "_transfer_function"):
        monkeypatch.setattr(f"optics.blocks.{name}", made)
    counts = _kernels(operator)
    assert counts["_fft_r2c"] and not counts.keys() & (READS_BACK | COPIES), counts


@pytest.mark.parametrize("values", [1, 3 * 24 * 32, 1 << 23])
def test_memory_bounds_the_blocks_of_a_batch(values, monkeypatch):
    monkeypatch.setattr(batches_module, "_VALUES", values)
    operator = DefocusOperator(_map(11), block=16)
    alone = operator._channels[0][1]
    batches = block_batches(alone, torch.device("cpu"))
    counts = [len(batch.capture[1]) for batch in batches]
    assert sum(counts) == len(alone)
    for count, batch in zip(counts, batches, strict=True):
        assert count == 1 or count * batch.shape[0] * batch.shape[1] <= values
    kinds = len({(block.size, block.shape, block.blurs) for block in alone})
    assert len(batches) == {1: len(alone), 1 << 23: kinds}.get(values, len(batches))
    assert [len(batch.capture[1]) for batch in block_batches(alone, torch.device("cpu"), 1)] == [1] * len(alone)
    assert max(len(batch.capture[1]) for batch in block_batches(alone, torch.device("cpu"), 3)) == 3
    operator._channels = [(slice(None), batches)]
    _assert_same(DefocusOperator(_map(11), block=16), operator)


@pytest.mark.parametrize("batch", [0, -3])
def test_batches_without_blocks_are_refused(batch):
    with pytest.raises(ValueError, match=f"batch must be at least 1 block, got {batch}"):
        DefocusOperator(torch.ones(1, 1, 4, 5), batch=batch)


@pytest.mark.parametrize("batch", [None, 1])
def test_a_cpu_takes_one_block_after_the_other(batch):
    radius_map = torch.full((1, 1, 32, 32), 2.7)
    counts = _kernels(DefocusOperator(radius_map, block=16, batch=batch))
    assert counts["_fft_r2c"] == 4 * _kernels(DefocusOperator(radius_map, block=16, batch=4))["_fft_r2c"]
