"""The tracker: Weights & Biases may fail at any call, the JSON lines are whole, resumed runs stay one run."""

import json
import sys
import types

import numpy as np
import pytest

from train.config import DataConfig, RunConfig, ScoreConfig
from train.tracking import Tracker


class _Wandb(types.ModuleType):
    """Stands in for the package: remembers what it is told, and raises where it is asked to."""

    def __init__(self, fails=(), summary=None):
        super().__init__("wandb")
        self.fails, self.summary, self.started, self.logged, self.artifacts = set(fails), summary, [], [], []
        self.Settings = lambda **values: values

    def _maybe(self, name):
        if name in self.fails:
            raise ConnectionError(f"no network for {name}\nsecond line")

    def init(self, **arguments):
        self._maybe("init")
        self._maybe(f"init-{arguments['mode']}")
        self.started.append(arguments)
        run = types.SimpleNamespace(
            log=self._log, define_metric=lambda *a, **k: None, finish=lambda: self._maybe("finish"),
            group=arguments["group"], log_artifact=self._log_artifact, summary=self.summary or {},
            resumed=self.summary is not None,
        )  # fmt: skip
        return run

    def _log(self, values):
        self._maybe("log")
        self.logged.append(values)

    def Image(self, pixels):  # noqa: N802 - as the package names it
        self._maybe("Image")
        return pixels.shape

    def Artifact(self, name, type, metadata):  # noqa: N802
        self._maybe("Artifact")
        return types.SimpleNamespace(name=name, metadata=metadata, add_dir=lambda folder: self._maybe("add_dir"))

    def _log_artifact(self, artifact, aliases):
        self.artifacts.append((artifact.name, aliases))


@pytest.fixture
def wandb(monkeypatch):
    def use(**arguments):
        module = _Wandb(**arguments)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module

    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    return use


def _config(folder, **run):
    folder.mkdir(exist_ok=True)
    return ScoreConfig(data=DataConfig(root="photos"), run=RunConfig(dir=str(folder), **run))


def _run(config, first=0, last=4):
    """What a training run tells its tracker."""
    tracker = Tracker(config, first, writes=True)
    for step in range(first + 1, last + 1):
        tracker.scalars(step, {"loss": 1 / step})
        tracker.picture(step, "samples", np.zeros((4, 4, 3), np.uint8))
        if tracker.wants_weights(final=step == last):
            tracker.weights(step, tracker._dir, final=step == last)
    tracker.close()
    return tracker


def _lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("call", ["init", "log", "Image", "Artifact", "add_dir", "finish", None])
def test_a_failing_wandb_is_told_once_and_costs_nothing(wandb, tmp_path, capsys, mode, call):
    wandb(fails={call})
    _run(_config(tmp_path / "run", wandb=mode))
    assert _lines(tmp_path / "run") == [{"step": step, "loss": 1 / step} for step in range(1, 5)]
    assert len(list((tmp_path / "run" / "panels").iterdir())) == 4
    errors = capsys.readouterr().err.splitlines()
    silent = call is None or (mode == "offline" and call in ("Artifact", "add_dir"))
    assert len(errors) == (0 if silent else 1)
    if errors:
        assert f"no network for {call}" in errors[0] and "training goes on" in errors[0]


