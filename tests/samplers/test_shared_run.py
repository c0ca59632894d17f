"""Processes that a launcher started share a folder: the files of one process, each photo once, whoever dies."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from command_line import files
from PIL import Image

import samplers.deblur
import samplers.launch
from samplers.batch_run import stoppable
from samplers.chosen_method import UsageError
from samplers.crew import Crew
from samplers.launch import Launch
from samplers.pipeline import Restoration

SCRIPT = samplers.deblur.__file__


@pytest.fixture
def folder(codes, tmp_path):
    """Six photos in a tree."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for number in range(6):
        picture = np.roll(codes, number, axis=1)[: 30 + number]
        Image.fromarray(picture).save(folder / ("deep" if number % 2 else ".") / f"{number}.png")
    return folder


class Brightening:
    """A method that takes no time; but the processes of some ranks are at their first photo for ever."""

    stuck = ()

    def __call__(self, image, radius_map, callback=None, confidence=None):
        time.sleep(300 if os.environ["RANK"] in self.stuck else 0.03)
        return Restoration((1.1 * image).clamp(max=1), *self.estimate_map(image), 0.01, 0)

    def estimate_map(self, image):
        return torch.full((1, 1, *image.shape[-2:]), 1.5), torch.full((1, 1, *image.shape[-2:]), 0.5)


