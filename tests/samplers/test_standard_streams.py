import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = """
import sys
from samplers.standard_streams import run_command

def main():
    for number in range(5):
        print(number, "*" * 5000, flush=True)
        print("progress", file=sys.stderr)
    with open(sys.argv[1], "w") as done:
        done.write("all")
    if len(sys.argv) > 2:
        sys.exit(int(sys.argv[2]))
    return 0

run_command(main)
"""


def _run(done, *arguments, **streams):
    process = subprocess.Popen([sys.executable, "-c", COMMAND, done, *arguments], cwd=PROJECT, text=True, **streams)
    _, errors = process.communicate(timeout=120)
    # Whatever became of what it prints, the work is done.
    assert done.read_text() == "all"
    return process.returncode, errors


@pytest.mark.parametrize("codes", [(), ("3",)])
def test_nothing_changes_where_all_can_be_written(tmp_path, codes):
    with (tmp_path / "out").open("w") as out:
        code, errors = _run(tmp_path / "done", *codes, stdout=out, stderr=subprocess.PIPE)
    assert code == int(*codes)
    assert errors == "progress\n" * 5
    assert [line.split()[0] for line in (tmp_path / "out").read_text().splitlines()] == list("01234")


def test_a_pipe_that_is_closed_early_stops_nothing(tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        assert _run(tmp_path / "done", stdout=write, stderr=subprocess.PIPE) == (0, "progress\n" * 5)
        assert _run(tmp_path / "done", "3", stdout=write, stderr=write)[0] == 3
    finally:
        os.close(write)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_and_stops_nothing(tmp_path):
    with open("/dev/full", "w") as full:
        code, errors = _run(tmp_path / "done", stdout=full, stderr=subprocess.PIPE)
        assert code == 1
        expected = "-c: standard output: expected to write to it, got: No space left on device\n"
        assert errors == "progress\n" * 5 + expected
        assert _run(tmp_path / "done", "3", stdout=full, stderr=full)[0] == 3


@pytest.mark.skipif(os.name == "nt", reason="descriptors are those of POSIX")
def test_streams_that_were_never_open_stop_nothing(tmp_path):
    done = tmp_path / "done"
    words = [sys.executable, "-c", COMMAND, str(done)]
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *words], cwd=PROJECT, timeout=120)
    assert closed.returncode == 0 and done.read_text() == "all"


def test_an_interrupt_that_a_command_does_not_see_is_one_line():
    command = "from samplers.standard_streams import *\ndef main(): raise KeyboardInterrupt\nrun_command(main)"
    done = subprocess.run([sys.executable, "-c", command], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "-c: interrupted\n")
