"""What two processes of a run say when one of them fails: its error, once and by the main one."""

import os
import socket
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader, Dataset
from training_runs import PROJECT, checkpoint

from photos import PhotoError
from train.processes import ends

# Arguments: folder of tests, photos, folder of the run, who fails and where.
FAILING = """
import errno, os, sys
sys.path.insert(0, sys.argv[1])
from accelerate import Accelerator
from samplers import launch
from train import score
from train.tracking import Tracker
from training_runs import settings

photos, folder, who, where = sys.argv[2:]
# Without a launcher nobody ends them while they wait; with one, a slow machine may take its time.
launch._SPEAKING_SECONDS = 60 if who == "launched" else 3
save_state = Accelerator.save_state

def save(self, place, **options):
    save_state(self, place, **options)
    if "step_00000006" in place:
        raise OSError(errno.ENOSPC, "No space left on device")

def scalars(self, step, values):
    if step > 3:
        raise OSError("cannot write the log")

if os.environ["RANK"] == who and where == "checkpoint":
    Accelerator.save_state = save
elif os.environ["RANK"] == who and where == "log":
    Tracker.scalars = scalars
sys.exit(score.main(settings(photos, folder)))
"""


def _two_processes(script, *arguments):
    """Exit codes and error output of both, without progress bars."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }  # fmt: skip
    command = [sys.executable, str(script), str(PROJECT / "tests"), *map(str, arguments)]
    processes = [
        subprocess.Popen(command, env=environment | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE)
        for rank in ("0", "1")
    ]
    try:
        errors = [process.communicate(timeout=240)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    # Progress bars begin anew after a carriage return, and what is said has a line of its own.
    said = [[line for line in error.splitlines() if line.startswith("train/") or "Error" in line] for error in errors]
    return [process.returncode for process in processes], said


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "failing.py"
    file.write_text(FAILING)
    return file


def test_a_full_disk_of_one_is_told_once(script, photos, tmp_path):
    run = tmp_path / "run"
    codes, (main, other) = _two_processes(script, photos, run, "1", "checkpoint")
    assert codes == [1, 1]
    assert len(main) == 1 and other == []
    assert main[0].startswith(f"train/score.py: cannot write the checkpoint {checkpoint(run, 6)}: No space left on ")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000003"]


def test_a_process_whose_main_one_has_ended_says_so(script, photos, tmp_path):
    run = tmp_path / "run"
    codes, (main, other) = _two_processes(script, photos, run, "0", "log")
    assert codes == [1, 1]
    assert main == ["train/score.py: cannot write the log"]
    assert other == ["train/score.py: another process of this run has ended, and this one with it"]


def test_a_run_that_cannot_go_on_is_told_once(script, photos, tmp_path):
    run = tmp_path / "run"
    checkpoint(run, 3).mkdir(parents=True)
    codes, (main, other) = _two_processes(script, photos, run, "nobody", "nowhere")
    assert codes == [1, 1]
    assert len(main) == 1 and other == [] and f"{run / 'config.yaml'}: expected the settings of the run" in main[0]


def test_an_error_of_all_is_told_by_the_main_one(script, tmp_path):
    (tmp_path / "none").mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = [script, PROJECT / "tests", tmp_path / "none", tmp_path / "run", "launched", "nowhere"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *map(str, arguments)], env=environment, capture_output=True, timeout=240)
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if line.startswith("train/score.py")]
    assert len(said) == 1 and str(tmp_path / "none") in said[0]


class _Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise PhotoError("a.png: expected a photo, got: something else")


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_data_workers_are_told_in_their_own_words(workers):
    with pytest.raises(PhotoError) as caught:
        next(iter(DataLoader(_Broken(), num_workers=workers)))
    # PyTorch gives the whole traceback for a message.
    assert ("Traceback" in str(caught.value)) is (workers > 0)
    assert ends(caught.value) == "a.png: expected a photo, got: something else"
