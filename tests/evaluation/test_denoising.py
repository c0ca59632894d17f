"""The measurement of score networks as denoisers, against a network whose error is known."""

import json
import math

import numpy as np
import pytest
import torch
from fake_sets import write_png
from safetensors.torch import load_file

from diffusion import ScoreNetwork
from evaluation.denoising import denoise, main


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        write_png(tmp_path / "photos" / f"{name}.png", rng.integers(100, 156, (40, 56, 3), dtype=np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def weights(tmp_path):
    """Untrained networks: they shrink the noisy photo by c_skip and add nothing."""
    for name, channels in (("one", (4, 6)), ("two", (6, 8))):
        network = ScoreNetwork(channels=channels, blocks=1, embedding=8)
        network.save_pretrained(tmp_path / name / "score_network")
    return tmp_path


def test_the_network_is_told_the_noise_in_its_own_units():
    seen = {}

    def network(x, sigma):
        seen.update(x=x, sigma=float(sigma))
        return x

    y = torch.tensor([-0.2, 0.5, 1.3]).reshape(1, 3, 1, 1)
    restored = denoise(network, y, 0.1)
    assert seen["sigma"] == pytest.approx(0.2)
    # The noise is not clipped before the network, only after it.
    assert torch.allclose(seen["x"].flatten(), torch.tensor([-1.4, 0.0, 1.6]))
    assert torch.allclose(restored.flatten() * 255, torch.tensor([0.0, 128.0, 255.0]))


def test_figures_are_those_of_noise_shrunk_as_the_untrained_network_does(photos, weights, tmp_path):
    out = tmp_path / "out"
    names = [str(weights / "one"), str(weights / "two")]
    assert main([str(photos), "-o", str(out), "--weights", ",".join(names), "--levels", "15,40"]) == 0
    results = json.loads((out / "denoising.json").read_text())
    assert [row["photo"] for row in results["rows"][::4]] == ["a.png", "b.png"]
    for entry in results["summary"]:
        # The photo, whose mean is grey, is shrunk with its noise by c_skip.
        std = entry["level"] / 255
        kept = 0.25 / (0.25 + 4 * std**2)
        photo = ((56**2 - 1) / 12) / 255**2
        mse = kept**2 * std**2 + (1 - kept) ** 2 * photo
        assert entry["mean"] == pytest.approx(-10 * math.log10(mse), abs=0.15)
        low, high = entry["interval_95"]
        assert low <= entry["mean"] <= high
    # Neither has learnt anything, and both saw the same noise.
    first, second = ([row["psnr"] for row in results["rows"] if row["weights"] == name] for name in names)
    assert first == second
    assert results["networks"][0]["parameters"] < results["networks"][1]["parameters"]
    tensors = load_file(weights / "one" / "score_network" / "diffusion_pytorch_model.safetensors")
    assert results["networks"][0]["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert (out / "denoising.md").read_text().count(" [") == 4


def test_the_seed_decides_and_nothing_else(photos, weights, tmp_path):
    def psnr(out, *options):
        assert main([str(photos), "-o", str(tmp_path / out), "--weights", str(weights / "one"), *options]) == 0
        return [row["psnr"] for row in json.loads((tmp_path / out / "denoising.json").read_text())["rows"]]

    first = psnr("a")
    assert len(first) == 6 and first == psnr("b") and first[:3] == psnr("c", "--count", "1")
    assert first != psnr("d", "--seed", "1")
    # Neither do other levels matter.
    assert psnr("e", "--levels", "30") == first[1::3]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--weights", "nowhere"], 2, "nowhere: expected the folder of a saved pipeline"),
        (["--weights", "weights/small", "--levels", "15,x"], 2, "--levels: expected numbers above 0"),
        (["--weights", "weights/small", "--levels", "256"], 2, "--levels: expected numbers above 0 and up to 255"),
        (["--weights", "weights/small", "--count", "0"], 2, "--count: expected at least 1, got 0"),
        (["--weights", "weights/small", "--seed", "-1"], 2, "--seed: expected 0 or more, got -1"),
    ],
)
def test_bad_input_is_one_sentence(photos, tmp_path, capsys, options, code, message):
    try:
        got = main([str(photos), "-o", str(tmp_path / "out"), *options])
    except SystemExit as error:
        got = error.code
    assert got == code and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_photo_that_cannot_be_read_stops_no_other(photos, weights, tmp_path, capsys):
    def run(out):
        code = main([str(photos), "-o", str(tmp_path / out), "--weights", str(weights / "one")])
        return code, json.loads((tmp_path / out / "denoising.json").read_text())

    _, whole = run("whole")
    (photos / "a.png").write_bytes(b"no picture")
    code, results = run("out")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("evaluation/denoising.py: ")]
    assert code == 1 and len(lines) == 1 and "a.png" in lines[0]
    assert results["settings"]["photos"] == 1
    # The other's place, and with it its noise, is what it was.
    assert [row["psnr"] for row in results["rows"]] == [row["psnr"] for row in whole["rows"] if row["photo"] == "b.png"]
    (photos / "b.png").write_bytes(b"none either")
    assert main([str(photos), "-o", str(tmp_path / "none"), "--weights", str(weights / "one")]) == 1
    assert "photos: expected photos that can be read, got none" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_results_in_place_of_a_file_are_refused_before_anything_is_measured(
    photos, weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("evaluation.denoising.denoise", lambda *given: pytest.fail("measured"))
    (tmp_path / "out").write_text("mine")
    assert main([str(photos), "-o", str(tmp_path / "out"), "--weights", str(weights / "one")]) == 1
    assert f"{tmp_path / 'out'}: expected a folder or nothing there, got a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"
    (tmp_path / "folder" / "denoising.json").mkdir(parents=True)
    assert main([str(photos), "-o", str(tmp_path / "folder"), "--weights", str(weights / "one")]) == 1
    assert "denoising.json: expected the name of a file to write, got a folder" in capsys.readouterr().err

    def no_place(dir):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", no_place)
    assert main([str(photos), "-o", str(tmp_path / "full"), "--weights", str(weights / "one")]) == 1
    assert "full: expected a folder that can be written into, got No space left on device" in capsys.readouterr().err


def test_a_folder_without_photos_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "-o", str(tmp_path / "out"), "--weights", "weights/small"]) == 1
    assert "empty" in capsys.readouterr().err


def test_what_comes_out_exactly_has_no_figure(tmp_path, weights):
    # Flat grey is what an untrained network makes of it, and rounding takes the faint noise away.
    write_png(tmp_path / "photos" / "grey.png", np.full((20, 20, 3), 128, np.uint8))
    out = tmp_path / "out"
    command = [str(tmp_path / "photos"), "-o", str(out), "--weights", str(weights / "one"), "--levels", "0.001,30"]
    assert main(command) == 0

    def refused(name):
        raise AssertionError(f"{name} is no JSON")

    results = json.loads((out / "denoising.json").read_text(), parse_constant=refused)
    exact, noisy = results["summary"]
    assert exact["mean"] is None and exact["interval_95"] is None and noisy["mean"] > 20
    assert results["rows"][0]["psnr"] is None
    assert "| infinite |" in (out / "denoising.md").read_text()
