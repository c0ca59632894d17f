"""Pipelines with a network for the map: saved, loaded, chosen, and refused when something is wrong with it."""

import json
import shutil

import numpy as np
import pytest
import torch
from command_line import fails
from safetensors.torch import load_file, save_file

from diffusion import VESDE, ScoreNetwork
from optics import TYPICAL, UNKNOWN, Lens, UnknownLens, defocus_psf
from optics.defocus_map import EdgeEstimator, EvidenceEstimator, FusedEstimator, LearnedEstimator
from optics.defocus_map.network import DefocusMapNetwork
from optics.measured_psf import MeasuredPSF
from photos import read_map
from samplers import DefocusDeblurPipeline, SamplerSettings
from samplers import deblur as deblur_script
from samplers.map_estimators import MAP_ESTIMATORS, best_estimator, estimate_map, map_estimator
from samplers.weights import TENSORS, WeightsError, load_defocus_map


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(2)
    network = DefocusMapNetwork(channels=(4, 6), blocks=(1, 1)).eval()
    torch.nn.init.normal_(network.head.weight)
    return network


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    """The folder of a pipeline with a network for the map; not to be changed."""
    folder = tmp_path_factory.mktemp("weights") / "full"
    score = ScoreNetwork(channels=(4,), blocks=1, embedding=4)
    DefocusDeblurPipeline(score, VESDE(), network).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(weights, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(weights, tmp_path / "copy")


@pytest.fixture
def capture():
    squares = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).repeat_interleave(4, 2)
    return torch.nn.functional.avg_pool2d(squares.repeat_interleave(4, 3), 5, 1, 2)


def test_the_network_for_the_map_is_saved_with_the_pipeline(weights, network, capture):
    for loaded in (DefocusDeblurPipeline.from_pretrained(weights).defocus_map, load_defocus_map(weights)):
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(capture), network(capture))


def test_pipelines_without_one_load_as_before(saved_pipeline, folder):
    index = json.loads((saved_pipeline / "model_index.json").read_text())
    assert index["defocus_map"] == [None, None]
    assert DefocusDeblurPipeline.from_pretrained(saved_pipeline).defocus_map is None
    # As pipelines were saved before there were such networks.
    file = folder / "model_index.json"
    older = {key: value for key, value in json.loads(file.read_text()).items() if key != "defocus_map"}
    file.write_text(json.dumps(older))
    shutil.rmtree(folder / "defocus_map")
    assert DefocusDeblurPipeline.from_pretrained(folder).defocus_map is None


def test_the_best_estimator_is_the_default(network):
    assert best_estimator(None) == "evidence" and best_estimator(network) == "fused"
    classes = {
        "fused": FusedEstimator, "learned": LearnedEstimator, "evidence": EvidenceEstimator, "edges": EdgeEstimator,
    }  # fmt: skip
    assert tuple(classes) == MAP_ESTIMATORS == deblur_script.MAP_ESTIMATORS
    for name, expected in classes.items():
        assert type(map_estimator(name, network)) is expected
    assert map_estimator("fused", network, Lens(softness=0.3)).evidence.softness == 0.3
    assert map_estimator("edges", None, Lens(softness=0.3)).softness == 0.3
    assert map_estimator("learned", network, tile=96).tile == 96


def test_the_pipeline_uses_the_estimator_that_is_named(network, capture):
    pipeline = DefocusDeblurPipeline(ScoreNetwork(channels=(4,), blocks=1, embedding=4), VESDE(), network)
    settings = SamplerSettings(steps=2, corrector=False)
    for name in MAP_ESTIMATORS:
        # Noise that shows nothing of the lens.
        restored = pipeline(capture, map_estimator=name, settings=settings, noise_std=0.004)
        radius, confidence = map_estimator(name, network)(capture, 0.004)
        assert torch.equal(restored.radius_map, radius) and torch.equal(restored.confidence, confidence)
        if name == "fused":
            assert torch.equal(pipeline(capture, settings=settings, noise_std=0.004).radius_map, radius)


def test_the_map_is_estimated_again_by_the_lens_that_was_found(network, capture, monkeypatch):
    monkeypatch.setattr("samplers.map_estimators.choose_softness", lambda *_: 0.0)
    again = estimate_map(capture, 0.01, "evidence", network, UNKNOWN)
    assert all(map(torch.equal, again, map_estimator("evidence", None, Lens(softness=0.0))(capture, 0.01)))
    # What is known is not looked for.
    for lens in (TYPICAL, UnknownLens(softness=TYPICAL.softness)):
        known = estimate_map(capture, 0.01, "evidence", network, lens)
        assert all(map(torch.equal, known, map_estimator("evidence", None)(capture, 0.01)))