class Launcher:
    """Starts copies of this process, which need no second to import, as launchers start processes."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start(self, rank, *arguments, world=2):
        process = multiprocessing.get_context("fork").Process(target=self._run, args=(rank, world, arguments))
        process.start()
        self.processes.append(process)
        return process

    def _run(self, rank, world, arguments):
        # Threads do not survive a fork, and whoever waits for them waits for ever.
        torch.set_num_threads(1)
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        code = 1
        try:
            code = samplers.deblur.main([*map(str, arguments), "--method", "tv", "--no-report", "--quiet"])
        except SystemExit as end:
            code = end.code
        finally:
            sys.stdout.flush()
            os._exit(code)

    def codes(self):
        for process in self.processes:
            process.join(60)
        return [process.exitcode for process in self.processes]

    def lines(self, name):
        return (self.folder / name).read_text().splitlines() if (self.folder / name).exists() else []


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    monkeypatch.setattr(samplers.deblur, "make_method", lambda *_: (Brightening(), torch.device("cpu"), {}))
    monkeypatch.setattr(samplers.launch, "_SPEAKING_SECONDS", 0.2)
    launcher = Launcher(tmp_path)
    yield launcher
    for process in launcher.processes:
        process.kill()


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def hidden(out):
    return [name for name in files(out) if any(part.startswith(".") for part in name.split("/"))]


def statuses(out):
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert Counter(row["status"] for row in summary["photos"]) == summary["counts"]
    return summary["counts"]


def test_accelerate_splits_a_folder_without_changing_a_byte(folder, tmp_path, capfd):
    (folder / "text.jpg").write_text("no photo")
    ones, twos = tmp_path / "1" / "out", tmp_path / "2" / "out"
    assert samplers.deblur.main([str(folder), "-o", str(ones), "--method", "tv", "--device", "cpu"]) == 6
    one = capfd.readouterr()
    # Without a GPU, too, --multi_gpu starts several processes; --cpu would start one.
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    two = subprocess.run(
        [*launcher, SCRIPT, str(folder), "-o", str(twos), "--method", "tv"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert two.returncode != 0 and "exitcode  : 6" in two.stderr, two.stderr
    assert files(ones) == files(twos) and len(files(ones)) == 1 + 6 * 5 + 2
    for name in files(ones):
        if name not in ("deep", "summary.json"):
            assert (ones / name).read_bytes() == (twos / name).read_bytes(), name
    ours, theirs = (json.loads((out / "summary.json").read_text("utf-8")) for out in (ones, twos))
    for row in (*ours["photos"], *theirs["photos"]):
        row["seconds"] = None
    assert ours == theirs and ours["counts"] == {"done": 6, "failed": 1}
    assert sorted(one.out.replace(str(ones), str(twos)).splitlines()) == sorted(two.stdout.splitlines())
    # What one process says is said once, in whole lines, among what the launcher says.
    for line in one.err.splitlines():
        timeless = re.sub(r" +[0-9.]+( s)?$", "", line)
        assert len(re.findall(f"^{re.escape(timeless)}( +[0-9.]+( s)?)?$", two.stderr, re.MULTILINE)) == 1, line


def test_what_a_killed_process_leaves_is_done_by_the_others(launcher, folder, out, monkeypatch):
    monkeypatch.setattr(Brightening, "stuck", ("1",))
    killed = launcher.start(1, folder, "-o", out, world=3)
    until(lambda: len(list(out.glob(".processes.part/*.photo"))) == 1)
    for rank in (0, 2):
        launcher.start(rank, folder, "-o", out, world=3)
    until(lambda: len(launcher.lines("stdout")) == 15)
    time.sleep(0.3)  # The others wait for the sixth, which is not theirs.
    assert all(process.is_alive() for process in launcher.processes)
    os.kill(killed.pid, signal.SIGKILL)
    assert launcher.codes() == [-signal.SIGKILL, 0, 0]
    assert len(launcher.lines("stdout")) == len(set(launcher.lines("stdout"))) == 18
    assert launcher.lines("stderr") == [] and hidden(out) == []
    assert statuses(out) == {"done": 6}


def test_what_a_process_finished_before_it_died_is_not_done_again(launcher, folder, out, monkeypatch):
    note = Crew.note

    def die(crew, result, row):
        if crew.launch.rank == 1:
            until((crew.folder / "rank-0").exists)
            os.kill(os.getpid(), signal.SIGKILL)
        note(crew, result, row)

    monkeypatch.setattr(Crew, "note", die)
    for rank in (1, 0):
        launcher.start(rank, folder, "-o", out)
        until(lambda: len(launcher.lines("stdout")) >= 3)
    assert launcher.codes() == [-signal.SIGKILL, 0]
    assert len(launcher.lines("stdout")) == 18 and launcher.lines("stderr") == []
    assert statuses(out) == {"done": 5, "kept": 1} and hidden(out) == []


def test_no_process_ends_before_the_last_has_come(launcher, folder, out):
    first = launcher.start(0, folder, "-o", out)
    until(lambda: len(launcher.lines("stdout")) == 18)
    first.join(0.3)
    assert first.is_alive()
    launcher.start(1, folder, "-o", out)
    assert launcher.codes() == [0, 0]
    assert len(launcher.lines("stdout")) == 18 and launcher.lines("stderr") == []
    assert statuses(out) == {"done": 6} and hidden(out) == []
    # Whole batches are resumed, and refused without that, as by one process.
    for rank in (0, 1):
        launcher.start(rank, folder, "-o", out, "--resume")
    assert launcher.codes()[2:] == [0, 0] and statuses(out) == {"kept": 6}
    for rank in (0, 1):
        launcher.start(rank, folder, "-o", out)
    assert launcher.codes()[4:] == [6, 6] and statuses(out) == {"kept": 6}
    assert len(launcher.lines("stderr")) == 6 and len(launcher.lines("stdout")) == 18


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_processes_leave_what_is_finished(launcher, folder, out, monkeypatch, number):
    monkeypatch.setattr(Brightening, "stuck", ("1",))
    for rank in (1, 0):
        launcher.start(rank, folder, "-o", out)
        until(lambda: len(list(out.glob(".processes.part/*.photo"))) >= 1)
    until(lambda: len(launcher.lines("stdout")) == 15)
    for process in launcher.processes:
        for _ in range(2):  # The terminal's request and the launcher's.
            os.kill(process.pid, number)
    assert launcher.codes() == [130, 130]
    assert launcher.lines("stderr") == ["deblur.py: interrupted"]
    assert hidden(out) == [] and statuses(out) == {"done": 5, "open": 1}


def test_an_interrupt_before_the_note_loses_nothing(launcher, folder, out, monkeypatch):
    note, interrupted = Crew.note, []

    def interrupt_once(crew, result, row):
        if crew.launch.rank == 1 and not interrupted:
            until((crew.folder / "rank-0").exists)
            interrupted.append(result)
            raise KeyboardInterrupt
        note(crew, result, row)

    monkeypatch.setattr(Crew, "note", interrupt_once)
    for rank in (1, 0):
        launcher.start(rank, folder, "-o", out)
        until(lambda: len(launcher.lines("stdout")) >= 3)
    assert launcher.codes() == [130, 0]
    assert launcher.lines("stderr") == ["deblur.py: interrupted"]
    assert hidden(out) == [] and statuses(out) == {"done": 6}


def test_a_process_that_cannot_begin_stops_no_other(launcher, folder, out, monkeypatch):
    broken = {"1"}

    def make_method(choice):
        if os.environ["RANK"] in broken:
            raise UsageError("--device: expected a device of this machine, got another one")
        return Brightening(), torch.device("cpu"), {}

    monkeypatch.setattr(samplers.deblur, "make_method", make_method)
    for rank in (1, 0):
        launcher.start(rank, folder, "-o", out)
    assert launcher.codes() == [2, 0]
    assert len(launcher.lines("stderr")) == 1 and statuses(out) == {"done": 6}
    broken.add("0")
    for rank in (1, 0):
        launcher.start(rank, folder, "-o", f"{out}/of/nothing")
    assert launcher.codes()[2:] == [2, 2]
    assert len(launcher.lines("stderr")) == 2 and not (out / "of").exists()


def test_the_first_to_know_all_sums_up(out):
    crew = [Crew(Launch(rank, 2), out) for rank in (0, 1)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(Crew.wait, crew))
    # A launcher may end the others as soon as one has gone.
    summing = []
    for member in crew:
        with member.leaving() as sums_up:
            summing.append(sums_up)
    assert summing == [True, False] and not out.exists()


def test_one_request_to_stop_is_enough():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stoppable(once=True):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)  # The launcher's, after the terminal's.
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_one_process_speaks_of_the_command_line(launcher, folder, out):
    for rank in (0, 1):
        launcher.start(rank, folder, "-o", out, "--strength", "2")
        launcher.start(rank, folder, "-o", folder)
        launcher.start(rank, folder)
        launcher.start(rank, "--help")
    assert launcher.codes() == [2, 2, 2, 0] * 2
    errors = launcher.lines("stderr")
    assert len(errors) == 3 and all(line.startswith("deblur.py: ") for line in errors)
    assert sum(line.startswith("usage:") for line in launcher.lines("stdout")) == 1
    assert not out.exists()


def test_every_process_has_its_own_gpu():
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    launch = Launch.of(told)
    assert launch == Launch(5, 8, 1, 4) and not launch.alone
    assert [launch.device(gpus) for gpus in (0, 1, 2, 4)] == ["cpu", "cuda:0", "cuda:1", "cuda:1"]
    assert Launch.of(told | {"ACCELERATE_USE_CPU": "true"}).device(4) == "cpu"
    # Clusters tell single processes a part of it.
    for lacking in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        alone = Launch.of({name: value for name, value in told.items() if name != lacking})
        assert alone == Launch() and alone.alone and alone.device(4) == "cuda" and alone.device(0) == "cpu"


def test_another_command_in_the_folder_is_named(launcher, folder, out):
    held = Crew(Launch(0, 2), out)
    launcher.start(0, folder, "-o", out)
    assert launcher.codes() == [3]
    told = f"deblur.py: {out}: expected to be the only command at work in this folder, got another one"
    assert launcher.lines("stderr") == [told]
    with held.leaving():
        pass
    assert not out.exists()
