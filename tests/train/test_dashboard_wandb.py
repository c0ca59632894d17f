"""The dashboard at Weights & Biases has the panels of the page."""

import json
import subprocess
import time

import psutil
import pytest
import wandb

from train import dashboard
from train.dashboard_panels import PANELS, Chart, Pictures
from train.run_log import read_run


@pytest.fixture(autouse=True)
def no_service():
    """Gently ends W&B's process that other tests began: what is tested here kills it, which Python's end would note."""
    wandb.teardown()


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.jsonl").write_text('{"step": 5, "loss": 0.5}\n')
    (folder / "wandb.json").write_text('{"id": "abc", "group": "run-abc"}')
    return folder


def test_workspace_has_the_same_panels(run):
    from train.dashboard_wandb import build_workspace

    workspace = build_workspace("project", "someone", [read_run(run)])
    figures, pictures = (section.panels for section in workspace.sections)
    expected = [(p.title, [key for key, _ in p.curves], p.log_scale) for p in PANELS if isinstance(p, Chart)]
    assert [(plot.title, list(plot.y), plot.log_y) for plot in figures] == expected
    assert {plot.x for plot in figures} == {"step"}
    names = [panel.name for panel in PANELS if isinstance(panel, Pictures)]
    assert [name for browser in pictures for name in browser.media_keys] == names
    assert "run-abc" in json.dumps(workspace._to_model().model_dump(by_alias=True, mode="json"))


def test_no_account_is_said_in_one_sentence(run, capsys, monkeypatch):

    def refuse(*arguments, **options):
        raise wandb.errors.UsageError("No API key configured.\nmore")

    monkeypatch.setattr(wandb, "Api", refuse)
    assert dashboard.main([str(run), "--wandb", "project"]) == 1
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and "wandb login" in message[0] and "No API key configured;" in message[0]


def test_nothing_is_left_that_goes_on_trying(run, tmp_path, monkeypatch):
    # W&B's own process, which ends by itself only when it has reached its server.
    for name in ("wandb-core", "other"):
        (tmp_path / name).write_text("#!/bin/sh\nread forever\n")
        (tmp_path / name).chmod(0o755)
    processes = []

    def unreachable():
        processes.extend(subprocess.Popen([tmp_path / name], stdin=subprocess.PIPE) for name in ("wandb-core", "other"))
        # Until both are what they are called.
        while {psutil.Process(process.pid).name() for process in processes} != {"wandb-core", "other"}:
            time.sleep(0.01)
        raise wandb.errors.CommError("no answer")

    monkeypatch.setattr(wandb, "Api", unreachable)
    try:
        assert dashboard.main([str(run), "--wandb", "project"]) == 1
        assert processes[0].wait(timeout=60) == -9
        assert processes[1].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_run_that_was_never_at_wandb_is_named(run, capsys):
    (run / "wandb.json").unlink()
    assert dashboard.main([str(run), "--wandb", "project"]) == 1
    assert f"{run}: expected a run with wandb.json" in capsys.readouterr().err
    assert not (run / "wandb.json").exists()


def test_missing_package_is_named(run, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces", None)
    assert dashboard.main([str(run), "--wandb", "project"]) == 1
    assert "scorefocus[dashboard]" in capsys.readouterr().err


def test_options_that_would_be_ignored_are_errors(run, capsys):
    for options in (["--entity", "me"], ["--wandb", "p", "-o", "page.html"], ["--wandb", "p", "--link"]):
        with pytest.raises(SystemExit) as exit_:
            dashboard.main([str(run), *options])
        assert exit_.value.code == 2
