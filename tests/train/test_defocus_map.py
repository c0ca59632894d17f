"""Training of the defocus map network: resumed bit for bit, exported whole, errors in one line."""

import shutil

import pytest
import torch
from command_line import files
from safetensors.torch import load_file
from training_runs import PROJECT, assert_same_run, log_lines, rewind

from optics.defocus_map import LearnedEstimator
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import load_defocus_map
from train.defocus_map import main

SMOKE = str(PROJECT / "configs" / "defocus_map" / "smoke.yaml")


def _settings(photos, folder, *overrides):
    """The command line of a run of eight steps with checkpoints at steps 3, 6 and 8; later overrides win."""
    return [
        SMOKE, f"data.root={photos}", f"run.dir={folder}", "data.patch=16", "simulation.side=24",
        "simulation.captures=6", "simulation.reuse=4", "simulation.largest_radius=1.5", "data.min_contrast=0",
        "data.max_smoothness=null", "simulation.block_smoothness=null", "network.channels=[4,8]", "optim.batch=4",
        "optim.steps=8", "optim.warmup=2",
        "run.log_every=2", "run.save_every=3", "run.probe_every=4", "run.panel_every=100", "probes=2", *overrides,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(_settings(photos, folder)) == 0
    return folder


def test_a_resumed_run_ends_with_the_same_bits(run, photos, tmp_path):
    copy = tmp_path / "copy"
    # Checkpoints of steps 6 and 8 are kept; captures may be gone.
    rewind(run, copy, 6)
    shutil.rmtree(copy / "captures")
    assert main(_settings(photos, copy)) == 0
    assert_same_run(run, copy)


def test_objectives_without_radii_resume_with_the_same_bits_too(photos, tmp_path):
    mixture = ("objective.likelihood=0.5", "objective.reblur=0.1", "objective.consistency=1", "run.probe_every=0")
    mixture += ("objective.kernels=learned",)
    settings = (*mixture, f"objective.captures={photos}", "optim.steps=6")
    assert main(_settings(photos, tmp_path / "whole", *settings)) == 0
    rewind(tmp_path / "whole", tmp_path / "copy", 3)
    assert main(_settings(photos, tmp_path / "copy", *settings)) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "copy", step=6)


def test_a_run_may_start_from_weights_of_its_like(run, photos, tmp_path, capsys):
    export, saved = f"init={run / 'export'}", load_defocus_map(run / "export").state_dict()
    folder = tmp_path / "run"
    # Adam's steps are no longer than the learning rate: after one the weights are still those.
    assert main(_settings(photos, folder, export, "optim.steps=1", "optim.lr=1e-6")) == 0
    started = load_defocus_map(folder / "export").state_dict()
    assert all((started[key] - saved[key]).abs().max() < 2e-3 for key in saved)
    assert main(_settings(photos, tmp_path / "wide", export, "simulation.largest_radius=3")) == 1
    assert "simulation.largest_radius is 1.5 there and 3.0 here" in capsys.readouterr().err
    assert main(_settings(photos, tmp_path / "deep", export, "network.blocks=[1,2]")) == 1
    assert "network.blocks is" in capsys.readouterr().err


def test_the_log_and_the_panels_say_how_good_maps_are(run):
    lines = log_lines(run)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8]
    probes = [line for line in lines if "map/error_px" in line]
    assert [line["step"] for line in probes] == [4, 8]
    assert all(0 <= probe["map/right"] <= 1 and 0 <= probe["map/confidence"] <= 1 for probe in probes)
    assert [file.name for file in (run / "panels").iterdir()] == ["maps_00000008.png"]