def test_a_missing_wandb_does_not_stop_training(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    _run(_config(tmp_path / "run", wandb="online"))
    assert len(_lines(tmp_path / "run")) == 4 and len(capsys.readouterr().err.splitlines()) == 1


def test_unreachable_wandb_is_written_offline(wandb, tmp_path, capsys):
    module = wandb(fails={"init-online"})
    tracker = _run(_config(tmp_path / "run", wandb="online"))
    assert [start["mode"] for start in module.started] == ["offline"] and len(module.logged) == 8
    assert "`wandb sync`" in capsys.readouterr().err
    assert not module.artifacts and not tracker.wants_weights(final=True)


def test_online_runs_resume_and_repeat_no_step(wandb, tmp_path):
    config = _config(tmp_path / "run", wandb="online")
    first = wandb()
    _run(config, last=6)
    # Interrupted after step 6, resumed from a checkpoint of step 3.
    second = wandb(summary={"step": 6})
    _run(config, first=3, last=8)
    assert first.started[0]["id"] == second.started[0]["id"] and second.started[0]["resume"] == "allow"
    assert first.started[0]["group"] == second.started[0]["group"]
    # Step 6 again, for its pictures may be missing; figures and pictures of each.
    assert [values["step"] for values in second.logged] == [6, 6, 7, 7, 8, 8]
    assert [line["step"] for line in _lines(tmp_path / "run")] == list(range(1, 9))
    # Another run in a folder of the same name is another group.
    (tmp_path / "elsewhere").mkdir()
    third = wandb()
    _run(_config(tmp_path / "elsewhere" / "run", wandb="online"))
    assert third.started[0]["group"] != first.started[0]["group"]


def test_offline_segments_share_a_group(wandb, tmp_path):
    config = _config(tmp_path / "run")
    first, second = wandb(), None
    _run(config)
    second = wandb()
    _run(config, first=2)
    starts = [first.started[0], second.started[0]]
    assert starts[0]["group"] == starts[1]["group"] and "id" not in starts[0]
    assert [start["name"] for start in starts] == ["run-from-0", "run-from-2"]


def test_the_agent_of_a_sweep_names_the_run(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "chosen")
    module = wandb()
    _run(_config(tmp_path / "run", wandb="online"))
    assert module.started[0]["id"] == "chosen"


@pytest.mark.parametrize(("mode", "artifacts", "steps"), [
    ("online", "final", [4]), ("online", "checkpoints", [1, 2, 3, 4]), ("online", "none", []),
    ("offline", "checkpoints", []),
])  # fmt: skip
def test_weights_become_artifacts_online(wandb, tmp_path, mode, artifacts, steps):
    module = wandb()
    _run(_config(tmp_path / "run", wandb=mode, artifacts=artifacts))
    assert [aliases[1] for _, aliases in module.artifacts] == [f"step-{step}" for step in steps]
    assert all(("final" in aliases) == (aliases[1] == "step-4") for _, aliases in module.artifacts)


def test_lines_beyond_the_checkpoint_and_broken_ones_are_dropped(tmp_path, capsys):
    config = _config(tmp_path / "run", wandb="disabled")
    log = tmp_path / "run" / "log.jsonl"
    log.write_text('{"step": 2, "loss": 1}\n{"step": 4, "loss": 2}\n[1]\n{"loss": 3}\n{"step": 6, "lo')
    before = log.read_text()
    Tracker(config, 3, writes=True).scalars(4, {"loss": 5.0})
    assert _lines(tmp_path / "run") == [{"step": 2, "loss": 1}, {"step": 4, "loss": 5.0}]
    # The last one is that of a killed run; the others nobody cut short.
    expected = f"warning: {log}: 2 lines from 3 on cannot be read; passed over, and kept in log.jsonl.damaged\n"
    assert capsys.readouterr().err == expected
    assert (tmp_path / "run" / "log.jsonl.damaged").read_text() == before


def test_a_last_line_that_was_cut_short_is_dropped_without_a_word(tmp_path, capsys):
    config = _config(tmp_path / "run", wandb="disabled")
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 2, "loss": 1}\n{"step": 3, "lo')
    Tracker(config, 2, writes=True)
    assert _lines(tmp_path / "run") == [{"step": 2, "loss": 1}]
    assert capsys.readouterr().err == "" and not (tmp_path / "run" / "log.jsonl.damaged").exists()


def test_other_processes_write_nothing(tmp_path):
    Tracker(_config(tmp_path / "run"), 0, writes=False).scalars(1, {"loss": 1.0})
    assert not list((tmp_path / "run").iterdir())
