"""Grids of noise levels."""

import pytest
import torch

from diffusion import VESDE, VPSDE, SubVPSDE
from samplers.grids import check_levels, karras_grid, log_snr_grid, time_grid


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


def test_log_snr_grid_is_geometric():
    ratios = log_snr_grid(3.0, 0.01, 9).double().log().diff()
    torch.testing.assert_close(ratios, ratios.mean().expand(8), rtol=1e-5, atol=0)


@pytest.mark.parametrize("sde", [VESDE(), VPSDE(), SubVPSDE()], ids=["ve", "vp", "sub-vp"])
def test_time_grid_is_equidistant_in_time(sde):
    grid = time_grid(sde, 3.0, 0.01, 9)
    assert grid[0] == pytest.approx(3.0, rel=1e-6) and grid[-1] == pytest.approx(0.01, rel=1e-5)
    steps = sde.time_of(grid.double()).diff()
    torch.testing.assert_close(steps, steps.mean().expand(8), rtol=1e-4, atol=0)
    if isinstance(sde, VESDE):
        torch.testing.assert_close(grid, log_snr_grid(3.0, 0.01, 9))


def test_levels_beyond_the_times_of_an_sde_are_refused():
    check_levels(VESDE(), 3.0, 0.002)
    with pytest.raises(ValueError, match=r"sigma_start: expected a number in \[0.002, 3\].*VESDE.* got 3.1"):
        check_levels(VESDE(), 3.1, 0.01)
    with pytest.raises(ValueError, match=r"sigma_end: expected a number in \[0.002, 3\].* got 0.001"):
        check_levels(VESDE(), 1.0, 0.001)
    with pytest.raises(ValueError, match=r"sigma_start: expected a number in \[0, 152\].*VPSDE.* got 200"):
        check_levels(VPSDE(), 200.0, 0.01)