def test_the_export_is_the_average_in_half_precision(run):
    assert files(run / "export") == [
        "SHA256SUMS", "defocus_map", "defocus_map/config.json", "defocus_map/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    network = load_defocus_map(run / "export")
    state = torch.load(run / "checkpoints" / "step_00000008" / "custom_checkpoint_1.pkl", weights_only=False)
    assert state["step"] == 8
    for ours, average in zip(network.parameters(), state["averages"][0], strict=True):
        assert torch.equal(ours, average.half().float())
    stored = load_file(run / "export" / "defocus_map" / "diffusion_pytorch_model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    assert network.config.largest_radius == 1.5


def test_with_a_pipeline_the_export_completes_it(photos, tmp_path):
    from diffusion import VESDE, ScoreNetwork

    old = DefocusDeblurPipeline(ScoreNetwork(channels=(4,), blocks=1, embedding=4).half(), VESDE())
    old.save_pretrained(tmp_path / "old")
    assert main(_settings(photos, tmp_path / "run", "optim.steps=1", f"pipeline={tmp_path / 'old'}")) == 0
    new = DefocusDeblurPipeline.from_pretrained(tmp_path / "run" / "export")
    assert new.defocus_map is not None
    for ours, theirs in zip(new.score_network.parameters(), old.score_network.parameters(), strict=True):
        assert torch.equal(ours, theirs.float())
    for file in (tmp_path / "run" / "export").rglob("*.json"):
        assert str(tmp_path) not in file.read_text(encoding="utf-8")


def test_other_settings_are_no_continuation(run, photos, tmp_path, capsys):
    copy = tmp_path / "copy"
    rewind(run, copy, 6)
    assert main(_settings(photos, copy, "simulation.faint=0.5")) == 2
    assert "simulation.faint was 0.06 and is now 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        ("data.root=nowhere", 1, "nowhere: expected"),
        ("simulation.sid=3", 2, "simulation.side"),
        ("network.blocks=[1]", 2, "network.blocks"),
        ("pipeline=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("init=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("objective.likelihood=0", 2, "objective.likelihood or reblur must be above 0"),
        ("objective.reblur=-1", 2, "objective.likelihood, reblur and consistency must be at least 0"),
        ("objective.captures=photos", 2, "objective.consistency above 0"),
        ("objective.kernels=free", 2, "objective.kernels must be disk or learned, got free"),
        ("objective.kernels=learned", 2, "objective.kernels=learned needs objective.reblur above 0"),
        ("simulation.side=16", 1, "simulation.side must be at least data.patch=32"),
    ],
)
def test_mistakes_are_one_line(photos, tmp_path, capsys, override, code, words):
    extra = ["data.patch=32"] if "side=16" in override else []
    assert main(_settings(photos, tmp_path / "run", *extra, override)) == code
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and words in errors and errors.startswith("train/defocus_map.py: ")


def test_a_dry_run_writes_no_run(photos, tmp_path, capsys):
    assert main([*_settings(photos, tmp_path / "run"), f"data.cache={tmp_path / 'cache'}", "--dry-run"]) == 0
    assert "parameters; 6 training and 2 held-out photos" in capsys.readouterr().out
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


def test_the_presets_are_what_they_say():
    from optics.defocus_map.network import DefocusMapNetwork
    from samplers.config import load_config
    from train.defocus_map_config import DefocusMapConfig

    for file in sorted((PROJECT / "configs" / "defocus_map").glob("*.yaml")):
        config = load_config(DefocusMapConfig, file, ["data.root=a", "run.dir=b"])
        network = DefocusMapNetwork(tuple(config.network.channels), tuple(config.network.blocks))
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count <= 1.5e6
        if file.stem == "small":
            assert f"# {count / 1e6:.1f} M parameters" in file.read_text()


def test_weights_of_the_fusion_are_listed_by_their_log_loss(run, capsys):
    from train import fusion_weights

    assert fusion_weights.main([str(run), "--weights", str(run / "export"), "--count", "2"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    losses = [float(row[5]) for row in rows]
    assert losses == sorted(losses)
    assert len(rows) == len(fusion_weights.NETWORK_WEIGHTS) * len(fusion_weights.EVIDENCE_WEIGHTS)
    # Neither says anything: the uniform distribution over the radii.
    (silent,) = [row for row in rows if (row[1], row[3]) == ("0.00", "0.00")]
    count = len(LearnedEstimator(load_defocus_map(run / "export")).radii)
    assert float(silent[5]) == pytest.approx(torch.tensor(float(count)).log().item(), abs=1e-3)


def test_weights_of_the_fusion_need_a_run_and_a_network(run, tmp_path, capsys):
    from train import fusion_weights

    for arguments in ([str(tmp_path), "--weights", str(run / "export")], [str(run), "--weights", str(tmp_path)]):
        assert fusion_weights.main(arguments) == 1
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1 and str(tmp_path) in errors
