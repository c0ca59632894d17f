"""What a run survives: damaged checkpoints, a full disk, other settings."""

import errno
import shutil

import pytest
import torch
from accelerate.state import AcceleratorState
from training_runs import assert_same_run, checkpoint, rewind, settings, weights

from diffusion import precision
from train import score
from train.run_state import newest_whole_checkpoint


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """A run that was never interrupted, with checkpoints at steps 6 and 8."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert score.main(settings(photos, folder)) == 0
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "run")


def _flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_damaged_newest_checkpoint_is_passed_over(whole, run, photos, capsys):
    newest = checkpoint(run, 8)
    _flip(newest / "model.safetensors")
    assert score.main(settings(photos, run)) == 0
    printed = capsys.readouterr()
    assert f"resuming from {checkpoint(run, 6)}" in printed.out
    assert f"warning: {newest / 'model.safetensors'} is not as it was written; it is passed over" in printed.err
    assert_same_run(run, whole)
    # It was written again.
    assert newest_whole_checkpoint(run) == (newest, [])


@pytest.mark.parametrize("damage", ["cut short", "missing file", "no sums", "empty sums"])
def test_every_damage_is_seen(run, damage):
    newest = checkpoint(run, 8)
    assert newest_whole_checkpoint(run) == (newest, [])
    if damage == "cut short":
        (newest / "optimizer.bin").write_bytes((newest / "optimizer.bin").read_bytes()[:-100])
    elif damage == "missing file":
        (newest / "custom_checkpoint_1.pkl").unlink()
    else:
        (newest / "SHA256SUMS").unlink() if damage == "no sums" else (newest / "SHA256SUMS").write_text("")
    found, damages = newest_whole_checkpoint(run)
    assert found == checkpoint(run, 6) and len(damages) == 1 and str(newest) in damages[0]


def test_only_damaged_checkpoints_are_an_error(run, photos, capsys):
    for step in (6, 8):
        _flip(checkpoint(run, step) / "optimizer.bin")
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    assert score.main(settings(photos, run)) == 1
    assert "got damaged ones only" in capsys.readouterr().err.splitlines()[-1]
    assert before == {file: file.stat().st_mtime_ns for file in run.rglob("*")}


@pytest.mark.parametrize("place", ["torch", "safetensors", "system"])
def test_full_disk_ends_the_run_and_keeps_the_last_checkpoint(whole, photos, tmp_path, capsys, monkeypatch, place):
    from accelerate import Accelerator
    from safetensors import SafetensorError

    run = tmp_path / "run"
    rewind(whole, run, 6)
    errors = {
        "torch": RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nmore"),
        "safetensors": SafetensorError("I/O error: No space left on device (os error 28)"),
        "system": OSError(errno.ENOSPC, "No space left on device"),
    }
    save_state = Accelerator.save_state

    def half(self, folder, **options):
        save_state(self, folder, **options)
        raise errors[place]

    monkeypatch.setattr(Accelerator, "save_state", half)
    assert score.main(settings(photos, run)) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"train/score.py: cannot write the checkpoint {checkpoint(run, 8)}: ")
    assert ("file write failed" if place == "torch" else "No space left on device") in message
    assert "MiB free)" in message and f"the last good one is {checkpoint(run, 6)}" in message
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000006"]
    # With room again, the run goes on as if nothing had happened.
    if place == "system":
        monkeypatch.undo()
        assert score.main(settings(photos, run)) == 0
        assert_same_run(run, whole)


def _disk_full_at_step_8(monkeypatch):
    from accelerate import Accelerator

    save_state = Accelerator.save_state

    def save(self, folder, **options):
        if "step_00000008" in folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_state(self, folder, **options)

    monkeypatch.setattr(Accelerator, "save_state", save)


def test_a_damaged_newer_checkpoint_takes_no_place_of_those_kept(whole, run, photos, capsys, monkeypatch):
    newest = checkpoint(run, 8)
    _flip(newest / "model.safetensors")
    command = settings(photos, run, "run.keep=1", "run.save_every=7")
    with monkeypatch.context() as patch:
        _disk_full_at_step_8(patch)
        assert score.main(command) == 1
    # That of step 7 is the only whole one; the damaged one is there until its step is done again.
    assert f"the last good one is {checkpoint(run, 7)}" in capsys.readouterr().err
    assert sorted((run / "checkpoints").iterdir()) == [checkpoint(run, 7), newest]
    assert newest_whole_checkpoint(run)[0] == checkpoint(run, 7)
    assert score.main(command) == 0
    assert_same_run(run, whole)
    assert list((run / "checkpoints").iterdir()) == [newest] and newest_whole_checkpoint(run) == (newest, [])


def test_a_damaged_older_checkpoint_takes_no_place_of_those_kept(photos, tmp_path):
    run = tmp_path / "run"
    assert score.main(settings(photos, run, "run.keep=9")) == 0
    shutil.rmtree(checkpoint(run, 8))
    _flip(checkpoint(run, 6) / "model.safetensors")
    # From step 3 on, past the damaged one of step 6, which is not written again.
    assert score.main(settings(photos, run, "run.keep=2", "run.save_every=4")) == 0
    assert sorted((run / "checkpoints").iterdir()) == [checkpoint(run, 4), checkpoint(run, 8)]


def test_run_goes_on_with_one_process_after_two(whole, run, photos, capsys):
    # A checkpoint of two processes holds the same, but for the random states, which nothing depends on.
    (checkpoint(run, 8) / "random_states_0.pkl").rename(checkpoint(run, 8) / "random_states_1.pkl")
    sums = checkpoint(run, 8) / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("random_states_0", "random_states_1"))
    assert score.main(settings(photos, run)) == 0
    assert f"resuming from {checkpoint(run, 8)}" in capsys.readouterr().out
    assert_same_run(run, whole)


def test_changed_settings_are_named_and_refused(whole, run, photos, capsys):
    before = (run / "config.yaml").read_text()
    # What is trained may not change by accident; how often things are written may.
    assert score.main(settings(photos, run, "optim.steps=10", "run.log_every=3", "optim.betas=[0.9,0.95]")) == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0 and message.startswith(f"train/score.py: {run} holds a run with other settings: ")
    assert "optim.steps was 8 and is now 10, optim.betas was [0.9, 0.99] and is now [0.9, 0.95];" in message
    assert "log_every" not in message and "--allow-changes" in message
    assert (run / "config.yaml").read_text() == before
    for harmless in ("run.log_every=3", "data.workers=1", "optim.accumulate=2", "run.keep=3", "averages.every=2"):
        assert score.main([*settings(photos, run, harmless), "--dry-run"]) == 0, harmless
    assert score.main([*settings(photos, run, "optim.steps=10"), "--allow-changes"]) == 0
    assert checkpoint(run, 10).is_dir() and "steps: 10" in (run / "config.yaml").read_text()
    assert not torch.equal(weights(run, 10)["weights.network.head.weight"],
                           weights(whole, 8)["weights.network.head.weight"])  # fmt: skip


def test_a_run_that_is_to_end_before_where_it_stands_is_refused(run, photos, capsys):
    before = (run / "config.yaml").read_text()
    assert score.main([*settings(photos, run, "optim.steps=7"), "--allow-changes"]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    expected = f"optim.steps must be at least 8, the step of {checkpoint(run, 8)}, got 7; "
    assert message.startswith(f"train/score.py: {expected}")
    assert (run / "config.yaml").read_text() == before


def test_a_checkpoint_of_another_network_is_said_to_be_one(run, photos, capsys):
    before = (run / "config.yaml").read_text()
    assert score.main([*settings(photos, run, "network.channels=[16,24]"), "--allow-changes"]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"train/score.py: cannot resume from {checkpoint(run, 8)}: expected a network and ")
    # The cause, not only the heading that torch gives it.
    assert "size mismatch for network." in message and "[24, " in message and len(message) < 800
    assert (run / "config.yaml").read_text() == before


def test_settings_of_older_and_newer_versions_are_compared(run, photos, capsys):
    text = (run / "config.yaml").read_text()
    # Once there was no weight decay, or its default; and what there was is unknown now.
    (run / "config.yaml").write_text(text.replace("  weight_decay: 0.001\n", ""))
    assert score.main(settings(photos, run)) == 0
    (run / "config.yaml").write_text(text.replace("  weight_decay: 0.001\n", "  momentum: 0.8\n"))
    assert score.main(settings(photos, run, "optim.weight_decay=0.01")) == 2
    message = capsys.readouterr().err
    assert "optim.weight_decay was 0.001 and is now 0.01" in message
    assert "optim.momentum was 0.8 and is unknown now" in message
    # Once there was one optimizer; whoever had no choice had that one, and none takes the state of the other.
    (run / "config.yaml").write_text(text.replace("  optimizer: adamw\n", ""))
    assert score.main(settings(photos, run)) == 0
    assert score.main([*settings(photos, run, "optim.optimizer=muon"), "--allow-changes"]) == 2
    assert "cannot go on: optim.optimizer was adamw and is now muon" in capsys.readouterr().err
    (run / "config.yaml").write_text("a: [")
    assert score.main(settings(photos, run)) == 1
    assert "config.yaml: expected the settings of the run in YAML" in capsys.readouterr().err


def test_a_run_keeps_the_precision_that_its_device_had(photos, tmp_path, capsys, monkeypatch):
    automatic = settings(photos, tmp_path / "run", "run.precision=auto")
    monkeypatch.setattr(precision, "computes_in_bf16", lambda device: False)
    assert score.main(automatic) == 0 and ", in fp32\n" in capsys.readouterr().out
    assert "precision: fp32" in (tmp_path / "run" / "config.yaml").read_text()
    # Each as in a process of its own.
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(precision, "computes_in_bf16", lambda device: True)
    assert score.main(automatic) == 2
    assert "run.precision was fp32 and is now bf16" in capsys.readouterr().err
    AcceleratorState._reset_state(reset_partial_state=True)
    assert score.main([*automatic, "run.precision=fp32"]) == 0
