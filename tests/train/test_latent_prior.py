"""Training of a latent prior: pairs, two stages, resumed bit for bit, exported whole, errors in one line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import files
from PIL import Image
from safetensors.torch import load_file
from training_runs import PROJECT, assert_same_run, log_lines, rewind

from diffusion.latent_prior import SwinDiff
from optics.simulation import Simulator
from samplers.config import load_config
from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import load_latent_prior
from train.latent_prior import main
from train.latent_prior_config import LatentPriorConfig
from train.real_pairs import MixedPairs, RealPairs, find_pairs, split_pairs
from train.simulated_captures import open_captures
from train.simulated_pairs import CropConfig, PairedParts, SimulatedPairs

SMOKE = str(PROJECT / "configs" / "latent_prior" / "smoke.yaml")
SMALL = {"channels": (32, 32), "blocks": (1, 1), "windows": (0, 4), "latent": 8, "encoder": 8, "steps": 2}


def _settings(photos, folder, *overrides):
    """The command line of a run of eight steps with checkpoints at steps 3, 6 and 8; later overrides win."""
    return [
        SMOKE, f"data.root={photos}", f"run.dir={folder}", "data.patch=24", "crops.first=[16]", "simulation.side=24",
        "simulation.captures=6", "simulation.reuse=4", "simulation.largest_radius=1.5", "data.min_contrast=0",
        "data.max_smoothness=null", "simulation.block_smoothness=null", "network.windows=[0,4]", "network.latent=8",
        "network.encoder=8", "network.steps=2", "optim.batch=4", "optim.steps=8", "optim.warmup=2",
        "run.log_every=2", "run.save_every=3", "run.probe_every=4", "run.panel_every=100", "probes=2", *overrides,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A finished run of stage 1; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(_settings(photos, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def second(photos, run, tmp_path_factory):
    """A finished run of stage 2; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "second"
    assert main(_settings(photos, folder, "stage=2", f"init={run / 'export'}")) == 0
    return folder


@pytest.mark.parametrize("stage", [1, 2])
def test_a_resumed_run_ends_with_the_same_bits(run, second, photos, tmp_path, stage):
    copy, whole = tmp_path / "copy", (run, second)[stage - 1]
    # Checkpoints of steps 6 and 8 are kept; captures may be gone.
    rewind(whole, copy, 6)
    shutil.rmtree(copy / "captures")
    extra = ["stage=2", f"init={run / 'export'}"] if stage == 2 else []
    assert main(_settings(photos, copy, *extra)) == 0
    assert_same_run(whole, copy)


def test_each_stage_trains_its_own_encoder(run, second):
    first, last = (load_latent_prior(folder / "export").state_dict() for folder in (run, second))
    torch.manual_seed(0)
    fresh = SwinDiff(**SMALL).half().float().state_dict()

    def moved(before, after):
        return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}

    assert moved(fresh, first) == {"pair_encoder", "backbone"}
    assert moved(first, last) == {"capture_encoder", "latent_diffusion", "backbone"}


def test_the_log_and_the_panels_say_how_good_restorations_are(run, second):
    for folder, stage in ((run, 1), (second, 2)):
        probes = [line for line in log_lines(folder) if "restoration/gain_db" in line]
        assert [line["step"] for line in probes] == [4, 8]
        assert all(("restoration/gain_db_sharp_prior" in probe) == (stage == 1) for probe in probes)
        assert all(probe["restoration/worst_gain_db"] <= probe["restoration/gain_db"] for probe in probes)
        assert [file.name for file in (folder / "panels").iterdir()] == ["restorations_00000008.png"]


