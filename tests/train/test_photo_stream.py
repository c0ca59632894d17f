"""Patches of tar files: every sample a function of its number, whoever draws it and from wherever."""

import io
import pickle
import sys
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from photos import find_photos
from train.data_config import DataConfig
from train.photo_stream import PatchStream, StreamLoader, is_stream
from train.sharp_photos import StepSampler, open_patches, patch_loader


class _Exploding:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def _png(code, side=24):
    """A photo of one grey code: its patches tell which photo they are of."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (code, code, code)).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    """Three tar files of 5, 4 and 3 photos of one code each: 0-4, 50-53, 100-102; among other things."""
    pytest.importorskip("webdataset")
    for index, count in enumerate((5, 4, 3)):
        members = [(f"{k}.png", _png(50 * index + k)) for k in range(count)]
        members.insert(1, ("1.json", b"{}"))
        members.insert(2, ("1.pyd", pickle.dumps(_Exploding())))
        _write(tmp_path / f"{index:06d}.tar", members)
    return str(tmp_path / "{000000..000002}.tar")


def _stream(shards, tmp_path, **options):
    settings = {"patch": 16, "holdout": 2, "lanes": 4, "photos_per_shard": 3, "patches_per_photo": 2, "min_contrast": 0}
    config = DataConfig(root=shards, **(settings | options))
    return open_patches(config, 0, 8, held_out_dir=tmp_path / "held_out", report=print)


def _codes(stream, lane, count, place=0):
    return [int(patch[0, 0, 0]) for patch in islice(stream.lane(lane, place), count)]


def _batches(stream, first_step=0, steps=6, micro_batch=8, rank=0, world=1):
    options = {"first_step": first_step, "steps": steps, "micro_batch": micro_batch, "rank": rank, "world": world}
    return list(patch_loader(stream, **options))


def test_tar_files_are_told_from_folders(tmp_path):
    assert is_stream("a/{00..09}.tar") and is_stream("https://host/x.tar.gz") and not is_stream(str(tmp_path))
    (tmp_path / "x.tar").mkdir()
    assert not is_stream(str(tmp_path / "x.tar"))


def test_every_file_is_opened_once_an_epoch_and_gone_through(shards, tmp_path):
    stream = _stream(shards, tmp_path)
    # Openings of 3 photos, 2 patches each, on 4 lanes: 3 openings make an epoch.
    openings = [[_codes(stream, n % 4, 6, place=n // 4 * 6) for n in range(12)][k : k + 3] for k in range(0, 12, 3)]
    for epoch in openings:
        assert sorted({code // 50 for opening in epoch for code in opening}) == [0, 1, 2]
        assert all(opening[::2] == opening[1::2] for opening in epoch)
    # In its second turn a file goes on where it was left, round the end; the first two photos are held out.
    turns = [{opening[0] // 50: opening[::2] for opening in epoch} for epoch in openings]
    assert [turn[0] for turn in turns] == [[2, 3, 4]] * 4
    assert [turn[1] for turn in turns] == [[50, 51, 52], [53, 50, 51], [52, 53, 50], [51, 52, 53]]
    assert [turn[2] for turn in turns] == [[100, 101, 102]] * 4


def test_a_lane_can_be_entered_anywhere(shards, tmp_path):
    stream = _stream(shards, tmp_path)
    patches = list(islice(stream.lane(1, 0), 40))
    for place in (1, 2, 5, 6, 7, 23):
        entered = islice(_stream(shards, tmp_path).lane(1, place), 6)
        assert all(np.array_equal(a, b) for a, b in zip(patches[place:], entered, strict=False))


def test_unusable_photos_are_replaced_wherever_one_enters(tmp_path, caplog):
    pytest.importorskip("webdataset")
    codes = [10, 11, 12, None, 14, None, 16, 17]
    members = [(f"{k}.png", _png(code) if code else _png(0, side=8)) for k, code in enumerate(codes)]
    members[5] = ("5.png", members[5][1][:40])
    _write(tmp_path / "a.tar", members)
    stream = _stream(str(tmp_path / "a.tar"), tmp_path, photos_per_shard=6, holdout=1)
    whole = _codes(stream, 0, 12)
    # Member 3 is too small, member 5 is cut short: the next ones stand in for them.
    assert caplog.records[0].getMessage() == "left out, 1 so far: 3.png: 8 x 8, smaller than a patch"
    assert whole == [11, 11, 12, 12, 14, 14, 14, 14, 16, 16, 16, 16]
    assert [_codes(stream, 0, 12 - place, place=place) for place in range(12)] == [whole[place:] for place in range(12)]
    # Whoever enters late decodes nothing of what came before.
    caplog.clear()
    late = _stream(str(tmp_path / "a.tar"), tmp_path, photos_per_shard=6, holdout=1)
    assert _codes(late, 0, 2, place=10) == whole[10:] and not caplog.records


def test_samples_do_not_depend_on_processes_or_resuming(shards, tmp_path):
    whole = _batches(_stream(shards, tmp_path))
    assert len(whole) == 6 and whole[0]["x"].shape == (8, 3, 16, 16)
    resumed = _batches(_stream(shards, tmp_path), first_step=4)
    ranks = [_batches(_stream(shards, tmp_path), micro_batch=4, rank=rank, world=2) for rank in (0, 1)]
    accumulated = _batches(_stream(shards, tmp_path), micro_batch=2)
    for key in ("x", "noise", "quantile"):
        assert all(torch.equal(a[key], b[key]) for a, b in zip(whole[4:], resumed, strict=True))
        for step, batch in enumerate(whole):
            assert torch.equal(batch[key][0::2], ranks[0][step][key])
            assert torch.equal(batch[key][1::2], ranks[1][step][key])
            assert torch.equal(batch[key], torch.cat([part[key] for part in accumulated[4 * step : 4 * step + 4]]))
    assert torch.equal((whole[2]["quantile"] * 8).floor(), torch.arange(8.0))


def test_worker_processes_change_nothing(shards, tmp_path):
    plain, forked = _batches(_stream(shards, tmp_path)), _batches(_stream(shards, tmp_path, workers=2))
    assert len(plain) == len(forked) == 6
    assert all(torch.equal(a[key], b[key]) for a, b in zip(plain, forked, strict=True) for key in a)


def test_lanes_must_be_shared_equally(shards, tmp_path):
    stream = _stream(shards, tmp_path)
    with pytest.raises(ValueError, match="data.lanes=4 must be divisible by processes x data.workers = 3 x 1"):
        StreamLoader(stream, StepSampler(0, 2, 9, 0, 3), 3, 0)


def test_first_photos_are_held_out(shards, tmp_path):
    files = _stream(shards, tmp_path).held_out_files()
    assert [int(np.asarray(Image.open(file))[0, 0, 0]) for file in files] == [0, 1]
    assert files == find_photos(tmp_path / "held_out")


def test_copies_of_test_photos_are_passed_over(photos, tmp_path):
    pytest.importorskip("webdataset")
    files = find_photos(photos)
    _write(tmp_path / "a.tar", [(file.name, file.read_bytes()) for file in files])
    (tmp_path / "test").mkdir()
    with Image.open(files[3]) as image:
        image.convert("RGB").save(tmp_path / "test" / "copy.jpg", quality=80)
        copy = np.asarray(image.convert("RGB"))
    options = {"photos_per_shard": 4, "max_smoothness": None, "full_size": 1.0, "patches_per_photo": 1}
    plain = _stream(str(tmp_path / "a.tar"), tmp_path, **options)
    several = _stream(str(tmp_path / "a.tar"), tmp_path, **(options | {"patches_per_photo": 8}))
    assert len({patch.tobytes() for patch in islice(several.lane(0, 0), 8)}) == 8
    checked = _stream(str(tmp_path / "a.tar"), tmp_path, **options, exclude=[str(tmp_path / "test")])
    windows = np.lib.stride_tricks.sliding_window_view(copy, (16, 16, 3)).reshape(-1, 16, 16, 3)
    hits = [
        [bool((windows == patch).all((1, 2, 3)).any()) for patch in islice(stream.lane(0, 0), 4)]
        for stream in (plain, checked)
    ]
    assert hits == [[False, True, False, False], [False] * 4]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([], "expected photos besides those held out, got none"),
        ([(f"{k}.png", _png(5, side=8)) for k in range(300)], "expected photos to train on, got none among 1000"),
        (None, "expected a tar file of photos, got an error"),
    ],
)
def test_files_without_photos_are_named(tmp_path, members, expected):
    pytest.importorskip("webdataset")
    if members is not None:
        _write(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=f"a.tar: {expected}"):
        next(_stream(str(tmp_path / "a.tar"), tmp_path).lane(0, 0))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(ValueError, match=r"need the package webdataset: pip install 'scorefocus\[stream\]'"):
        PatchStream(DataConfig(root="a.tar"), 0, 8, tmp_path)
