"""Training runs that are killed, shared by two processes, or launched by Accelerate.

The runs take eight steps of four samples from six photos: they pass the end of the photos several times.
"""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
from training_runs import PROJECT, SMOKE, checkpoint, log_lines, settings, weights

from train import score

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

# Arguments: folder of tests, photos, folder for the runs of two processes, run of two processes that was killed,
# settings of all runs.
TWO_PROCESSES = """
import json, os, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from train import score
sys.path.insert(0, sys.argv[1])
from training_runs import settings

photos, folder, killed, common = sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5:]
rank = os.environ["RANK"]

def end_training(self):
    # A process cannot leave and join its group again and again: all runs share one. What each has is kept.
    averages = self._custom_objects[1]
    torch.save([averages.step, averages.averages], folder / f"averages_{rank}.pt")

Accelerator.end_training = end_training
for name in ("whole", "accumulated"):
    options = ["optim.accumulate=2"] if name == "accumulated" else []
    assert score.main(settings(photos, folder / name, "run.log_every=1", *common, *options)) == 0
assert score.main(settings(photos, killed, "run.log_every=1", *common)) == 0
assert score.main([*settings(photos, killed, *common, "optim.batch=5", "optim.accumulate=1"), "--dry-run"]) == 1
(folder / f"modules_{rank}.json").write_text(json.dumps(sorted(sys.modules)))
"""


def _environment():
    return os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(torch.get_num_threads())}


@pytest.fixture(scope="module", params=["adamw", "muon", "adamw, bf16, accumulated"])
def common(request):
    """Settings of all runs."""
    optimizer, *others = request.param.split(", ")
    return [f"optim.optimizer={optimizer}", *(["run.precision=bf16", "optim.accumulate=2"] if others else [])]


@pytest.fixture(scope="module")
def whole(photos, common, tmp_path_factory):
    """A run of one process that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert score.main(settings(photos, folder, "run.log_every=1", *common)) == 0
    return folder


def _killed(launcher, photos, folder, common):
    """Starts a run, kills it with all its processes after the checkpoint of step 3, and returns its folder."""
    # Steps slow enough to be killed between two of them: the panel draws pictures at each.
    options = settings(photos, folder, "run.log_every=1", "run.panel_every=1", "run.samples=16", *common)
    process = subprocess.Popen(
        [*launcher, str(PROJECT / "train" / "score.py"), *options], env=_environment(), stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 240
        while not checkpoint(folder, 3).exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        # The launcher first, lest it ends the others more gently.
        workers = psutil.Process(process.pid).children(recursive=True)
        for one in (process, *workers):
            one.kill()
        process.communicate()
        psutil.wait_procs(workers)
    assert not checkpoint(folder, 8).exists()
    return folder


def _losses(folder):
    return [line for line in log_lines(folder) if "loss" in line]


def test_a_killed_run_resumes(whole, common, photos, tmp_path):
    run = _killed([sys.executable], photos, tmp_path / "killed", common)
    assert score.main(settings(photos, run, "run.log_every=1", *common)) == 0
    ours, theirs = weights(run, 8), weights(whole, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert _losses(run) == _losses(whole)


def test_two_processes_train_as_one_does_and_resume_when_killed(whole, common, photos, tmp_path):
    both, accumulated = tmp_path / "whole", tmp_path / "accumulated"
    killed = _killed(TORCHRUN, photos, tmp_path / "killed", common)
    script = tmp_path / "two_processes.py"
    script.write_text(TWO_PROCESSES)
    arguments = [PROJECT / "tests", photos, tmp_path, killed, *common]
    done = subprocess.run(
        [*TORCHRUN, str(script), *map(str, arguments)], env=_environment(), capture_output=True, timeout=400
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    ours, theirs = weights(both, 8), weights(killed, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert _losses(both) == _losses(killed)

    # One process with a batch of four, two with two each, and two with one each in turn do the same.
    # A network in bfloat16 makes more of a last digit.
    half = "run.precision=bf16" in common
    tolerance = 2e-3 if half else 2e-5
    for other in (both, accumulated):
        ours, theirs = weights(other, 8), weights(whole, 8)
        for name in theirs:
            if name.startswith(("weights", "average")):
                torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=tolerance)
        for mine, its in zip(_losses(other), _losses(whole), strict=True):
            # The learning rate follows optimizer steps, whatever the number of processes.
            assert mine["lr"] == its["lr"]
            assert mine == pytest.approx(its, rel=1e-3 if half else 1e-4)
        assert _losses(other)[0]["loss"] == pytest.approx(_losses(whole)[0]["loss"], rel=1e-6)

    # Every process has the same averages, bit for bit.
    (steps, first), (others, second) = (torch.load(tmp_path / f"averages_{rank}.pt") for rank in (0, 1))
    assert steps == others == 8
    assert all(torch.equal(a, b) for one, other in zip(first, second, strict=True)
               for a, b in zip(one, other, strict=True))  # fmt: skip
    assert b"optim.batch=5 must be divisible by processes x optim.accumulate = 2 x 1" in done.stderr
    assert "wandb" not in json.loads((tmp_path / "modules_0.json").read_text())


def test_accelerate_launches_the_smoke_run(photos, tmp_path):
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(PROJECT / "configs/accelerate/cpu.yaml")]
    script = str(PROJECT / "train" / "score.py")
    options = [f"data.root={photos}", f"run.dir={tmp_path / 'run'}", "run.probe_every=0"]
    command = [sys.executable, *launcher, script, SMOKE, *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if "loss" in line]
    assert losses[-1] < 0.93 * losses[0]
    assert (tmp_path / "run" / "export" / "model_index.json").is_file()
