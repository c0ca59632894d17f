"""Training runs: resuming, the log, the export, and errors; each run happens in this process."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file
from training_runs import SMOKE, assert_same_run, checkpoint, log_lines, rewind, settings, weights

from diffusion import VESDE, VPSDE, ScoreNetwork
from diffusion.latent_prior import LatentFiLM, SwinDiff
from optics.defocus_map.network import DefocusMapNetwork
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import load_score_network
from train import average, score
from train.config import OptimConfig
from train.loop import learning_rate_factor
from train.tracking import Tracker


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert score.main(settings(photos, folder)) == 0
    return folder


@pytest.mark.parametrize("step", [3, 6])
def test_a_resumed_run_is_bitwise_the_whole_run(whole, photos, tmp_path, step, capsys):
    # Step 3 lies between two lines of the log: the losses before it must not be lost.
    run = tmp_path / "resumed"
    shutil.copytree(whole, run)
    if step == 3:
        # Only the newest checkpoints are kept, so go there again.
        shutil.rmtree(run)
        assert score.main(settings(photos, run, "run.keep=9")) == 0
        rewound = tmp_path / "rewound"
        rewind(run, rewound, step)
        run = rewound
    else:
        shutil.rmtree(checkpoint(run, 8))
    assert score.main(settings(photos, run)) == 0
    printed = capsys.readouterr().out
    assert f"resuming from {checkpoint(run, step)}" in printed
    assert "4 patches per optimizer step = 1 processes x 1 accumulation steps x 4" in printed
    assert_same_run(run, whole)


def test_a_run_by_muon_resumes_bitwise(whole, photos, tmp_path):
    command = ("optim.optimizer=muon",)
    assert score.main(settings(photos, tmp_path / "muon", *command)) == 0
    rewind(tmp_path / "muon", tmp_path / "resumed", 6)
    assert score.main(settings(photos, tmp_path / "resumed", *command)) == 0
    assert_same_run(tmp_path / "muon", tmp_path / "resumed")
    ours, theirs = weights(tmp_path / "muon", 8), weights(whole, 8)
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("weights"))


def test_accumulated_run_resumes_bitwise_and_equals_one_pass(whole, photos, tmp_path):
    folder = tmp_path / "accumulated"
    command = settings(photos, folder, "optim.accumulate=2")
    assert score.main(command) == 0
    rewind(folder, tmp_path / "resumed", 6)
    assert score.main(settings(photos, tmp_path / "resumed", "optim.accumulate=2")) == 0
    assert_same_run(folder, tmp_path / "resumed")
    assert_close_run(folder, whole)


def test_a_run_goes_on_with_another_number_of_passes_from_any_step(whole, photos, tmp_path):
    folder, resumed = tmp_path / "odd", tmp_path / "resumed"
    assert score.main(settings(photos, folder, "run.keep=9")) == 0
    rewind(folder, resumed, 3)
    assert checkpoint(resumed, 3).is_dir()
    assert score.main(settings(photos, resumed, "run.keep=9", "optim.accumulate=2")) == 0
    assert_close_run(resumed, whole)


def assert_close_run(one, other):
    """The same steps up to the order of sums; the first moments of Adam tell apart what weights may hide."""
    ours, theirs = weights(one, 8), weights(other, 8)
    for name in ours:
        if name.startswith(("weights", "average")):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    for mine, its in zip(log_lines(one), log_lines(other), strict=True):
        assert mine == pytest.approx(its, rel=1e-3)


def test_the_log_is_complete(whole):
    lines = log_lines(whole)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8]
    assert [line["step"] for line in lines if "denoising_psnr/0.1" in line] == [8]
    for line in lines:
        assert all(isinstance(value, int | float) and abs(value) < 1e6 for value in line.values())
    raw = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert all(line["patches_per_s"] > 0 for line in raw if "loss" in line)
    # An untrained network starts at a loss of about 1.
    assert 0.3 < lines[0]["loss"] < 3 and lines[0]["grad_norm"] > 0


def test_learning_rate_counts_optimizer_steps(whole):
    # Two of eight steps warm up; the last three tenths of eight steps decay.
    expected = {2: 2 / 3, 4: 1.0, 6: 1.0, 8: 1 / 2.4}
    for line in log_lines(whole):
        if "lr" in line:
            assert line["lr"] == pytest.approx(5e-4 * expected[line["step"]])


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0.0), (5, 0.5), (0, 1.0)])
def test_schedule_ends_with_the_run(warmup, decay):
    optim = OptimConfig(steps=20, warmup=warmup, decay=decay)
    factors = [learning_rate_factor(step, optim) for step in range(21)]
    assert min(factors[:20]) > 0 and max(factors) == 1
    assert factors[20] == (0 if decay else 1)
    assert factors[0] == (1 / 6 if warmup else 1)


def test_settings_and_checkpoints_are_kept(whole, photos):
    config = OmegaConf.load(whole / "config.yaml")
    assert config.data.root == str(photos) and config.optim.betas == [0.9, 0.99] and config.optim.steps == 8
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["step_00000006", "step_00000008"]
    assert not list(whole.rglob("*.part"))


def test_half_written_checkpoint_is_ignored_and_swept_away(whole, photos, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    checkpoint(run, 8).rename(run / "checkpoints" / "step_00000008.part")
    (run / "checkpoints" / "step_00000008.part" / "model.safetensors").write_bytes(b"half")
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "loss": 0.1}\n{"step": 1')
    assert score.main(settings(photos, run)) == 0
    assert_same_run(run, whole)
    assert not list(run.rglob("*.part"))


def test_a_finished_run_stays_as_it_is(whole, photos, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    assert score.main(settings(photos, run)) == 0
    assert_same_run(run, whole)


def test_export_holds_the_averaged_weights_in_half_precision(whole):
    from samplers import DefocusDeblurPipeline

    pipeline = DefocusDeblurPipeline.from_pretrained(whole / "export")
    tensors = weights(whole, 8)
    average = [tensor for name, tensor in tensors.items() if name.startswith("average.0")]
    for (name, exported), expected in zip(pipeline.score_network.named_parameters(), average, strict=True):
        assert torch.equal(exported, expected.half().float()), name
        assert not torch.equal(expected, tensors[f"weights.network.{name}"]), name
    half = (whole / "export" / "score_network" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert half < 2.5 * sum(tensor.numel() for tensor in average) + 10_000
    result = DefocusDeblurPipeline.from_pretrained(whole / "export")(torch.rand(1, 3, 20, 24))
    assert result.image.shape == (1, 3, 20, 24)


def test_export_is_the_same_bytes_again(whole, photos, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "export")
    assert score.main(settings(photos, run)) == 0

    def digests(folder):
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    assert digests(run / "export") == digests(whole / "export")


def test_panels_show_samples_and_denoised_photos(whole, photos, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(checkpoint(run, 8))
    assert score.main(settings(photos, run, "run.panel_every=7", "run.samples=3")) == 0
    found = {file.name: Image.open(file).size for file in (run / "panels").iterdir()}
    assert found["samples_00000007.png"] == found["samples_00000008.png"] == (128, 128)
    assert found["denoising_00000007.png"] == (256, 256)
    # Drawing pictures leaves the training alone.
    ours, theirs = weights(run, 8), weights(whole, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_export_takes_over_the_other_networks_of_a_pipeline(photos, tmp_path):
    torch.manual_seed(0)
    score_network = ScoreNetwork(channels=(8, 8), blocks=1, embedding=8)
    prior = SwinDiff(channels=(32, 32), blocks=(1, 1), windows=(0, 4), latent=8, encoder=8, steps=3, stage=2)
    tokens, latent = prior.prior_shape
    conditioning = LatentFiLM((8, 8), 1, tokens=tokens, latent=latent, width=8)
    estimator = DefocusMapNetwork(channels=(4, 8), blocks=(1, 1))
    old = DefocusDeblurPipeline(score_network, VPSDE(), estimator, prior, conditioning)
    old.save_pretrained(tmp_path / "old")
    command = settings(photos, tmp_path / "run", "optim.steps=1", f"pipeline={tmp_path / 'old'}")
    assert score.main(command) == 0
    export = tmp_path / "run" / "export"
    for part in ("score_network", "defocus_map", "latent_prior"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        ours, theirs = load_file(export / file), load_file(tmp_path / "old" / file)
        kept = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name].half()) for name in theirs)
        assert kept == (part != "score_network")
    # That of another score network.
    new = DefocusDeblurPipeline.from_pretrained(export)
    assert new.conditioning is None and isinstance(new.sde, VPSDE)
    assert score.main(settings(photos, tmp_path / "none", "optim.steps=1", "pipeline=nowhere")) == 1
    assert not (tmp_path / "none" / "checkpoints").exists()


def test_the_exported_sde_ends_at_the_largest_noise_level_of_the_run(whole, saved_pipeline, photos, tmp_path):
    def sde_of(export):
        return DefocusDeblurPipeline.from_pretrained(export).sde

    assert sde_of(whole / "export").config.sigma_max == sde_of(saved_pipeline).config.sigma_max == 3
    levels = ["noise.sigma_max=1.25", "noise.sigma_min=0.004", "optim.steps=1", "averages.every=1"]
    for name, more in (("alone", []), ("completed", [f"pipeline={saved_pipeline}"])):
        assert score.main(settings(photos, tmp_path / name, *levels, *more)) == 0
        sde = sde_of(tmp_path / name / "export")
        assert isinstance(sde, VESDE) and (sde.config.sigma_min, sde.config.sigma_max) == (0.004, 1.25)
        assert load_score_network(tmp_path / name / "export").config.sigma_max == 1.25
    average.export_average(tmp_path / "alone", 0.05, tmp_path / "average")
    assert sde_of(tmp_path / "average").config.sigma_max == 1.25


def test_wandb_offline_leaves_a_run_folder(photos, tmp_path):
    pytest.importorskip("wandb")
    assert score.main(settings(photos, tmp_path / "run", "run.wandb=offline", "optim.steps=2")) == 0
    folders = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(folders) == 1 and list(folders[0].glob("*.wandb"))


def test_weights_of_checkpoints_are_stored_where_they_are_wanted(photos, tmp_path, monkeypatch):
    stored = []

    def store(self, step, folder, *, final):
        stored.append((step, final))
        load_score_network(folder)

    monkeypatch.setattr(Tracker, "wants_weights", lambda self, *, final: True)
    monkeypatch.setattr(Tracker, "weights", store)
    assert score.main(settings(photos, tmp_path / "run")) == 0
    assert stored == [(3, False), (6, False), (8, True)]


def test_an_export_is_never_missing_while_it_is_replaced(photos, tmp_path, monkeypatch, capsys):
    run, replace = tmp_path / "run", Path.replace
    command, export = settings(photos, run, "optim.steps=2"), run / "export"
    assert score.main(command) == 0

    for name in ("export.old", "export.part"):
        export.with_name(name).mkdir()
        (export.with_name(name) / "mine").touch()
    before = {file: file.stat().st_ino for file in run.rglob("export*/**/*")}

    def failing(self, target):
        if self.name == "new":
            assert load_score_network(self) and load_score_network(self.with_name("old"))
            raise OSError("disk gone")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    assert score.main(command) == 1
    message = f"{export}: expected a folder that weights can be written to, got an error: disk gone"
    assert message in capsys.readouterr().err and not list(run.glob(".export*"))
    assert {file: file.stat().st_ino for file in run.rglob("export*/**/*")} == before
    monkeypatch.undo()
    assert score.main(command) == 0
    assert load_score_network(export) and (run / "export.old" / "mine").exists() and not list(run.glob(".export*"))


def test_dry_run_prints_settings_and_writes_nothing(photos, tmp_path, capsys):
    more = ["optim.accumulate=2", f"data.cache={tmp_path / 'cache'}"]
    assert score.main([*settings(photos, tmp_path / "run", *more), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "lr: 0.0005" in printed and "weight_decay: 0.001" in printed
    assert "6 training and 2 held-out photos" in printed
    assert "4 patches per optimizer step = 1 processes x 2 accumulation steps x 2" in printed
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("overrides", "code", "expected"),
    [
        (["optim.learning_rate=1"], 2, "unknown config key 'optim.learning_rate'"),
        (["optim.lrr=1"], 2, "did you mean 'optim.lr'?"),
        (["optim.lr=fast"], 2, "optim.lr"),
        (["data.patch=20"], 2, "data.patch must be a multiple of 8, at least 16, got 20"),
        (["optim.batch=5", "optim.accumulate=2"], 2, "optim.batch must be divisible by optim.accumulate=2, got 5"),
        (["network.embedding=0"], 2, "network.embedding must be at least 1, got 0"),
        (["network.channels=[8,0]"], 2, "network.channels must be positive, got [8, 0]"),
        (["network.blocks=0"], 2, "network.blocks must be a number or a list of 2, at least 1 each, got 0"),
        (["optim.betas=[0.9]"], 2, "optim.betas must be two numbers in [0, 1), got [0.9]"),
        (["optim.betas=[0.9,1.5]"], 2, "optim.betas must be two numbers in [0, 1), got [0.9, 1.5]"),
        (["optim.weight_decay=-1"], 2, "optim.weight_decay must be non-negative, got -1"),
        (["run.seed=-1"], 2, "run.seed must be in [0, 2^64), got -1"),
        (["averages.lengths=[0.5]"], 2, "averages.lengths: the length of an average must be in (0, 0.2887), got 0.5"),
        (["noise.log_std=.nan"], 2, "noise.log_std must be positive and finite, got nan"),
        (["optim.lr=.inf"], 2, "optim.lr must be a finite number, got inf"),
        (["averages.lengths=[0.1,.nan]"], 2, "averages.lengths: the length of an average must be in"),
        (["data.max_smoothness=.inf"], 2, "data.max_smoothness must be a finite number, got inf"),
        (["noise.sigma_max=0.01", "run.samples=4"], 2, "run.samples must be 0 unless noise.sigma_max is above 0.01"),
        (["noise.sigma_max=0.01", "run.probe_every=4"], 2, "run.probe_every must be 0 unless noise.sigma_max is above"),
        (["nonsense"], 2, "all else as key=value, got "),
        (["data.root=/nowhere/at/all"], 1, "/nowhere/at/all"),
        (["optim.lr=1e30"], 1, "lower optim.lr"),
    ],
)
def test_errors_are_one_line(photos, tmp_path, capsys, overrides, code, expected):
    assert score.main(settings(photos, tmp_path / "run", *overrides)) == code
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("train/score.py: ") and expected in message


def test_missing_settings_are_asked_for(capsys):
    assert score.main([SMOKE]) == 2
    assert "no value for data.root, run.dir" in capsys.readouterr().err


def test_checkpoint_of_another_network_is_refused(whole, photos, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = (run / "config.yaml").read_text()
    assert score.main(settings(photos, run, "network.channels=[8,12]")) == 2
    assert "network.channels was [16, 8] and is now [8, 12]" in capsys.readouterr().err
    assert (run / "config.yaml").read_text() == before


def test_unusable_run_folder_is_named(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert score.main(settings(photos, tmp_path / "file" / "run")) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err
