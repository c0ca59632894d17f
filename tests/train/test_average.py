"""The command that exports averages of other lengths."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from training_runs import settings, weights

from samplers import DefocusDeblurPipeline
from train import average, score


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A finished run with a snapshot at each of its 8 steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert score.main(settings(photos, folder, "averages.every=1", "optim.lr=0.01")) == 0
    return folder


def test_snapshots_are_the_averages_of_the_checkpoint(run):
    assert len(list((run / "averages").iterdir())) == 8
    tensors, tracked = load_file(run / "averages" / "step_00000008.safetensors"), weights(run, 8)
    names = [name.removeprefix("weights.network.") for name in tracked if name.startswith("weights")]
    for index, length in enumerate(("0.05", "0.1")):
        averages = {k: v for k, v in tensors.items() if k.startswith(f"{length}/")}
        assert sorted(averages) == sorted(f"{length}/{name}" for name in names)
        total = sum(float(v.double().sum()) for v in averages.values())
        expected = sum(float(v.half().double().sum()) for k, v in tracked.items() if k.startswith(f"average.{index}."))
        assert total == pytest.approx(expected, rel=1e-9)


def test_a_tracked_length_is_exported_as_the_run_exports_it(run, tmp_path, capsys):
    assert average.main([str(run), "--length", "0.05", "-o", str(tmp_path / "new" / "out")]) == 0
    assert "at step 8 in" in capsys.readouterr().out
    ours = DefocusDeblurPipeline.from_pretrained(tmp_path / "new" / "out").score_network.state_dict()
    theirs = DefocusDeblurPipeline.from_pretrained(run / "export").score_network.state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2e-3, atol=1e-6)


def test_another_length_is_another_average(run, tmp_path, capsys):
    folders = [tmp_path / "0.07", tmp_path / "0.1", tmp_path / "earlier"]
    for folder, *options in zip(folders, ("0.07", "0.1", "0.07"), strict=True):
        extra = ["--step", "6"] if folder.name == "earlier" else []
        assert average.main([str(run), "--length", *options, "-o", str(folder), *extra]) == 0
    assert "its profile is met to" in capsys.readouterr().out
    heads = [load_file(f / "score_network" / "diffusion_pytorch_model.safetensors")["head.weight"] for f in folders]
    assert not torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert json.loads((folders[0] / "score_network" / "config.json").read_text())["channels"] == [16, 8]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--length", "0.5"], "must be in (0, 0.2887), got 0.5"),
        (["--length", "0.07", "--step", "9"], "expected a step with a snapshot, 1, 2, 3, 4, 5, 6, 7, 8, got 9"),
    ],
)
def test_errors_are_one_line(run, tmp_path, capsys, options, expected):
    assert average.main([str(run), *options, "-o", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("train/average.py: ") and expected in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_or_made_of_nothing(run, tmp_path, capsys):
    assert average.main([str(run), "--length", "0.07", "-o", str(tmp_path)]) == 1
    assert "a new folder, got one that exists" in capsys.readouterr().err
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("averages"))
    assert average.main([str(tmp_path / "run"), "--length", "0.07", "-o", str(tmp_path / "out")]) == 1
    assert "expected snapshots step_*.safetensors in" in capsys.readouterr().err


def test_a_run_of_another_training_is_said_to_be_one(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("simulation: {captures: 3}\n")
    assert average.main([str(tmp_path / "run"), "--length", "0.07", "-o", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'run'}: expected the settings of a run of train/score.py, got others: " in message
    assert "'simulation'" in message and message.count("\n") == 1
