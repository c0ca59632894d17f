"""Tiles by free memory, and what a dry run says of photos without writing anything."""

import re

import numpy as np
import pytest
import torch
from command_line import fails, files
from PIL import Image

from diffusion import ScoreNetwork
from photos import write_map
from samplers.dry_run import Probe
from samplers.memory import SMALLEST_TILE, fitting_tile, free_bytes, peak_bytes
from samplers.restoring import out_of_memory

NETWORK = ScoreNetwork(channels=(8, 8), blocks=1, embedding=16)


def test_the_tile_is_the_largest_that_fits_and_never_larger_than_asked_for():
    for tile in (1024, 700, 300, 64):
        sides, least = [], fitting_tile(tile, 300, 400, NETWORK, 0)
        for free in (None, 10**12, 28 * 10**6, 27 * 10**6, 10**6, 0):
            chosen = fitting_tile(tile, 300, 400, NETWORK, free)
            assert SMALLEST_TILE <= chosen <= tile
            if free is not None:
                assert chosen == least or peak_bytes(300, 400, chosen, NETWORK) <= 0.8 * free
            if chosen < tile:
                assert peak_bytes(300, 400, 2 * chosen, NETWORK) > 0.8 * free
            sides.append(chosen)
        assert sides == sorted(sides, reverse=True)
        assert sides[0] == sides[1] == tile and sides[-1] == least
        assert (least < tile) == (tile > 64)


def test_a_tile_is_not_made_smaller_than_helps():
    whole = peak_bytes(3000, 4000, 64)
    chosen = fitting_tile(4096, 3000, 4000, NETWORK, 0)
    assert peak_bytes(3000, 4000, chosen, NETWORK) <= 1.1 * whole < peak_bytes(3000, 4000, 2 * chosen, NETWORK)
    assert fitting_tile(4096, 40, 50, NETWORK, 0) == SMALLEST_TILE


def test_a_tile_larger_than_the_photo_takes_no_more_than_the_photo():
    assert peak_bytes(100, 100, 4096, NETWORK) == peak_bytes(100, 100, 100, NETWORK)


def test_free_memory_of_this_machine_is_told():
    free = free_bytes(torch.device("cpu"))
    assert free is None or 0 < free < 2**50
    assert free_bytes(torch.device("meta")) is None


def test_time_grows_with_what_is_seen_and_with_the_photo():
    measured = Probe(100, 3.0, 1.0)
    assert measured.seconds(10, 10, 100) == 4.0
    assert measured.seconds(20, 10, 300) == 2.0 + 9.0


@pytest.mark.parametrize("method", ["score", "tv"])
def test_a_dry_run_writes_nothing_and_says_what_photos_cost(deblur, photo, codes, tmp_path, out, method):
    Image.fromarray(codes).resize((400, 300)).save(tmp_path / "large.png")
    (tmp_path / "bad.png").write_bytes(b"none")
    code, output, errors = deblur(photo, tmp_path / "large.png", "--method", method, "--dry-run")
    assert (code, errors, files(out)) == (0, [], [])
    assert output[0].startswith(f"{photo}: 56 x 40") and output[-1].startswith("2 photos: about")
    assert ("3 evaluations" in output[1]) == ("1 tile of 4096" in output[1]) == (method == "score")
    seconds = [int(re.search(r"about (\d+) s", line)[1]) for line in output]
    assert abs(seconds[2] - seconds[0] - seconds[1]) <= 1
    if method == "score":
        code, output, _ = deblur(tmp_path / "large.png", "--dry-run", "--tile", 64)
        assert f"{7 * 5} tiles of 64" in output[0]
        fails(deblur(tmp_path / "bad.png", "--dry-run"), 3, "bad.png")


def test_a_dry_run_says_what_would_fail(deblur, photo, tmp_path, out):
    (tmp_path / "bad.png").write_bytes(b"none")
    Image.new("L", (60, 60)).save(tmp_path / "large.png")
    fails(deblur(tmp_path / "missing.png", "--dry-run"), 3, "missing.png")
    code, output, errors = deblur(photo, tmp_path / "bad.png", tmp_path / "missing.png", "--dry-run")
    assert code == 6 and output[0].startswith(f"{photo}: 56 x 40") and output[1].startswith("1 photos: about")
    assert len(errors) == 2 and all(error.startswith(f"deblur.py: {tmp_path}") for error in errors)
    # As a run: the capture cannot guide so where some pixels count less.
    fails(deblur(photo, "--dry-run", "guidance=range-null", "model_error=0"), 2, "range-null")
    assert files(out) == []
    write_map(tmp_path / "map.tif", np.ones((5, 5)))
    fails(deblur(photo, "--dry-run", "--defocus-map", tmp_path / "map.tif"), 2, "map.tif", "5 x 5")
    fails(deblur(photo, "--dry-run", "--mask", tmp_path / "large.png"), 2, "large.png", "expected a mask of 56 x 40")
    assert deblur(photo)[0] == 0
    fails(deblur(photo, "--dry-run"), 3, out / "cat.png", "--overwrite")
    assert deblur(photo, "--dry-run", "--resume")[1] == [f"{photo}: kept, it is done"]


def test_little_free_memory_means_small_tiles_and_the_same_picture(deblur, photo, out, monkeypatch):
    import samplers.restoring

    assert deblur(photo)[0] == 0
    whole = Image.open(out / "cat.png").tobytes()
    tiles, call = [], samplers.restoring.DefocusDeblurPipeline.__call__

    def noted(self, *arguments, settings, **options):
        tiles.append(settings.tile)
        return call(self, *arguments, settings=settings, **options)

    monkeypatch.setattr(samplers.restoring.DefocusDeblurPipeline, "__call__", noted)
    monkeypatch.setattr(samplers.restoring, "free_bytes", lambda device: 0)
    assert deblur(photo, "--overwrite")[0] == 0
    assert tiles == [SMALLEST_TILE]
    after = Image.open(out / "cat.png").tobytes()
    assert max(abs(a - b) for a, b in zip(after, whole, strict=True)) <= 1


def test_a_dry_run_still_checks_the_command(deblur, photo):
    fails(deblur(photo, "--dry-run", "stps=3"), 2, "stps")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuFFT error: CUFFT_INVALID_SIZE"), False),
        (ValueError("expected a mask"), False),
    ],
)
def test_whatever_says_that_memory_is_short_is_understood(error, expected):
    assert out_of_memory(error) is expected
