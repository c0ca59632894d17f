"""Sweeps on this machine: which runs are made of a file, that finished ones are skipped, and how they are ranked."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from samplers.config import load_config
from train import sweep
from train.config import ScoreConfig
from train.sweep_plan import read_sweep

PROJECT = Path(sweep.__file__).resolve().parent.parent

# Stands in for a training: notes that it ran, and logs figures that follow from its settings.
FAKE = """
import json, sys
from pathlib import Path
settings = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = Path(settings["run.dir"])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
(folder / "calls.from").write_text(str(Path.cwd()))
if settings["optim.lr"] == "0.1" and not (folder / "mended").exists():
    sys.exit(3)
value = -abs(float(settings["optim.lr"]) - 0.02) * int(settings["optim.batch"])
(folder / "log.jsonl").write_text('{"step": 7, "psnr": -9}\\n' + json.dumps({"step": 9, "psnr": value}) + "\\n")
"""


@pytest.fixture
def lr(tmp_path):
    """A grid of six runs, two of which fail."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    file = tmp_path / "sweep.yaml"
    file.write_text(f"""
program: {script}
method: grid
metric: {{name: psnr, goal: maximize}}
parameters:
  optim.lr: {{values: [0.01, 0.03, 0.1]}}
  optim.batch: {{values: [1, 4]}}
  optim.steps: {{value: 9}}
command: ["${{interpreter}}", "${{program}}", "run.dir=${{oc.env:NOWHERE}}", "${{args_no_hyphens}}"]
""")
    return file


def _calls(folder):
    return {f.parent.name: len(f.read_text().splitlines()) for f in sorted(folder.glob("*/calls"))}


def test_folders_are_those_of_the_caller_and_scripts_those_of_the_project(lr, tmp_path, monkeypatch):
    lr.write_text(lr.read_text().replace('"run.dir=${oc.env:NOWHERE}"', '"configs/score/small.yaml"'))
    monkeypatch.chdir(tmp_path)
    assert sweep.main([lr.name, "run.dir=runs", "data.root=photos"]) == 1
    words = json.loads((tmp_path / "runs" / "lr=0.01,batch=1" / "calls").read_text())
    assert words[0] == str(PROJECT / "configs" / "score" / "small.yaml") and "data.root=photos" in words
    assert (tmp_path / "runs" / "lr=0.01,batch=1" / "calls.from").read_text() == str(tmp_path)


def test_grid_is_run_ranked_and_taken_up_again(lr, tmp_path, capfd):
    root = tmp_path / "runs"
    command = [str(lr), f"run.dir={root}", "data.root=a b"]
    assert sweep.main(command) == 1
    names = [f"lr={rate},batch={batch}" for rate in (0.01, 0.03, 0.1) for batch in (1, 4)]
    assert _calls(root) == dict.fromkeys(sorted(names), 1)
    words = json.loads((root / names[0] / "calls").read_text())
    assert words == [
        "run.dir=${oc.env:NOWHERE}", "optim.steps=9", "optim.lr=0.01", "optim.batch=1",
        "run.wandb=offline", "data.root=a b", f"run.dir={root / names[0]}",
    ]  # fmt: skip
    results = json.loads((root / "results.json").read_text())
    values = [run["value"] for run in results["runs"]]
    assert values == pytest.approx([-0.01, -0.01, -0.04, -0.04, None, None])
    assert [run["status"] for run in results["runs"]] == ["finished"] * 4 + ["failed"] * 2
    assert results["constants"] == {"optim.steps": 9} and results["runs"][0]["steps"] == 9
    table = (root / "results.md").read_text().splitlines()
    assert table[2] == "| optim.lr | optim.batch | psnr | steps | seconds | status |" and len(table) == 10
    assert table[4].startswith(("| 0.01 | 1 | -0.01 | 9 |", "| 0.03 | 1 | -0.01 | 9 |"))
    # Only what failed is run again.
    for name in names[4:]:
        (root / name / "mended").touch()
    assert sweep.main(command) == 0
    assert _calls(root) == {name: 2 if name.startswith("lr=0.1,") else 1 for name in sorted(names)}
    assert "skipped, finished before" in capfd.readouterr().out
    # Another command is no finished run.
    assert sweep.main([str(lr), f"run.dir={root}", "data.root=other"]) == 0
    assert min(_calls(root).values()) == 2