def test_the_export_is_the_average_in_half_precision(run):
    assert files(run / "export") == [
        "SHA256SUMS", "latent_prior", "latent_prior/config.json", "latent_prior/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    network = load_latent_prior(run / "export")
    state = torch.load(run / "checkpoints" / "step_00000008" / "custom_checkpoint_1.pkl", weights_only=False)
    for ours, average in zip(network.parameters(), state["averages"][0], strict=True):
        assert torch.equal(ours, average.half().float())
    stored = load_file(run / "export" / "latent_prior" / "diffusion_pytorch_model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    assert network.config.stage == 1


def test_with_a_pipeline_the_export_completes_it(photos, tmp_path):
    from diffusion import VESDE, ScoreNetwork
    from optics.defocus_map.network import DefocusMapNetwork

    parts = ScoreNetwork(channels=(4,), blocks=1, embedding=4), VESDE(), DefocusMapNetwork((4, 8), (1, 1))
    DefocusDeblurPipeline(*parts).save_pretrained(tmp_path / "old")
    assert main(_settings(photos, tmp_path / "run", "optim.steps=1", f"pipeline={tmp_path / 'old'}")) == 0
    new = DefocusDeblurPipeline.from_pretrained(tmp_path / "run" / "export")
    assert new.latent_prior.config.stage == 1
    for ours, theirs in zip(new.defocus_map.parameters(), parts[2].parameters(), strict=True):
        assert torch.equal(ours, theirs.half().float())


def _captures(photos, folder, **simulation):
    overrides = ["data.patch=16", "simulation.side=24", "simulation.captures=3", "simulation.reuse=2"]
    overrides += ["simulation.largest_radius=1.5", "simulation.block_smoothness=null", "data.max_smoothness=null"]
    overrides += [f"simulation.{key}={value}" for key, value in simulation.items()]
    config = load_config(LatentPriorConfig, None, [f"data.root={photos}", "run.dir=a", *overrides])
    captures, _ = open_captures(config.data, config.simulation, 0, 4, Path(folder), report=str)
    return captures, config


def test_sharp_photos_are_those_that_captures_were_taken_of(photos, tmp_path, monkeypatch):
    captures, _ = _captures(photos, tmp_path)
    taken = []
    take = Simulator.__call__

    def remembered(*arguments):
        taken.append(take(*arguments))
        return taken[-1]

    monkeypatch.setattr(Simulator, "__call__", remembered)
    assert SimulatedPairs(captures).files == captures.photos.files and len(captures.photos.files) > 1
    # Whether simulated now or kept from before.
    for _ in range(2):
        for number in range(3):
            x, y = SimulatedPairs(captures).pair(number)
            assert np.array_equal(x, np.rint(255 * taken[number].x.numpy()))
            assert np.array_equal(y, np.rint(255 * taken[number].y.numpy()))
    assert len(taken) == 3


def test_real_pairs_are_drawn_alike_and_mixed_in(tmp_path):
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        for part, code in (("blurred", picture), ("sharp", 255 - picture)):
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(code).save(tmp_path / "set" / part / f"{number}.png")
    real = RealPairs(find_pairs(tmp_path / "set", 24), 24, 1.0)
    draws = [real.draw(0, np.random.default_rng(seed)) for seed in range(8)]
    assert all(x.shape == (3, 24, 24) and np.array_equal(x, 255 - y) for x, y in draws)
    assert len({y.tobytes() for _, y in draws}) > 3

    class Simulated:
        files = [tmp_path / "photo.png"]

        def draw(self, sample, rng):
            return None

    for share in (0.25, 1.0):
        mixed = MixedPairs(Simulated(), real, share)
        named = [str(file.relative_to(tmp_path)) for file in mixed.files]
        assert named == ["photo.png", *(f"set/{part}/{n}.png" for part in ("blurred", "sharp") for n in range(3))]
        rng = np.random.default_rng(0)
        assert np.mean([mixed.draw(0, rng) is not None for _ in range(200)]) == pytest.approx(share, abs=0.1)


@pytest.fixture
def stacks(tmp_path):
    """Five stacks of two captures each, whose sharp photo they share: light that tells the stack, less in captures."""
    for stack in range(5):
        names = {f"blurred/{stack}_{frame}.png": 40 * stack + 10 for frame in range(2)}
        for name, code in (names | {f"sharp/{stack}.png": 40 * stack + 20}).items():
            (tmp_path / "stacks" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 40), (code, code, code)).save(tmp_path / "stacks" / name)
    return tmp_path / "stacks"


def test_pairs_that_are_held_out_are_of_other_scenes_and_always_the_same(stacks):
    files = find_pairs(stacks, 24)
    training, held_out = split_pairs(files, 2)
    assert sorted(pair.name for pair in [*training, *held_out]) == sorted(pair.name for pair in files)
    scenes = [{pair.reference for pair in part} for part in (training, held_out)]
    assert len(training) == 6 and len(held_out) == 4 and not scenes[0] & scenes[1]
    assert split_pairs(find_pairs(stacks, 24), 2) == (training, held_out)
    seen = RealPairs(held_out, 24, 1.0)
    shown = [seen.pair(number)[0] for number in range(8)]
    assert all(np.array_equal(seen.pair(number)[0], x) for number, x in enumerate(shown))
    assert {int(x[0, 0, 0]) // 40 for x in shown} == {int(reference.stem) for reference in scenes[1]}
    with pytest.raises(ValueError, match="sharp/0.png: expected another sharp photo"):
        split_pairs(files[:2], 8)


def test_a_run_on_real_pairs_alone_needs_no_photos_beside(stacks, tmp_path, capsys):
    folder = tmp_path / "run"
    settings = [word for word in _settings("", folder) if not word.startswith("data.root=")]
    alone = [*settings, f"pairs={stacks}", "pairs_share=1", "data.holdout=2"]
    assert main(alone) == 0
    assert "6 training and 4 held-out pairs" in capsys.readouterr().out
    assert [line["step"] for line in log_lines(folder) if "restoration/gain_db" in line] == [4, 8]
    assert (folder / "export").is_dir() and not (folder / "captures").exists()
    # Whatever is simulated needs photos; photos of which nothing is simulated are a mistake.
    for arguments, words in (
        ([*settings, f"pairs={stacks}"], "no value for data.root"), (settings, "no value for data.root"),
        ([*alone, "data.root=photos"], "data.root must be left out with pairs_share=1"),
    ):  # fmt: skip
        assert main(arguments) == 2
        errors = capsys.readouterr().err
        assert words in errors and len(errors.splitlines()) == 1


def test_a_run_on_real_pairs_names_the_first_that_does_not_match(photos, tmp_path, capsys):
    for part, names in (("blurred", "ab"), ("sharp", "ac")):
        (tmp_path / "set" / part).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (32, 40)).save(tmp_path / "set" / part / f"{name}.png")
    arguments = _settings(photos, tmp_path / "run", f"pairs={tmp_path / 'set'}", "optim.steps=1")
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert "b.png has no reference" in errors and len(errors.splitlines()) == 1
    # A sharp photo without a capture, which does no harm to figures, is a mistake here too.
    (tmp_path / "set" / "blurred" / "b.png").rename(tmp_path / "b.png")
    assert main(arguments) == 1
    assert f"{tmp_path}/set/sharp/c.png: expected a capture of the same name in" in capsys.readouterr().err
    (tmp_path / "b.png").rename(tmp_path / "set" / "blurred" / "b.png")
    (tmp_path / "set" / "sharp" / "c.png").rename(tmp_path / "set" / "sharp" / "b.png")
    Image.new("RGB", (32, 41)).save(tmp_path / "set" / "sharp" / "b.png")
    assert main(arguments) == 1
    assert "b.png: expected 32 x 40 pixels as" in capsys.readouterr().err
    Image.new("RGB", (32, 40)).save(tmp_path / "set" / "sharp" / "b.png")
    assert main(arguments) == 0


def test_parts_are_cut_alike_and_their_sides_follow_the_run(photos, tmp_path):
    captures, config = _captures(photos, tmp_path)

    class Twins:
        """Pairs of which both are the same picture, distinct in every pixel."""

        def draw(self, sample, rng):
            picture = np.arange(3 * 24 * 24).reshape(3, 24, 24) % 251
            return picture.astype(np.uint8), picture.astype(np.uint8)

    options = {"steps": 10, "batch": 4, "prior_shape": (16, 8), "dropout": 0.5, "seed": 0}
    config.data.patch = 24
    parts = PairedParts(Twins(), config.data, CropConfig(first=[16, 20], until=0.5), **options)
    sides = [parts[4 * step]["x"].shape[-1] for step in range(10)]
    assert sides == [16, 16, 16, 20, 20, 24, 24, 24, 24, 24]
    items = [parts[number] for number in range(40)]
    assert all(torch.equal(item["x"], item["y"]) for item in items)
    assert 5 < sum(float(item["keep"]) for item in items) < 35
    assert torch.equal(parts[7]["noise"], items[7]["noise"])
    # Captures are new every second sample, until there are all.
    pairs, seen = SimulatedPairs(captures), set()
    for number in range(5):
        pairs.draw(number, np.random.default_rng(0))
        seen.add(len(list((tmp_path / "training").glob("sharp_*.bin"))))
    assert seen == {1, 2, 3}


def test_training_by_looks_needs_the_backbone_and_large_crops(photos, squeeze_backbone, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    wide = ["data.patch=32", "crops.first=[32]", "simulation.side=32", "lpips_weight=0.1"]
    assert main(_settings(photos, tmp_path / "run", *wide)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "lpips_weight=0.1 needs LPIPS" in line and "squeezenet1_1" in line
    assert main(_settings(photos, tmp_path / "run", "lpips_weight=0.1", f"lpips={squeeze_backbone}")) == 2
    assert "at least 32 for lpips_weight, got 16" in capsys.readouterr().err
    assert main(_settings(photos, tmp_path / "run", *wide, "optim.steps=1", f"lpips={squeeze_backbone}")) == 0
    # The backbone is no part of what is saved.
    weights = load_file(tmp_path / "run" / "checkpoints" / "step_00000001" / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"network"}


def test_weights_of_the_second_estimate_are_listed_by_their_gain(run, tmp_path, capsys, monkeypatch):
    from diffusion import VESDE, ScoreNetwork
    from train import second_estimate

    assert second_estimate.main([str(run), "--weights", str(run / "export")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    network = ScoreNetwork(channels=(4,), blocks=1, embedding=4)
    DefocusDeblurPipeline(network, VESDE()).save_pretrained(tmp_path / "plain")
    assert second_estimate.main([str(run), "--weights", str(tmp_path / "plain")]) == 1
    assert "expected a pipeline with a latent_prior, got one without" in capsys.readouterr().err
    prior = load_latent_prior(run / "export")
    DefocusDeblurPipeline(network, VESDE(), latent_prior=prior).save_pretrained(tmp_path / "whole")
    monkeypatch.setattr(second_estimate, "VARIANCES", (1.0, 4.0))
    monkeypatch.setattr(second_estimate, "FADES", (0.0,))
    arguments = [str(run), "--weights", str(tmp_path / "whole"), "--count", "2", "steps=2", "corrector=false"]
    assert second_estimate.main(arguments) == 0
    rows = capsys.readouterr().out.splitlines()
    gains = [float(row.partition("gain ")[2].split()[0]) for row in rows]
    assert len(rows) == 4 and gains == sorted(gains, reverse=True)
    # What has been trained for eight steps still returns the capture, nearly.
    (alone,) = [gain for row, gain in zip(rows, gains, strict=True) if row.startswith("regression alone")]
    assert abs(alone) < 1


def test_other_settings_are_no_continuation(run, photos, tmp_path, capsys):
    copy = tmp_path / "copy"
    rewind(run, copy, 6)
    assert main(_settings(photos, copy, "prior_dropout=0.5")) == 2
    assert "prior_dropout was 0.25 and is now 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        ("data.root=nowhere", 1, "nowhere: expected"),
        ("prior_dropot=0.1", 2, "prior_dropout"),
        ("network.blocks=[1]", 2, "network.blocks"),
        ("network.channels=[32,40]", 2, "multiples of 32 where there is attention, got 40"),
        ("pipeline=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("init=nowhere", 1, "nowhere: expected the folder of a saved pipeline"),
        ("stage=2", 2, "init must be the export of a run of stage 1"),
        ("crops.first=[32]", 2, "simulation.side must be at least the largest crop, 32, got 24"),
        ("simulation.buried=0.1", 2, "simulation.buried must be 0"),
    ],
)
def test_mistakes_are_one_line(photos, tmp_path, capsys, override, code, words):
    assert main(_settings(photos, tmp_path / "run", override)) == code
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and words in errors and errors.startswith("train/latent_prior.py: ")


def test_weights_of_another_size_or_a_later_stage_are_no_start(run, second, photos, tmp_path, capsys):
    assert main(_settings(photos, tmp_path / "run", "network.steps=3", f"init={run / 'export'}")) == 1
    assert "network.steps is 2 there and 3 here" in capsys.readouterr().err
    assert main(_settings(photos, tmp_path / "run", f"init={second / 'export'}")) == 1
    assert "expected a latent prior of stage 1, got one of stage 2" in capsys.readouterr().err


def test_the_presets_are_what_they_say():
    from dataclasses import asdict

    for file in sorted((PROJECT / "configs" / "latent_prior").glob("*.yaml")):
        config = load_config(LatentPriorConfig, file, ["data.root=a", "run.dir=b"])
        with torch.device("meta"):
            network = SwinDiff(**asdict(config.network))
        count = sum(parameter.numel() for parameter in network.parameters())
        if file.stem != "smoke":
            assert f"# {count / 1e6:.1f} M parameters" in file.read_text()
        if file.stem == "tiny":
            assert count <= 3e6
