"""The benchmark command on tiny folders: figures, resuming, splitting, bad input."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from evaluation import benchmark
from evaluation.methods import METHODS, MethodUnavailable, Restored
from evaluation.metrics import psnr
from evaluation.simulated import simulations
from samplers.claims import claimed

PROJECT = Path(benchmark.__file__).resolve().parent.parent
SIMULATED = str(PROJECT / "configs" / "benchmark" / "simulated.yaml")
TIMES = ("seconds", "peak_memory_mib")


def _blocks(seed, height, width):
    """A picture of coloured blocks: sharp edges."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return cells.repeat(16, 0).repeat(16, 1)[:height, :width]


def _results(out):
    return json.loads((out / "results.json").read_text())


def _without_times(item):
    if isinstance(item, dict):
        return {key: _without_times(value) for key, value in item.items() if key not in (*TIMES, "out")}
    return [_without_times(value) for value in item] if isinstance(item, list) else item


def assert_same(one, other):
    """Equal but for rounding: sums over pixels depend on the number of threads in their last digits."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-7)
    else:
        assert one == other


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharp")
    for seed, name in enumerate(["first.png", "second.png"]):
        Image.fromarray(_blocks(seed, 288, 290)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def run(sharp, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results"
    arguments = [f"data.root={sharp}", "data.count=1", "methods=[input,wiener]", "map=true"]
    assert benchmark.main([SIMULATED, *arguments, f"out={out}"]) == 0
    return arguments, out


def test_command_writes_every_figure(run, sharp):
    _, out = run
    results = _results(out)
    assert results["schema_version"] == 2
    assert results["seed"] == 0
    assert {"python", "torch", "diffusers", "numpy"} <= set(results["versions"])
    assert set(results["git"]) == {"commit", "dirty"}
    # Those of the settings, whether or not a method has use for them: others may be added.
    assert {"score_network", "latent_prior"} <= {name.partition("/")[0] for name in results["weights_sha256"]}
    assert results["protocol"]["crop"] == 272 and results["protocol"]["noise_std"] == 0.01
    assert "16x supersampled" in results["protocol"]["description"]
    assert [(row["group"], row["column"]) for row in results["rows"]] == [
        (group, column) for group in ("ramp", "step", "constant") for column in ("input", "wiener-true-map")
    ]
    unchanged, wiener = results["summary"]
    assert (unchanged["column"], unchanged["map"], unchanged["gain"]["psnr"]) == ("input", None, 0)
    assert (wiener["method"], wiener["map"], wiener["pictures"]) == ("wiener", "true", 3)
    assert wiener["gain_by_group"]["constant"] > 1
    assert wiener["peak_memory_mib"] > 50
    first = simulations(sharp)[0].capture()
    assert results["rows"][0]["metrics"]["psnr"] == pytest.approx(psnr(first.y, first.x))


def test_figures_are_those_of_the_pictures_that_were_written(run):
    _, out = run
    for row in _results(out)["rows"]:
        restored, reference = (
            np.asarray(Image.open(out / row["pictures"][key])) / 255 for key in ("restored", "reference")
        )
        whole = structural_similarity(
            restored, reference, channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert row["metrics"]["psnr"] == pytest.approx(
            peak_signal_noise_ratio(reference, restored, data_range=1), abs=1e-4
        )
        assert row["metrics"]["ssim"] == pytest.approx(whole, abs=1e-4)
        uniform = structural_similarity(restored, reference, channel_axis=2, data_range=1)
        assert row["metrics"]["ssim_uniform"] == pytest.approx(uniform, abs=1e-4)
        assert row["metrics"]["mae"] == pytest.approx(np.abs(restored - reference).mean(), abs=1e-5)


def test_command_writes_tables_and_pages(run):
    _, out = run
    page = (out / "results.md").read_text()
    assert "| wiener-true-map |" in page and "3 pictures" in page
    assert "wiener-true-map" in (out / "report.html").read_text()
    assert list((out / "contact_sheets").glob("*.png"))
    assert not list(out.rglob("*.part"))


def test_an_interrupted_run_goes_on(run, tmp_path, monkeypatch, capsys):
    """A run that is killed in the middle of a line does not measure the finished pictures again."""
    arguments, whole = run
    out = tmp_path / "results"
    made = METHODS["wiener"]

    def failing(config, device):
        method, calls = made(config, device), []

        class Failing:
            takes_map = True

            def __call__(self, *given):
                calls.append(1)
                if len(calls) == 2:
                    raise KeyboardInterrupt
                return method(*given)

        return Failing()

    monkeypatch.setitem(METHODS, "wiener", failing)
    assert benchmark.main([SIMULATED, *arguments, f"out={out}"]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "evaluation/benchmark.py: interrupted; the same command, without overwrite=true, goes on"
    rows = out / "rows-000.jsonl"
    assert len([line for line in rows.read_text().splitlines() if line]) == 3  # Input, restored, next input.
    with rows.open("a") as file:
        file.write('{"set": "half a li')
    times = []

    def counting(config, device):
        method = made(config, device)

        class Counting:
            takes_map = True

            def __call__(self, *given):
                times.append(given[0].group)
                return method(*given)

        return Counting()

    monkeypatch.setitem(METHODS, "wiener", counting)
    assert benchmark.main([SIMULATED, *arguments, f"out={out}"]) == 0
    assert times == ["step", "constant"]
    assert _without_times(_results(out)) == _without_times(_results(whole))


def test_a_second_run_measures_nothing_and_changes_nothing(run):
    arguments, out = run
    before = _results(out)
    assert benchmark.main([SIMULATED, *arguments, f"out={out}"]) == 0
    assert _results(out) == before


def test_other_settings_do_not_mix_with_earlier_figures(run, capsys):
    arguments, out = run
    before = (out / "results.json").read_bytes()
    assert benchmark.main([SIMULATED, *arguments, "seed=3", f"out={out}"]) == 1
    error = capsys.readouterr().err
    assert "seed was 0, now 3" in error and "overwrite=true" in error
    assert (out / "results.json").read_bytes() == before


def test_two_commands_do_not_write_into_one_folder(run, capsys):
    arguments, out = run
    before = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    with claimed(out / "rows-000.jsonl"):
        assert benchmark.main([SIMULATED, *arguments, "overwrite=true", f"out={out}"]) == 1
    assert "rows-000.jsonl: expected to be the only process at work on it" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == before
    assert not list(out.glob(".*"))


def test_two_processes_share_the_pictures(run, tmp_path):
    arguments, whole = run
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, PROJECT / "evaluation" / "benchmark.py", SIMULATED, *arguments, "device=cpu",
             f"out={tmp_path / 'results'}"],
            env={**os.environ, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    measured = [len((tmp_path / "results" / f"rows-{rank:03d}.jsonl").read_text().split("\n\n")) for rank in range(2)]
    assert measured == [4, 2]
    ours, theirs = (_without_times(_results(out)) for out in (tmp_path / "results", whole))
    for result in (ours, theirs):
        del result["settings"]["device"], result["threads"]
    assert_same(ours, theirs)


def test_a_method_that_cannot_run_is_skipped_with_its_reason(run, tmp_path, monkeypatch, capsys):
    arguments, _ = run

    def unavailable(config, device):
        raise MethodUnavailable("needs the package nowhere")

    monkeypatch.setitem(METHODS, "wiener", unavailable)
    assert benchmark.main([SIMULATED, *arguments, "pictures=false", f"out={tmp_path}"]) == 0
    assert "wiener is not run: needs the package nowhere" in capsys.readouterr().err
    results = _results(tmp_path)
    assert results["skipped"] == [{"method": "wiener", "reason": "needs the package nowhere"}]
    assert {row["column"] for row in results["rows"]} == {"input"}
    assert "Not run: `wiener`" in (tmp_path / "results.md").read_text()


def test_restored_pictures_are_rounded_before_they_are_measured(run, tmp_path, monkeypatch):
    arguments, _ = run

    class Nearly:
        takes_map = False

        def __call__(self, capture, radius_map, generator):
            return Restored(capture.x + 0.4 / 255, None, 0)

    monkeypatch.setitem(METHODS, "wiener", lambda config, device: Nearly())
    assert benchmark.main([SIMULATED, *arguments, "pictures=false", f"out={tmp_path}"]) == 0
    row = _results(tmp_path)["rows"][1]
    assert row["equal"] and not row["input_equal"] and row["metrics"]["psnr"] is None and row["metrics"]["mae"] == 0
    assert row["pictures"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data.root=.", "metods=[tv]"], "did you mean 'methods'"),
        (["data.root=.", "methods=[tvv]"], "tvv"),
        (["data.root=.", "metrics=[psnr,ssim2]"], "ssim2"),
        (["data.root=.", "data.protocol=real", "map=true"], "no true map"),
        (["data.root=.", "data.count=0"], "data.count"),
        (["data.root=.", "seed=99999999999999999999999"], "seed must be from 0 to 2^63 - 1, got 9999999"),
        (["data.root=.", "seed=9223372036854775808"], "seed must be from 0 to 2^63 - 1"),
        (["data.root=.", "seed=-1"], "seed must be from 0 to 2^63 - 1, got -1"),
        ([], "data.root"),
        (["data.root=.", "device=nonsense"], "device=nonsense: expected a device of this machine, got an error: "),
    ],
)
def test_mistakes_exit_with_2(arguments, words, tmp_path, capsys):
    assert benchmark.main([*arguments, f"out={tmp_path}"]) == 2
    assert words in capsys.readouterr().err


def test_missing_photos_weights_and_results_exit_with_1(tmp_path, sharp, capsys):
    assert benchmark.main(["methods=[input]", f"data.root={tmp_path / 'none'}", f"out={tmp_path}"]) == 1
    assert "none" in capsys.readouterr().err
    assert benchmark.main([f"data.root={sharp}", "methods=[score]", "weights=absent", f"out={tmp_path}"]) == 1
    assert "absent" in capsys.readouterr().err
    (tmp_path / "made").mkdir()
    Image.new("RGB", (272, 272)).save(tmp_path / "made" / "second.png")
    assert benchmark.main([f"data.root={sharp}", f"methods=[folder:{tmp_path / 'made'}]", f"out={tmp_path}"]) == 1
    assert "first" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_folders_of_one_name_would_share_a_column(sharp, tmp_path, capsys):
    folders = []
    for program in ("ifan", "drbnet"):
        shutil.copytree(sharp, tmp_path / program / "out")
        folders.append(f"folder:{tmp_path / program / 'out'}")
    arguments = [SIMULATED, f"data.root={sharp}", f"methods=[{','.join(folders)}]", f"out={tmp_path / 'results'}"]
    assert benchmark.main(arguments) == 2
    message = "methods must be folders with different last names, got two whose column is folder-out"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.fixture
def paired(tmp_path):
    """A set with one whole pair and one whose mask is the left half."""
    truth = _blocks(3, 40, 60)
    blurred = (truth.astype(int) * 3 // 4).astype(np.uint8)
    blurred[:, 30:] = truth[:, 30:]
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[:, :30] = 255
    pair = {"blurred": blurred, "sharp": truth}
    for name, folders in {"one": pair, "two": {**pair, "blur_mask": mask}}.items():
        for folder, picture in folders.items():
            (tmp_path / name / folder).mkdir(parents=True)
            Image.fromarray(picture).save(tmp_path / name / folder / "a.png")
    return tmp_path, truth / 255, blurred / 255


def test_real_captures_are_scored_whole_or_inside_their_mask(paired, tmp_path):
    root, truth, blurred = paired
    out = tmp_path / "out"
    arguments = ["data.protocol=real", "methods=[input]", f"data.root={root}", f"out={out}"]
    assert benchmark.main(arguments) == 0
    whole, inside = _results(out)["rows"]
    assert (whole["set"], inside["set"]) == ("one", "two")
    error = (truth - blurred) ** 2
    assert whole["metrics"]["psnr"] == pytest.approx(-10 * np.log10(error.mean()), abs=1e-4)
    assert inside["metrics"]["psnr"] == pytest.approx(-10 * np.log10(error[:, :30].mean()), abs=1e-4)
    assert inside["metrics"]["mae"] == pytest.approx(np.abs(truth - blurred)[:, :30].mean(), rel=1e-4)
    assert [summary["set"] for summary in _results(out)["summary"]] == ["one", "two"]
