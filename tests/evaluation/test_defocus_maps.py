"""Figures of defocus maps against other computations, and the command that measures estimators."""

import json

import numpy as np
import pytest
import torch
from fake_sets import write_png
from scipy.stats import spearmanr

from evaluation.defocus_maps import main
from evaluation.map_figures import area_under_curve, radius_errors, rank_correlation
from evaluation.map_protocols import PROTOCOLS
from optics import TYPICAL, UNKNOWN, estimate_noise_std
from optics.defocus_map import EvidenceEstimator
from samplers.map_estimators import estimate_map


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _photo(rng, size):
    return rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.fixture
def photos(rng, tmp_path):
    for name in "ab":
        write_png(tmp_path / "photos" / f"{name}.png", _photo(rng, (328, 336)))
    return tmp_path / "photos"


@pytest.fixture
def network(tmp_path):
    from optics.defocus_map.network import DefocusMapNetwork

    DefocusMapNetwork(channels=(4, 6), blocks=(1, 1)).save_pretrained(tmp_path / "weights" / "defocus_map")
    return tmp_path / "weights"


def test_rank_correlation_is_spearmans(rng):
    a, b = rng.random((9, 13)), rng.integers(0, 5, (9, 13))
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)
    assert rank_correlation(a, np.exp(3 * a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.ones_like(a)) == 0


def test_the_area_is_the_share_of_pairs_in_the_right_order(rng):
    values, positive = rng.integers(0, 6, 80).astype(float), rng.random(80) < 0.3
    pairs = values[positive][:, None] - values[~positive][None]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert area_under_curve(values, positive) == pytest.approx(expected, abs=1e-12)
    for kind in (np.zeros(80, bool), np.ones(80, bool)):
        with pytest.raises(ValueError, match="only one kind"):
            area_under_curve(values, kind)


def test_errors_are_those_of_the_radius():
    truth = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    radius = truth + torch.tensor([[[[0.5, -0.5], [2.0, 0.0]]]])
    confidence = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert radius_errors(radius, confidence, truth) == {
        "error_px": 0.75, "bias_px": 0.5, "trusted_error_px": 0.25, "confident_half_error_px": 0.25,
        "too_large": 0.25, "confidence": 0.5,
    }  # fmt: skip


def test_the_more_confident_half_has_half_of_the_pixels_whatever_their_ties(rng):
    truth, error = torch.zeros(1, 1, 4, 6), torch.from_numpy(rng.random((1, 1, 4, 6)))
    distinct = torch.from_numpy(rng.permutation(24)).double().reshape(error.shape)
    half = radius_errors(error, distinct, truth)["confident_half_error_px"]
    assert half == pytest.approx(float(error[distinct >= 12].mean()), abs=1e-12)
    # Eight are surest, twelve alike: four of these belong to the half, and which nobody knows.
    tied = (distinct >= 16).double() + (distinct >= 4)
    expected = (error[tied == 2].sum() + 4 * error[tied == 1].mean()) / 12
    assert radius_errors(error, tied, truth)["confident_half_error_px"] == pytest.approx(float(expected), abs=1e-12)
    assert radius_errors(error, 0 * tied, truth)["confident_half_error_px"] == pytest.approx(float(error.mean()))


def test_simulated_captures_are_measured_against_their_own_maps(photos, network, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["simulated", str(photos), "-o", str(out), "--weights", str(network), "--count", "1"]) == 0
    results = json.loads((out / "defocus_maps.json").read_text())
    assert [row["group"] for row in results["rows"][::4]] == ["ramp", "step", "constant", "mismatched"]
    assert {row["method"] for row in results["rows"]} == {"fused", "learned", "evidence", "edges"}
    assert results["weights_sha256"].keys() == {"defocus_map/diffusion_pytorch_model.safetensors"}
    # A network that knows nothing gives one radius, which nobody acts upon: the error is then the mean of the radii.
    untold = {row["group"]: row for row in results["rows"] if row["method"] == "learned"}
    assert untold["ramp"]["acted_upon"] == pytest.approx(3, abs=1e-4)
    assert untold["constant"]["acted_upon"] == pytest.approx(3)
    guess = 3 + untold["constant"]["bias_px"]
    assert 2 < guess < 3 and untold["ramp"]["error_px"] == pytest.approx((guess**2 + (6 - guess) ** 2) / 12, abs=1e-3)
    told = {row["group"]: row["error_px"] for row in results["rows"] if row["method"] == "evidence"}
    assert told["constant"] < 0.6
    printed = capsys.readouterr().out
    assert "| evidence | error_px |" in printed and printed.strip() == (out / "defocus_maps.md").read_text().strip()


def test_a_figure_that_no_capture_has_is_left_out(photos, tmp_path, monkeypatch, capsys):
    def undefined(radius, confidence, truth):
        return radius_errors(radius, 0 * confidence, truth)

    monkeypatch.setattr("evaluation.map_figures.radius_errors", undefined)
    arguments = ["--methods", "evidence", "--count", "1"]
    assert main(["simulated", str(photos), "-o", str(tmp_path / "out"), *arguments]) == 0
    results = json.loads((tmp_path / "out" / "defocus_maps.json").read_text(), parse_constant=pytest.fail)
    assert all(row["trusted_error_px"] is None and row["error_px"] >= 0 for row in results["rows"])
    assert "trusted_error_px" not in {entry["figure"] for entry in results["summary"]}


def test_estimators_are_measured_as_the_pipeline_uses_them(photos, tmp_path):
    arguments = ["--methods", "evidence,evidence-once", "--count", "1"]
    assert main(["simulated", str(photos), "-o", str(tmp_path / "out"), *arguments]) == 0
    rows = json.loads((tmp_path / "out" / "defocus_maps.json").read_text())["rows"]
    got = {row["method"]: row["error_px"] for row in rows if row["group"] == "constant"}
    case = next(case for case in PROTOCOLS["simulated"].cases(photos, 1, 1) if case.group == "constant")
    acted_upon = {row["method"]: row["acted_upon"] for row in rows if row["group"] == "constant"}
    noise_std, once = estimate_noise_std(case.y), EvidenceEstimator(softness=TYPICAL.softness)
    found = estimate_map(case.y, noise_std, "evidence", None, UNKNOWN, plain=True)
    assert got == {
        name: case.figures(*maps)["error_px"]
        for name, maps in (("evidence", found), ("evidence-once", once.estimate(case.y)))
    }
    found = estimate_map(case.y, noise_std, "evidence", None, UNKNOWN)
    assert acted_upon == {
        name: case.figures(*maps)["error_px"] for name, maps in (("evidence", found), ("evidence-once", once(case.y)))
    }
    # Disks in noise that is seen: the PSF is found, and the second estimate is the better one.
    assert got["evidence"] < got["evidence-once"]


def test_published_maps_are_compared_by_rank_whatever_their_scale_and_sign(rng, tmp_path):
    size = (96, 112)
    ramp = np.linspace(0, 200, size[1]).astype(np.uint8) * np.ones((size[0], 1), np.uint8)
    for part, picture in (
        ("blurred", rng.integers(0, 65536, size).astype(np.uint16)),
        ("sharp", rng.integers(1, 65536, size).astype(np.uint16)), ("defocus_map", ramp),
    ):  # fmt: skip
        write_png(tmp_path / "pixel4_dp" / part / "1.png", picture.reshape(size))
    (case,) = PROTOCOLS["pixel4_dp"].cases(tmp_path / "pixel4_dp", None, 1)
    assert case.y.shape == (1, 3, 48, 56)
    falling = torch.linspace(5, 1, 56).expand(1, 1, 48, 56).contiguous()
    figures = case.figures(falling, torch.ones(1, 1, 48, 56))
    assert figures["rank_correlation"] == pytest.approx(1) and figures["signed"] == pytest.approx(-1)
    # The border does not count.
    falling[..., :20] = 0
    assert case.figures(falling, torch.ones(1, 1, 48, 56))["rank_correlation"] == pytest.approx(1)


def test_masks_are_separated_by_the_radius(rng, tmp_path):
    folder = tmp_path / "cuhk_noref"
    mask = np.zeros((24, 32), np.uint8)
    mask[:, 16:] = 255
    for name, picture in (("1", mask), ("2", np.zeros_like(mask))):
        write_png(folder / "blurred" / f"{name}.png", _photo(rng, (24, 32)))
        write_png(folder / "mask" / f"{name}.png", picture)
    (case,) = PROTOCOLS["cuhk"].cases(folder, None, 1)
    assert case.name == "1"
    radius = torch.from_numpy(mask / 100).float()[None, None]
    assert case.figures(radius, torch.ones(1, 1, 24, 32))["area_under_curve"] == 1
    assert case.figures(-radius, torch.ones(1, 1, 24, 32))["area_under_curve"] == 0
    assert case.figures(0 * radius, torch.ones(1, 1, 24, 32))["area_under_curve"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["simulated", "nowhere", "-o", "out"], 1, "nowhere"),
        (["cuhk", "photos", "-o", "out"], 1, "photos: expected"),
        (["simulated", "photos", "-o", "out", "--weights", "nowhere"], 2, "nowhere: expected"),
        (["simulated", "photos", "-o", "out", "--methods", "fused"], 2, "fused expects"),
        (["simulated", "photos", "-o", "out", "--methods", "guess"], 2, "map_estimator must be one of"),
        (["simulated", "photos", "-o", "out", "--methods", "edges,fused-once"], 2, "fused expects"),
        (["simulated", "photos", "-o", "out", "--methods", ","], 2, "--methods: expected some of fused, learned, evid"),
        (["simulated", "photos", "-o", "out", "--methods", "edges,"], 2, "got '' as a name"),
        (["simulated", "photos", "-o", "out", "--methods", "edges,-once"], 2, "got '-once' as a name"),
        (["simulated", "photos", "-o", "out", "--weights", "photos"], 2, "expected a folder defocus_map"),
    ],
)
def test_mistakes_are_one_line(photos, tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and errors.startswith("evaluation/defocus_maps.py: ") and words in errors
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_results_is_tried_before_anything_is_measured(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("samplers.map_estimators.estimate_map", lambda *given, **more: pytest.fail("measured"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out" / "defocus_maps.md").mkdir(parents=True)
    for out, words in (("file", "expected a folder"), ("out", "defocus_maps.md: expected the name of a file")):
        assert main(["simulated", str(photos), "-o", str(tmp_path / out), "--methods", "edges"]) == 1
        assert words in capsys.readouterr().err
