"""A run's folder belongs to one launch at a time, and to the photos that the run began with."""

import gc
import os
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock, Timeout
from PIL import Image
from training_runs import assert_same_run, log_lines, settings

from samplers.config import ConfigError
from train import loop, run_folder, score
from train.run_folder import PHOTO_LIST, check_photos, listed, lock_run, write_photos
from train.tracking import Tracker

HOLDS = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own_photos(photos, tmp_path):
    """A copy of the photos, to be changed."""
    return shutil.copytree(photos, tmp_path / "photos")


@pytest.fixture
def run(own_photos, tmp_path):
    """A run of eight steps, complete."""
    folder = tmp_path / "run"
    assert score.main(settings(own_photos, folder)) == 0
    return folder


def _state(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}


def test_a_second_launch_is_refused_while_the_first_one_runs(run, own_photos, capsys, monkeypatch):
    monkeypatch.setattr(run_folder, "_SECONDS", 0.1)
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    before = _state(run)
    try:
        assert first.stdout.readline() == b"locked\n"
        assert score.main([*settings(own_photos, run, "optim.steps=9"), "--allow-changes"]) == 2
    finally:
        first.kill()
        first.communicate()
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"train/score.py: {run}: expected a run that is not running, got one that ")
    assert _state(run) == before
    # The system lets go of what a killed process held.
    assert score.main([*settings(own_photos, run, "optim.steps=9"), "--allow-changes"]) == 0
    assert log_lines(run)[-1]["step"] == 9


def test_a_run_keeps_its_folder_as_long_as_it_lasts(photos, tmp_path, monkeypatch):
    refused, scalars = [], Tracker.scalars

    def attempt(self, step, values):
        gc.collect()
        with pytest.raises(Timeout):
            FileLock(tmp_path / "run" / ".lock").acquire(timeout=0)
        refused.append(step)
        scalars(self, step, values)

    monkeypatch.setattr(Tracker, "scalars", attempt)
    assert score.main(settings(photos, tmp_path / "run")) == 0
    assert refused[0] == 2 and refused[-1] == 8


def test_one_process_may_run_it_again(tmp_path):
    first, second = lock_run(tmp_path / "run"), lock_run(tmp_path / "run")
    assert first.is_locked and second.is_locked


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "replaced by one of its size"])
def test_other_photos_are_named_and_refused(run, own_photos, capsys, change):
    files = sorted(own_photos.iterdir())
    listed = [line.split("\t")[-1] for line in (run / PHOTO_LIST).read_text().splitlines()]
    trained_on = next(file for file in files if file.as_posix() in listed)
    if change == "added":
        shutil.copy(trained_on, own_photos / f"0{trained_on.suffix}")
    elif change == "removed":
        trained_on.unlink()
    elif change == "replaced":
        with Image.open(trained_on) as image:
            image.transpose(Image.Transpose.TRANSPOSE).save(trained_on, compress_level=0)
    else:
        content = bytearray(trained_on.read_bytes())
        content[-30] ^= 1
        trained_on.write_bytes(content)
    before = _state(run)
    for mode in ([], ["--dry-run"]):
        assert score.main([*settings(own_photos, run), *mode]) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith(f"train/score.py: {run} holds a run with other photos: {len(listed)} before, ")
        assert str(own_photos) in message and "--allow-changes" in message
        assert _state(run) == before
    if "size" not in change:
        assert score.main([*settings(own_photos, run, "optim.steps=9"), "--allow-changes"]) == 0
        assert (run / PHOTO_LIST).read_text() != before[run / PHOTO_LIST].decode()
        assert score.main(settings(own_photos, run, "optim.steps=9")) == 0


def test_runs_of_before_there_was_a_list_go_on(run, own_photos, tmp_path):
    old = shutil.copytree(run, tmp_path / "old")
    (old / PHOTO_LIST).unlink()
    assert score.main(settings(own_photos, old)) == 0
    assert_same_run(old, run)
    assert (old / PHOTO_LIST).read_text() == (run / PHOTO_LIST).read_text()


def test_what_another_launch_began_meanwhile_is_compared_too(run, own_photos, tmp_path, capsys, monkeypatch):
    # A launch that saw an empty folder, and waited for the lock until another had made the run.
    late = tmp_path / "late"
    monkeypatch.setattr(loop, "lock_run", lambda folder: shutil.copytree(run, folder))
    assert score.main(settings(own_photos, late, "optim.betas=[0.9,0.95]")) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{late} holds a run with other settings: optim.betas was [0.9, 0.99]" in message
    shutil.rmtree(late)
    (own_photos / "0.png").write_bytes(next(own_photos.iterdir()).read_bytes())
    assert score.main(settings(own_photos, late)) == 2
    assert f"{late} holds a run with other photos" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_large_photo_is_known_by_its_ends(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(100_000))
    write_photos(tmp_path, listed([file]))
    for place in (0, 99_999):
        content = bytearray(100_000)
        content[place] = 1
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="1 before, 1 now"):
            check_photos(tmp_path, listed([file]))
    file.write_bytes(bytes(100_000))
    check_photos(tmp_path, listed([file]))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("name", [b"caf\xe9.png", "a\u2028b.png".encode(), b"a\nb.png", b"a\rb.png"])
def test_names_of_photos_need_not_be_text(tmp_path, name):
    file = tmp_path / os.fsdecode(name)
    file.write_bytes(b"photo")
    write_photos(tmp_path, listed([file]))
    check_photos(tmp_path, listed([file]))
    file.write_bytes(b"other")
    with pytest.raises(ConfigError, match="1 before, 1 now"):
        check_photos(tmp_path, listed([file]))


def test_photos_are_compared_by_place_and_content(tmp_path):
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_bytes(file.name.encode())
    check_photos(tmp_path, listed(files))
    write_photos(tmp_path, listed(files))
    check_photos(tmp_path, listed(files))
    for others, first in ((files[1:], "b"), (files[:2], "c"), (files[::-1], "c")):
        with pytest.raises(ConfigError, match=rf"3 before, {len(others)} now, .* is {tmp_path / first};"):
            check_photos(tmp_path, listed(others))
    files[1].write_bytes(b"longer")
    with pytest.raises(ConfigError, match=rf"3 before, 3 now, .* is {files[1]};"):
        check_photos(tmp_path, listed(files))
    (tmp_path / PHOTO_LIST).unlink()
    (tmp_path / PHOTO_LIST).mkdir()
    with pytest.raises(ValueError, match="expected the photos of the run"):
        check_photos(tmp_path, listed(files))