@pytest.mark.parametrize("name", MAP_ESTIMATORS)
def test_what_is_unknown_or_all_but_sharp_is_estimated_but_not_acted_upon(network, capture, name):
    estimator = map_estimator(name, network)
    least = {"fused": 0.2, "learned": 0.2, "evidence": 0.4, "edges": 0.25}[name]
    capture = torch.cat([capture, torch.full_like(capture, 0.5)], 3)  # half of it flat
    radius, confidence = estimator.estimate(capture, 0.01)
    acted, believed = estimator(capture, 0.01)
    assert torch.equal(believed, confidence) and radius.min() >= 0
    # 0 up to 0.8 px, from there three times as fast as the estimate until it has caught up with it at 1.2 px.
    expected = np.interp(radius, [0, 0.8, 1.2, 99], [0, 0, 1.2, 99]) * (confidence >= least).numpy()
    np.testing.assert_allclose(acted, expected, atol=1e-5)
    assert ((acted == 0) & (radius > 0)).any()
    plain = estimate_map(capture, 0.01, name, network, TYPICAL, plain=True)
    given = map_estimator(name, network, TYPICAL)
    assert all(map(torch.equal, plain, given.estimate(capture, 0.01)))
    assert all(map(torch.equal, estimate_map(capture, 0.01, name, network, TYPICAL), given(capture, 0.01)))


def test_an_estimator_that_is_not_there_is_named(saved_pipeline, capture):
    pipeline = DefocusDeblurPipeline.from_pretrained(saved_pipeline)
    with pytest.raises(ValueError, match="learned expects a pipeline with a defocus_map"):
        pipeline(capture, map_estimator="learned")
    with pytest.raises(ValueError, match="must be one of fused, learned"):
        pipeline(capture, map_estimator="oracle")


def test_a_damaged_network_is_refused(folder):
    file = folder / "defocus_map" / TENSORS
    tensors = load_file(file)
    for change, words in (
        ({"head.bias": torch.zeros(3)}, "head.bias"), ({"head.bias": torch.full((26,), torch.nan)}, "finite"),
    ):  # fmt: skip
        save_file(tensors | change, file, {"format": "pt"})
        for load in (DefocusDeblurPipeline.from_pretrained, load_defocus_map):
            with pytest.raises(WeightsError, match=words):
                load(folder)
    file.unlink()
    for load in (DefocusDeblurPipeline.from_pretrained, load_defocus_map):
        with pytest.raises(WeightsError, match="expected the network's tensors"):
            load(folder)


@pytest.mark.parametrize("entry", [["os", "system"], ["diffusion.score_network", "ScoreNetwork"], [None], "x"])
def test_only_our_own_class_is_loaded_for_the_map(folder, entry):
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"defocus_map": entry}))
    with pytest.raises(WeightsError, match="as defocus_map"):
        DefocusDeblurPipeline.from_pretrained(folder)


def test_an_unknown_key_of_its_config_is_named(folder):
    file = folder / "defocus_map" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"blockz": [1, 1]}))
    with pytest.raises(WeightsError, match="'blocks'"):
        DefocusDeblurPipeline.from_pretrained(folder)


def test_the_command_line_chooses(deblur, photo, weights, out):
    for name in ("fused", "learned", "evidence"):
        assert deblur(photo, "--map-estimator", name, "--overwrite", weights=weights)[0] == 0
        assert name in (out / "cat.png_report.html").read_text()
    assert deblur(photo, "--overwrite", weights=weights)[0] == 0
    assert "fused" in (out / "cat.png_report.html").read_text()


def test_swin_diff_takes_the_map_that_the_sampler_takes(deblur, photo, weights, saved_prior, out, folder):
    shutil.copytree(saved_prior / "latent_prior", folder / "latent_prior")

    def radii(*options, weights, **settings):
        assert deblur(photo, *options, "--overwrite", weights=weights, **settings)[0] == 0
        return read_map(out / "cat.png_defocus.tif")

    for options in ((), ("--map-estimator", "learned"), ("--map-estimator", "edges")):
        expected = radii(*options, weights=weights)
        alone = radii("--method", "swin-diff", *options, weights=folder, settings=())
        np.testing.assert_array_equal(alone, expected)
        assert (options or ("fused",))[-1] in (out / "cat.png_report.html").read_text()
    options = ("--method", "swin-diff", "--map-estimator", "fused", "--overwrite")
    refused = deblur(photo, *options, weights=saved_prior, settings=())
    fails(refused, 2, "--map-estimator fused", saved_prior, "without")


@pytest.mark.parametrize("cells", [1, 6])
def test_measured_psfs_of_wide_reach_are_taken_where_the_map_is_estimated(deblur, photo, weights, out, tmp_path, cells):
    # Disks in a faint halo: at the largest radius that `fused` considers they are wider than the smallest windows'
    # spectra are finely sampled.
    kernel = (0.98 * defocus_psf(5.0, reach=22) + 0.02 * defocus_psf(14.0, softness=1.0, reach=22)).numpy()
    assert 2 * MeasuredPSF(kernel).reach(16.0) + 1 > 64
    np.save(tmp_path / "psf.npy", np.stack([kernel] * cells) if cells > 1 else kernel)
    grid = ("--psf-grid", "2x3") if cells > 1 else ()
    code, _, errors = deblur(photo, "--psf", tmp_path / "psf.npy", *grid, weights=weights)
    assert (code, errors) == (0, [])
    assert "measured" in (out / "cat.png_report.html").read_text()


def test_a_choice_that_cannot_be_is_a_usage_error(deblur, photo, out, tmp_path):
    fails(deblur(photo, "--map-estimator", "learned"), 2, "--map-estimator learned", "without")
    fails(deblur(photo, "--method", "tv", "--map-estimator", "evidence"), 2, "--map-estimator", "--method score")
    fails(deblur(photo, "--map-estimator", "evidence", "--defocus-map", tmp_path / "m.tif"), 2, "--defocus-map")
    assert not out.exists()
