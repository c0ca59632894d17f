"""TV deconvolution: the optimum against an independent algorithm, limits, and a picture."""

import numpy as np
import pytest
import torch

from optics import DefocusOperator
from restorers.tv import TVDeconvolution


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # On pictures this small, threads cost more than they give.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _problem(side=14, seed=0):
    """A blocky colour picture, its capture through a map with radii of 0.5 and 2, and the operator."""
    generator = torch.Generator().manual_seed(seed)
    radii = torch.full((1, 1, side, side), 2.0)
    radii[..., : side // 2] = 0.5
    operator = DefocusOperator(radii)
    cells = torch.rand(1, 3, 5, 5, generator=generator)
    x = torch.nn.functional.interpolate(cells, size=operator.canvas_size, mode="nearest")
    y = operator(x)
    return x, y + 0.01 * torch.randn(y.shape, generator=generator), operator


def _dense(linear, size):
    """Matrix of a linear map of pictures with one channel."""
    basis = torch.eye(size[0] * size[1]).reshape(-1, 1, *size)
    return torch.stack([linear(item[None]).flatten() for item in basis], 1).double().numpy()


def _differences(height, width):
    """Matrix (2 H W, H W) of forward differences, built from index pairs."""
    rows = np.zeros((2, height, width, height, width))
    for i in range(height):
        for j in range(width):
            if i + 1 < height:
                rows[0, i, j, i + 1, j], rows[0, i, j, i, j] = 1, -1
            if j + 1 < width:
                rows[1, i, j, i, j + 1], rows[1, i, j, i, j] = 1, -1
    return rows.reshape(2 * height * width, height * width)


def _chambolle_pock(a, d, y, weight, iterations):
    """Minimises 1/2 |y - a x|^2 + weight sum |(d x)| by the primal-dual method, both terms dualised."""
    channels = y.shape[1]
    x, average = (np.zeros((a.shape[1], channels)) for _ in range(2))
    p, q = np.zeros_like(y), np.zeros((d.shape[0], channels))
    # The dual variables are some hundred times smaller than the picture: unequal steps, same product.
    step = 0.99 / np.linalg.norm(np.vstack([a, d]), 2)
    primal_step, dual_step = 10 * step, step / 10
    for _ in range(iterations):
        p = (p + dual_step * (a @ average - y)) / (1 + dual_step)
        q = q + dual_step * (d @ average)
        length = np.sqrt((q.reshape(2, -1, channels) ** 2).sum((0, 2)))
        q = q / np.tile(np.maximum(1, length / weight), 2)[:, None]
        previous, x = x, x - primal_step * (a.T @ p + d.T @ q)
        average = 2 * x - previous
    slope = (d @ x).reshape(2, -1, channels)
    return 0.5 * np.sum((a @ x - y) ** 2) + weight * np.sqrt((slope**2).sum((0, 2))).sum()


def _objective(x, y, operator, weight):
    slopes = torch.zeros(2, *x.shape)
    slopes[0, :, :, :-1], slopes[1, ..., :-1] = x.diff(dim=2), x.diff(dim=3)
    length = slopes.square().sum((0, 2)).sqrt()
    return float(0.5 * (operator(x) - y).square().sum() + weight * length.sum())


def test_reaches_the_optimum_of_an_independent_method():
    _, y, operator = _problem(9)
    weight = 1e-3
    a, d = _dense(operator, operator.canvas_size), _differences(*operator.canvas_size)
    pixels = y[0].flatten(1).T.double().numpy()
    optimum = _chambolle_pock(a, d, pixels, weight, 2000)
    assert _objective(operator.extend(y), y, operator, weight) > 1.2 * optimum
    reached = _objective(TVDeconvolution(iterations=300).solve(y, operator, weight), y, operator, weight)
    assert reached == pytest.approx(optimum, rel=3e-5)
    default = _objective(TVDeconvolution().solve(y, operator, weight), y, operator, weight)
    assert default == pytest.approx(optimum, rel=2.5e-2)


def test_minimiser_does_not_depend_on_the_penalty():
    _, y, operator = _problem(10)
    x = [TVDeconvolution(penalty=penalty, iterations=120).solve(y, operator, 2e-3) for penalty in (4.0, 15.0)]
    assert (operator.crop(x[0] - x[1])).abs().max() < 5e-3


def test_weight_zero_solves_least_squares():
    x, _, operator = _problem(8)
    y = operator(x)
    a = torch.from_numpy(_dense(operator, operator.canvas_size))
    found = TVDeconvolution(iterations=10, cg_iterations=30).solve(y, operator, 0.0)
    # The solution nearest the start is unique.
    start = operator.extend(y)
    change = torch.linalg.lstsq(a, (y - operator(start))[0].flatten(1).T.double(), driver="gelsd").solution
    exact = start + change.T.reshape(start.shape)
    assert (operator(found) - y).abs().max() < 2e-3
    torch.testing.assert_close(operator(found), operator(exact.float()), rtol=0, atol=2e-3)


def test_constant_picture_is_unchanged():
    _, y, operator = _problem()
    flat = torch.full_like(y, 0.3)
    torch.testing.assert_close(TVDeconvolution()(flat, operator, 0.01), flat, rtol=0, atol=1e-5)


def test_beats_the_capture():
    x, y, operator = _problem(40)
    restored = TVDeconvolution()(y, operator, 0.01)
    truth = operator.crop(x)
    assert restored.min() >= 0 and restored.max() <= 1
    gain = 10 * torch.log10((y - truth).square().mean() / (restored - truth).square().mean())
    assert gain > 3



@pytest.mark.parametrize("options", [{"weight": -1}, {"penalty": 0}, {"iterations": 0}, {"relaxation": 2.0}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError):
        TVDeconvolution(**options)
