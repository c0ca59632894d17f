"""Training runs that are killed, shared by two processes, or launched by Accelerate."""

import os
import subprocess
import sys
import time

import pytest
import torch
from training_runs import PROJECT, SMOKE, assert_same_run, checkpoint, log_lines, settings, weights

from train import score

TWO_RUNS = """
import json, os, sys, time
from pathlib import Path
from accelerate import Accelerator
from train import score
sys.path.insert(0, sys.argv[1])
from training_runs import rewind, settings

# A process cannot leave and join its group again and again: all runs share one.
Accelerator.end_training = lambda self: None
photos, whole, resumed = sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
assert score.main(settings(photos, whole)) == 0
if os.environ["RANK"] == "0":
    rewind(whole, resumed, 6)
    (resumed / "ready").touch()
while not (resumed / "ready").exists():
    time.sleep(0.05)
assert score.main(settings(photos, resumed)) == 0
assert score.main([*settings(photos, resumed, "optim.batch=5"), "--dry-run"]) == 1
(whole / f"modules_{os.environ['RANK']}.json").write_text(json.dumps(sorted(sys.modules)))
"""


def _environment():
    return os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(torch.get_num_threads())}


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert score.main(settings(photos, folder)) == 0
    return folder


def test_a_killed_run_resumes(whole, photos, tmp_path):
    run = tmp_path / "killed"
    # Steps slow enough to be killed between two of them: the panel draws pictures at each.
    command = settings(photos, run, "run.panel_every=1", "run.samples=64")
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "train" / "score.py"), *command], env=_environment(), stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 120
        while not checkpoint(run, 3).exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert not checkpoint(run, 8).exists()
    assert score.main(settings(photos, run)) == 0
    ours, theirs = weights(run, 8), weights(whole, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    losses = [[line for line in log_lines(folder) if "loss" in line] for folder in (run, whole)]
    assert losses[0] == losses[1]


def test_two_processes_train_as_one_does_and_resume_bitwise(whole, photos, tmp_path):
    both, resumed = tmp_path / "both", tmp_path / "resumed"
    script = tmp_path / "two_runs.py"
    script.write_text(TWO_RUNS)
    arguments = [str(PROJECT / "tests"), str(photos), str(both), str(resumed)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *arguments], env=_environment(), capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert_same_run(both, resumed)
    ours, theirs = weights(both, 8), weights(whole, 8)
    for name in theirs:
        if name.startswith(("weights", "average")):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-5)
    # The learning rate follows optimizer steps, whatever the number of processes.
    for mine, its in zip(log_lines(both), log_lines(whole), strict=True):
        assert mine == pytest.approx(its, rel=1e-3)
    assert b"optim.batch=5 must be divisible by processes x optim.accumulate = 2 x 1" in done.stderr
    assert '"wandb"' not in (both / "modules_0.json").read_text()


def test_accelerate_launches_the_smoke_run(photos, tmp_path):
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(PROJECT / "configs/accelerate/cpu.yaml")]
    script = str(PROJECT / "train" / "score.py")
    command = [sys.executable, *launcher, script, SMOKE, f"data.root={photos}", f"run.dir={tmp_path / 'run'}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if "loss" in line]
    assert losses[-1] < 0.93 * losses[0]
    assert (tmp_path / "run" / "export" / "model_index.json").is_file()