def test_dry_run_prints_and_does_nothing(lr, tmp_path, capsys):
    assert sweep.main([str(lr), f"run.dir={tmp_path / 'runs'}", "--dry-run", "--count", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and printed[1].startswith(f"[2/2] {sys.executable}") and "optim.batch=4" in printed[1]
    assert not (tmp_path / "runs").exists()


def test_random_draws_follow_their_distributions(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("""
method: random
run_cap: 4000
metric: {name: loss}
parameters:
  a: {min: -3.0, max: -1.0}
  b: {min: 1, max: 3}
  c: {distribution: log_uniform_values, min: 0.001, max: 0.1}
  d: {distribution: normal, mu: 5, sigma: 2}
  e: {values: [x, y], probabilities: [0.9, 0.1]}
  f: {values: [true, false]}
""")
    plan = read_sweep(file)
    draws = {key: [run[key] for run in plan.combinations] for key in "abcdef"}
    assert len(plan.combinations) == 4000 and not plan.maximize
    # Three standard errors of a mean of 4000.
    assert np.mean(draws["a"]) == pytest.approx(-2, abs=0.03) and min(draws["a"]) >= -3 and max(draws["a"]) <= -1
    assert [draws["b"].count(value) / 4000 for value in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.025)
    assert np.mean(np.log10(draws["c"])) == pytest.approx(-2, abs=0.03)
    assert np.mean(draws["d"]) == pytest.approx(5, abs=0.1) and np.std(draws["d"]) == pytest.approx(2, abs=0.1)
    assert draws["e"].count("y") / 4000 == pytest.approx(0.1, abs=0.015)
    assert draws["f"].count(True) / 4000 == pytest.approx(0.5, abs=0.025)
    # A longer sweep begins with the same runs; another seed draws others.
    assert read_sweep(file, count=3).combinations == plan.combinations[:3]
    assert read_sweep(file, count=3, seed=1).combinations != plan.combinations[:3]
    assert math.isclose(plan.combinations[0]["a"], float(f"{plan.combinations[0]['a']:.4g}"))


@pytest.mark.parametrize("file", sorted((PROJECT / "configs" / "sweeps").glob("*.yaml")), ids=lambda file: file.stem)
def test_sweeps_of_the_project_fit_its_settings(file, monkeypatch):
    plan = read_sweep(file)
    assert len(plan.combinations) >= 4
    monkeypatch.setenv("PHOTOS", "photos")
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    for combination in plan.combinations:
        words = plan.words(combination)
        assert words[:3] == ["/usr/bin/env", sys.executable, "train/score.py"]
        config = load_config(ScoreConfig, PROJECT / words[3], words[4:])
        assert config.run.dir == "runs/sweeps/abc" and config.data.root == "photos" and config.optim.steps == 2000
        assert config.run.probe_every and plan.maximize
    assert len({sweep.folder_name(combination) for combination in plan.combinations}) == len(plan.combinations)


def test_folder_names_are_plain():
    assert sweep.folder_name({"a.b": "x/../y", "c.b": 1e-4}) == "a.b=x-..-y,c.b=0.0001"
    assert sweep.folder_name({}) == "run"


@pytest.mark.parametrize(("change", "expected"), [
    ("method: bayes", "expected method grid or random (bayes needs the server of W&B), got bayes"),
    ("early_terminate: {type: hyperband}", "got early_terminate"),
    ("metric: {goal: maximize}", "expected a metric with name and goal"),
    ("metric: loss", "expected a metric with name and goal (maximize or minimize), got loss"),
    ("parameters: {a: {min: 1, max: 2}}", "parameter a: a grid needs value or values"),
    ("parameters: {a: {value: 1, nested: {}}}", "parameter a: expected keys among"),
    ("method: random", "expected run_cap"),
    ("method: random\nparameters: {a: {distribution: beta}}", "parameter a: expected a distribution among uniform"),
    ("method: random\nparameters: {a: {distribution: uniform, min: 0}}", "needs a number for max"),
    ("method: random\nparameters: {a: {min: 0, max: .inf}}", "parameter a: the distribution uniform needs a number"),
    ("method: random\nparameters: {a: {min: -1.0e308, max: 1.0e308}}", "parameter a: "),
    ("method: random\nparameters: {a: {min: 2.5, max: 1}}", "needs a min of at most max, got 2.5 and 1"),
    ("method: random\nparameters: {a: {distribution: log_uniform_values, min: -1, max: 1}}",
     "parameter a: the distribution log_uniform_values needs a min above 0, got -1"),
    ("method: random\nparameters: {a: {distribution: int_uniform, min: 0.5, max: 2}}", "whole numbers, got 0.5 and 2"),
    ("method: random\nparameters: {a: {distribution: normal, mu: 0, sigma: -1}}", "sigma that is not negative, got -1"),
    ("method: random\nparameters: {a: {values: [1, 2], probabilities: [0.5, 0.6]}}",
     "parameter a: expected probabilities of 2 values that sum to 1, got [0.5, 0.6]"),
    ("method: random\nparameters: {a: {values: [1, 2], probabilities: [1]}}", "probabilities of 2 values"),
    ("method: random\nparameters: {a: {values: [1, 2], probabilities: [2, -1]}}", "sum to 1, got [2, -1]"),
])  # fmt: skip
def test_what_cannot_be_done_here_is_refused(tmp_path, capsys, change, expected):
    base = {"method": "grid", "metric": "{name: loss}", "parameters": "{a: {values: [1, 2]}}"}
    changed = dict(line.split(": ", 1) for line in change.splitlines())
    file = tmp_path / "sweep.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in (base | changed).items()))
    assert sweep.main([str(file), f"run.dir={tmp_path / 'runs'}"]) == 1
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and message[0].startswith(f"train/sweep.py: {file}: ") and expected in message[0]


def test_usage_errors(lr, tmp_path, capsys):
    wrong = [[], ["run.dir"], ["run.dir=x", "--count", "0"], ["run.dir=x", "--seed", "-1"]]
    for arguments in ([str(lr), *words] for words in wrong):
        with pytest.raises(SystemExit) as exit_:
            sweep.main(arguments)
        assert exit_.value.code == 2
    assert sweep.main([str(lr), "run.dir=x", "optim.lr=1"]) == 1
    assert "optim.lr is a parameter of" in capsys.readouterr().err
    assert sweep.main([str(tmp_path / "none.yaml"), "run.dir=x"]) == 1
    assert "cannot read the sweep" in capsys.readouterr().err


def test_runs_of_one_folder_are_refused(lr, tmp_path, capsys):
    lr.write_text(lr.read_text().replace("optim.batch: {values: [1, 4]}", "data.root: {values: [a/b, a-b]}"))
    assert sweep.main([str(lr), f"run.dir={tmp_path / 'runs'}"]) == 1
    assert "expected runs whose folders differ, got two called lr=0.01,root=a-b" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_figure_of_a_failed_run_is_none(lr, tmp_path):
    root = tmp_path / "runs"
    folder = root / "lr=0.1,batch=1"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text('{"step": 9, "psnr": 99}\n')
    assert sweep.main([str(lr), f"run.dir={root}"]) == 1
    results = {row["folder"]: row for row in json.loads((root / "results.json").read_text())["runs"]}
    assert results[folder.name]["status"] == "failed" and results[folder.name]["value"] is None


def test_words_of_a_sweep_are_those_of_the_settings(lr, tmp_path, capsys):
    lr.write_text(lr.read_text().replace("optim.steps: {value: 9}", "data.cache: {value: null}"))
    assert sweep.main([str(lr), f"run.dir={tmp_path}", "--dry-run"]) == 0
    assert "data.cache=null" in capsys.readouterr().out
    lr.write_text(lr.read_text().partition("command:")[0] + "command: python train/score.py\n")
    assert sweep.main([str(lr), f"run.dir={tmp_path}", "--dry-run"]) == 1
    assert "expected a command as a list of words, got python train/score.py" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        sweep.main([str(lr), "run.dir=", "--dry-run"])
    assert end.value.code == 2


def test_a_metric_that_no_run_logs_ends_the_sweep(lr, tmp_path, capfd):
    lr.write_text(lr.read_text().replace("metric: {name: psnr,", "metric: {name: gain,"))
    assert sweep.main([str(lr), f"run.dir={tmp_path / 'runs'}"]) == 1
    expected = "lr=0.01,batch=1: expected figures of gain, by which the sweep ranks, got those of psnr\n"
    assert capfd.readouterr().err.endswith(expected)
    assert _calls(tmp_path / "runs") == {"lr=0.01,batch=1": 1}


def test_a_file_in_place_of_the_folder_is_noticed_before_the_first_run(lr, tmp_path, capfd):
    (tmp_path / "runs").write_text("mine")
    assert sweep.main([str(lr), f"run.dir={tmp_path / 'runs'}"]) == 1
    printed = capfd.readouterr()
    assert printed.out == "" and str(tmp_path / "runs") in printed.err and printed.err.count("\n") == 1
