"""Photos that cannot be used are named once and counted, over all who meet them."""

import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys

import pytest
from training_runs import PROJECT, settings

from photos import find_photos
from train import left_out
from train.left_out import LeftOut
from train.photo_choice import split_holdout


def _messages(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("shared", [False, True])
def test_a_photo_is_named_once(tmp_path, caplog, shared):
    listed = LeftOut(tmp_path / "list.txt" if shared else None)
    for reason in ("a.png: damaged", "b.png: small", "a.png: damaged"):
        listed.add(reason)
    assert _messages(caplog) == ["left out, 1 so far: a.png: damaged", "left out, 2 so far: b.png: small"]
    listed.forget()
    listed.add("b.png: small")
    assert _messages(caplog)[2:] == ["left out, 1 so far: b.png: small"]
    if shared:
        assert listed.path.read_text() == "b.png: small\n"


def test_names_need_not_be_text(tmp_path, monkeypatch):
    counts = []
    # What pytest keeps of a log has to be text.
    monkeypatch.setattr(left_out._log, "warning", lambda text, count, reason: counts.append(count))
    for name in ("caf\udce9.png", "a\u2028b.png", "a\nb.png"):
        for _ in range(2):
            LeftOut(tmp_path / "list.txt").add(f"{name}: damaged")
    assert counts == [1, 2, 3]


def test_many_are_counted_rather_than_named(tmp_path, caplog):
    ours, theirs = LeftOut(tmp_path / "list.txt"), LeftOut(tmp_path / "list.txt")
    for number in range(150):
        (ours if number % 3 else theirs).add(f"{number}.png: größer")
    named = [*range(10), 99]
    assert _messages(caplog) == [f"left out, {number + 1} so far: {number}.png: größer" for number in named]
    assert len(ours.path.read_text(encoding="utf-8").splitlines()) == 150


def _add(path, together, queue):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("train.left_out").addHandler(handler)
    listed = LeftOut(path)
    together.wait()
    for number in range(300):
        listed.add(f"{number}: damaged")
    queue.put(said)


def test_processes_count_together(tmp_path):
    context = multiprocessing.get_context("fork")
    queue, together = context.Queue(), context.Barrier(4)
    processes = [context.Process(target=_add, args=(tmp_path / "list.txt", together, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    said = sum((queue.get(timeout=60) for _ in processes), [])
    for process in processes:
        process.join()
    assert sorted(int(line.split()[2]) for line in said) == [*range(1, 11), 100]
    assert (tmp_path / "list.txt").read_text().splitlines() == [f"{number}: damaged" for number in range(300)]


def test_processes_of_a_run_and_their_workers_name_a_damaged_photo_once(photos, tmp_path):
    folder, run = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(photos, folder)
    # So many that all four workers draw each of them.
    damaged = split_holdout(find_photos(folder), 2)[0][:3]
    for file in damaged:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    options = settings(folder, run, "data.holdout=2", "data.workers=2", "optim.batch=64")
    # What the launch before left out is no concern of this one.
    run.mkdir()
    (run / "left_out.txt").write_text(f"{damaged[0]}: of another launch\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(PROJECT / "train" / "score.py"), *options], capture_output=True, text=True, timeout=300,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    listed = (run / "left_out.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in listed) == sorted(map(str, damaged))
    # A progress bar may stand on the same line.
    said = re.findall("left out, .*", done.stderr)
    assert sorted(said) == [f"left out, {number} so far: {line}" for number, line in enumerate(listed, 1)]
