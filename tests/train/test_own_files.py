"""A run leaves alone what is not its own, and names what is damaged."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from training_runs import PROJECT, checkpoint, settings

from train import average, latent_prior, score
from train.photo_cache import CachedPhotos, fill_cache


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert score.main(settings(photos, folder, "averages.every=4")) == 0
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of a finished run, to be changed."""
    return shutil.copytree(whole, tmp_path / "run")


def _refused(capsys, command, code, *words, main=score.main):
    capsys.readouterr()
    assert main(command) == code
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(str(word) in message for word in words), message


def test_copies_of_checkpoints_and_snapshots_are_nobodys_business(run, photos):
    place, averages = run / "checkpoints", run / "averages"
    shutil.copytree(checkpoint(run, 8), place / "step_00000008_best")
    (place / "step_00000009.tar").touch()
    (place / "mine.part").mkdir()
    shutil.copy(averages / "step_00000008.safetensors", averages / "step_00000012 (copy).safetensors")
    shutil.rmtree(checkpoint(run, 8))
    before = {file.name for file in [*place.iterdir(), *averages.iterdir()]}
    # From the step before, not from a copy.
    assert score.main(settings(photos, run, "averages.every=4")) == 0
    assert {file.name for file in [*place.iterdir(), *averages.iterdir()]} == before | {"step_00000008"}


def test_an_export_without_checkpoints_is_kept(run, photos, capsys):
    shutil.rmtree(run / "checkpoints")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != ".lock"}
    _refused(capsys, settings(photos, run, "optim.steps=2"), 2, run, "got one with an export and without checkpoints")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != ".lock"} == before


def test_a_run_among_its_photos_is_refused(photos, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "photos")
    _refused(capsys, settings(folder, folder / "runs" / "1"), 2, "run.dir=", "expected a folder outside of data.root=")
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("content", ["", "[1]", "optim: 5", "network: [1]"])
def test_damaged_settings_of_a_run_are_named(run, photos, capsys, content):
    (run / "config.yaml").write_text(content)
    _refused(capsys, settings(photos, run), 1, run / "config.yaml", "expected the settings of the run")


def test_a_log_with_bytes_that_are_no_text_goes_on(run, photos):
    log, lines = run / "log.jsonl", (run / "log.jsonl").read_bytes()
    log.write_bytes(b'\xff{"step": 1}\n' + lines)
    shutil.rmtree(checkpoint(run, 8))
    assert score.main(settings(photos, run, "averages.every=4")) == 0
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()][-1] == 8


def test_snapshots_of_another_network_are_named(run, photos, tmp_path, capsys):
    command = [str(run), "--length", "0.07", "-o", str(tmp_path / "out")]
    assert score.main(settings(photos, tmp_path / "other", "network.channels=[8,8]", "averages.every=4")) == 0
    other = tmp_path / "other" / "averages" / "step_00000004.safetensors"
    kept = shutil.copy(run / "averages" / "step_00000004.safetensors", tmp_path)
    shutil.copy(other, run / "averages")
    _refused(capsys, command, 1, "step_00000008.safetensors: expected parameters as in", main=average.main)
    shutil.copy(kept, run / "averages")
    shutil.copy(tmp_path / "other" / "config.yaml", run)
    _refused(capsys, command, 1, f"{run}: expected snapshots of the network in config.yaml", main=average.main)
    assert not (tmp_path / "out").exists()


def test_an_index_of_the_cache_that_is_damaged_does_not_count(photos, tmp_path):
    files = {file: (48, 48) for file in sorted(photos.rglob("*.png"))}
    for name, content in (("0", "{}"), ("1", "[]"), ("2", ""), ("copy", "{}")):
        (tmp_path / f"photos_{name}.json").write_text(content)
    fill_cache(files, tmp_path, 0, lambda line: None)
    assert len(CachedPhotos(list(files), tmp_path)) == 8 and (tmp_path / "photos_000003.bin").exists()


def test_pairs_alone_need_pairs(photos, tmp_path, capsys):
    command = [f"data.root={photos}", f"run.dir={tmp_path / 'run'}", "pairs_share=1"]
    _refused(capsys, command, 2, "pairs_share must be below 1 unless pairs names a folder", main=latent_prior.main)


def test_an_interrupt_is_one_sentence(photos, tmp_path):
    command = settings(photos, tmp_path / "run", "optim.steps=100000", "run.log_every=1")
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "train" / "score.py"), *command], stderr=subprocess.PIPE, text=True,
        # A shell lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not checkpoint(tmp_path / "run", 3).exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in errors
    assert errors.splitlines()[-1].endswith(
        "train/score.py: interrupted; the same command goes on from the newest checkpoint"
    )
