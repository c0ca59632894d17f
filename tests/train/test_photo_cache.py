"""The cache of decoded photos: the same pixels, whole files, one writer at a time."""

import json
import multiprocessing
import os
import pickle
import time

import numpy as np
import pytest
import torch
from PIL import Image

from photos import PhotoError, find_photos
from train import photo_cache
from train.data_config import DataConfig
from train.duplicates import fingerprint
from train.photo_cache import CachedPhotos, PhotosInMemory, fill_cache, read_rgb
from train.sharp_photos import SharpPatches, open_patches


def _sizes(files):
    return {file: (48, 48) for file in files}


def _fill(folder, files, reports):
    fill_cache(_sizes(files), folder, 0, reports.append)


def _fill_in_a_process(files, folder, queue):
    reports = []
    fill_cache(_sizes(files), folder, 0, reports.append)
    queue.put((reports, sum(int(photo.sum()) for photo in CachedPhotos(files, folder))))


def test_cached_photos_are_the_decoded_ones(photos, tmp_path):
    files, reports = find_photos(photos), []
    _fill(tmp_path / "cache", files, reports)
    cached = CachedPhotos(files, tmp_path / "cache")
    assert len(cached) == len(files)
    for file, photo, print_ in zip(files, cached, cached.fingerprints(), strict=True):
        assert np.array_equal(photo, read_rgb(file)) and print_ == fingerprint(photo)
        assert not photo.flags.writeable
    assert reports == [f"decoding 8 photos (0.00 GiB) into {tmp_path / 'cache'}"]
    assert not list((tmp_path / "cache").glob("*.part"))
    # For workers that are spawned.
    assert np.array_equal(pickle.loads(pickle.dumps(cached))[3], cached[3])


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_are_the_same_with_and_without_cache(photos, tmp_path, workers):
    (tmp_path / "all").mkdir()
    for file in find_photos(photos):
        os.link(file, tmp_path / "all" / file.name)
    # Begins like a photo, and is only found damaged when it is decoded.
    whole = (tmp_path / "all" / "3.png").read_bytes()
    (tmp_path / "all" / "3.png").unlink()
    (tmp_path / "all" / "3.png").write_bytes(whole[: len(whole) // 2])
    common = {"root": str(tmp_path / "all"), "patch": 16, "holdout": 2}
    reports = []
    options = {"held_out_dir": tmp_path / "held", "report": reports.append}
    plain = open_patches(DataConfig(**common, cache_gib=0.0), 5, 4, **options)
    assert reports == []
    cached = open_patches(DataConfig(**common, cache=str(tmp_path / "cache"), workers=workers), 5, 4, **options)
    assert len(reports) == 2 and reports[1].startswith("left out, 1 of 8: cannot be decoded") and "3.png" in reports[1]
    for number in range(40):
        ours, theirs = cached[number], plain[number]
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_later_runs_decode_what_is_new_or_changed(photos, tmp_path, monkeypatch):
    files = []
    for file in find_photos(photos)[:4]:
        files.append(tmp_path / file.name)
        os.link(file, files[-1])
    files[1].unlink()
    Image.new("RGB", (48, 48), (7, 8, 9)).save(files[1])
    os.utime(files[1], ns=(10**18, 10**18))
    size = files[1].stat().st_size
    folder, reports, decoded = tmp_path / "cache", [], []
    monkeypatch.setattr(photo_cache, "read_rgb", lambda file: decoded.append(file) or read_rgb(file))
    _fill(folder, files[:3], reports)
    _fill(folder, files[:3], reports)
    assert decoded == files[:3] and len(reports) == 1
    Image.new("RGB", (48, 48), (9, 8, 7)).save(files[1])
    assert files[1].stat().st_size == size
    _fill(folder, files, reports)
    assert decoded[3:] == [files[1], files[3]]
    assert CachedPhotos(files, folder)[1][0, 0].tolist() == [9, 8, 7]
    with pytest.raises(ValueError, match="expected .* among the cached photos"):
        CachedPhotos([find_photos(photos)[5]], folder)


def test_shards_have_a_size(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(photo_cache, "_SHARD_BYTES", 3 * 48 * 48 * 3)
    files = find_photos(photos)
    _fill(tmp_path, files, [])
    assert [file.stat().st_size for file in sorted(tmp_path.glob("*.bin"))] == [20736, 20736, 13824]
    cached = CachedPhotos(files, tmp_path)
    assert all(np.array_equal(cached[n], read_rgb(file)) for n, file in enumerate(files))


def test_interrupted_writing_is_done_again(photos, tmp_path):
    files = find_photos(photos)
    _fill(tmp_path, files, [])
    shard, index = tmp_path / "photos_000000.bin", tmp_path / "photos_000000.json"
    # Killed between pixels and index; or a disk that lost the end of the pixels.
    index.rename(tmp_path / "kept")
    (tmp_path / ".photos_000000.bin.1234.part").write_bytes(b"half")
    _fill(tmp_path, files, [])
    assert json.loads(index.read_text())["bytes"] == shard.stat().st_size and not list(tmp_path.glob(".*.part"))
    with shard.open("r+b") as out:
        out.truncate(100)
    _fill(tmp_path, files, [])
    cached = CachedPhotos(files, tmp_path)
    assert all(np.array_equal(cached[n], read_rgb(file)) for n, file in enumerate(files))


def test_processes_that_start_together_decode_once(photos, tmp_path, monkeypatch):
    # Slow enough for all of them to find the folder empty.
    monkeypatch.setattr(photo_cache, "read_rgb", lambda file: time.sleep(0.05) or read_rgb(file))
    context, files = multiprocessing.get_context("fork"), find_photos(photos)
    queue = context.Queue()
    processes = [context.Process(target=_fill_in_a_process, args=(files, tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(len(reports) for reports, _ in results) == [0, 0, 1]
    assert {total for _, total in results} == {sum(int(read_rgb(file).sum()) for file in files)}


def test_a_full_disk_is_said_before_decoding(photos, tmp_path):
    files = find_photos(photos)
    with pytest.raises(ValueError, match="expected .* MiB for decoded photos, got .* MiB of free space"):
        fill_cache({file: (10**7, 10**7) for file in files}, tmp_path, 0, print)
    assert not list(tmp_path.glob("photos_*"))


def test_a_damaged_photo_is_decoded_and_named_once(tmp_path, photos, caplog):
    (tmp_path / "text.jpg").write_text("not a photo")
    kept = PhotosInMemory([*find_photos(photos)[:1], tmp_path / "text.jpg"], 1.0)
    for _ in range(3):
        with pytest.raises(PhotoError, match="text.jpg"):
            kept[1]
    assert [record.getMessage()[:24] for record in caplog.records] == ["left out, 1 so far: " + str(tmp_path)[:4]]
    assert kept[0] is kept[0]


def test_a_sample_without_any_photo_names_the_last(tmp_path):
    (tmp_path / "text.jpg").write_text("not a photo")
    patches = SharpPatches([tmp_path / "text.jpg"], DataConfig(root="", patch=16), 0, 4)
    with pytest.raises(PhotoError, match="text.jpg"):
        patches[0]
