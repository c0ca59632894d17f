"""Tiles cover what is asked for once, with what a network reaches beyond."""

import pytest
import torch

from diffusion.tiles import tiles


def _written(height, width, side, halo, asked=None, grid=1):
    """How often each pixel is written; checks on the way that each tile reads and keeps what it should."""
    numbers, written = torch.arange(height * width).reshape(height, width), torch.zeros(height, width, dtype=torch.long)
    for read, kept, place in tiles(height, width, side, halo, asked, grid):
        assert torch.equal(numbers[read][kept], numbers[place])
        written[place] += 1
        for seen, put, length in zip(read, place, (height, width), strict=True):
            assert put.start % grid == 0
            assert put.start - seen.start == min(halo, put.start)
            assert seen.stop - put.stop == min(halo, length - put.stop)
    return written


@pytest.mark.parametrize(
    ("height", "width", "side", "halo"),
    [(100, 70, 32, 16), (7, 90, 32, 16), (64, 64, 32, 0), (65, 33, 32, 200), (1, 1, 1, 1)],
)
def test_every_pixel_is_covered_once(height, width, side, halo):
    assert (_written(height, width, side, halo) == 1).all()


@pytest.mark.parametrize("grid", [1, 8])
def test_what_is_asked_for_is_covered_once_and_little_else(grid):
    asked = torch.zeros(100, 120, dtype=torch.bool)
    asked[37:45, 50:53], asked[99, 119] = True, True
    written = _written(100, 120, 40, 16, asked, grid)
    assert (written[asked] == 1).all() and written.max() == 1
    # The first patch lies in 2 tiles, in each of them within the rectangle around it.
    expected = (45 - 37) * (53 - 50) + 1 if grid == 1 else (40 - 32 + 45 - 40) * (53 - 48) + 4 * 8
    assert int(written.sum()) == expected


def test_nothing_asked_for_is_no_tile():
    assert list(tiles(100, 120, 40, 16, torch.zeros(100, 120, dtype=torch.bool))) == []
