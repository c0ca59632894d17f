"""Grids of noise levels."""

import pytest
import torch

from samplers.grids import karras_grid


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_grid_is_equidistant_in_the_root(rho):
    grid = karras_grid(3.0, 0.01, 9, rho)
    assert grid.shape == (9,) and grid.dtype == torch.float32
    assert grid[0] == pytest.approx(3.0, rel=1e-6) and grid[-1] == pytest.approx(0.01, rel=1e-5)
    steps = (grid.double() ** (1 / rho)).diff()
    torch.testing.assert_close(steps, steps.mean().expand(8), rtol=1e-4, atol=0)
    assert (steps < 0).all()


def test_large_rho_approaches_a_geometric_sequence():
    ratios = karras_grid(3.0, 0.01, 9, rho=1e4).log().diff()
    torch.testing.assert_close(ratios, ratios.mean().expand(8), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((0.01, 3.0, 5), "0.01 and 3.0"), ((1.0, 0.0, 5), "sigma_end"), ((1.0, 0.1, 1), "got 1")],
)
def test_impossible_grids_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        karras_grid(*arguments)
