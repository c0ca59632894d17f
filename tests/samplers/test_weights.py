import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from samplers.pipeline import DefocusDeblurPipeline
from samplers.weights import PROJECT, TENSORS, WeightsError, weights_folder


@pytest.fixture
def folder(saved_pipeline, tmp_path):
    """A copy that may be damaged."""
    return Path(shutil.copytree(saved_pipeline, tmp_path / "copy"))


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(folder, *words):
    with pytest.raises(WeightsError) as caught:
        DefocusDeblurPipeline.from_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message and "huggingface" not in message
    assert str(folder) in message
    for word in words:
        assert word in message, message


def test_the_loaded_network_is_the_saved_one(saved_pipeline):
    network = DefocusDeblurPipeline.from_pretrained(saved_pipeline).score_network
    saved = load_file(saved_pipeline / "score_network" / TENSORS)
    loaded = network.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert not network.training
    # Not saved, but made when the network is built.
    assert torch.isfinite(network.noise_embedding.frequencies).all()
    assert network(torch.zeros(1, 3, 8, 8), torch.tensor(0.1)).isfinite().all()


def test_half_precision_is_run_in_single(saved_pipeline, folder):
    file = folder / "score_network" / TENSORS
    half = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(half, file, {"format": "pt"})
    loaded = DefocusDeblurPipeline.from_pretrained(folder).score_network.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    assert all(torch.equal(loaded[name], half[name].float()) for name in half)


def test_loading_is_silent_and_leaves_the_logging_as_it_was(saved_pipeline, capfd):
    from diffusers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    DefocusDeblurPipeline.from_pretrained(saved_pipeline)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_a_name_is_found_from_the_current_folder_first_then_from_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert weights_folder("configs/deblur") == PROJECT / "configs/deblur"
    (tmp_path / "configs/deblur").mkdir(parents=True)
    assert weights_folder("configs/deblur").resolve() == (tmp_path / "configs/deblur").resolve()
    with pytest.raises(WeightsError, match="no/such: expected the folder"):
        weights_folder("no/such")


def test_a_folder_that_is_no_pipeline(tmp_path):
    refused(tmp_path, "model_index.json", "no such file")
    (tmp_path / "model_index.json").write_text("{")
    refused(tmp_path, "JSON")
    (tmp_path / "model_index.json").write_text("[]")
    refused(tmp_path, "list")
    (tmp_path / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    refused(tmp_path, "DefocusDeblurPipeline", "DDPMPipeline")


@pytest.mark.parametrize(
    ("part", "entry"),
    [("sde", ["os", "system"]), ("sde", ["diffusion.sde", "SDE"]), ("score_network", [None]), ("vae", ["a", "b"])],
)
def test_a_pipeline_of_other_parts(folder, part, entry):
    edit(folder / "model_index.json", **{part: entry})
    refused(folder, "model_index.json", part)


@pytest.mark.parametrize("file", ["model_index.json", "score_network/config.json", "sde/scheduler_config.json"])
def test_a_missing_config(folder, file):
    (folder / file).unlink()
    refused(folder, file, "no such file")


def test_an_unknown_config_key_names_the_nearest(folder):
    edit(folder / "score_network" / "config.json", sigma_dta=0.4)
    refused(folder, "'sigma_dta'", "'sigma_data'")


def test_an_unknown_key_of_the_sde(folder):
    edit(folder / "sde" / "scheduler_config.json", beta_min=0.4)
    refused(folder, "scheduler_config.json", "'beta_min'")


def test_values_that_make_no_network(folder):
    edit(folder / "score_network" / "config.json", channels="wide")
    refused(folder, "score_network", "config.json", "ScoreNetwork")


def test_values_that_make_no_sde(folder):
    edit(folder / "sde" / "scheduler_config.json", sigma_min=9.0)
    refused(folder, "scheduler_config.json", "sigma_min")


def test_tensors_of_another_architecture(folder):
    edit(folder / "score_network" / "config.json", channels=[8, 16])
    refused(folder, TENSORS, "another architecture", "down.0.bias: expected 16, got 8")
    edit(folder / "score_network" / "config.json", channels=[8, 8], blocks=2)
    refused(folder, "another architecture", "got none")


def test_a_tensor_too_many(folder):
    file = folder / "score_network" / TENSORS
    save_file({**load_file(file), "more.weight": torch.zeros(2)}, file, {"format": "pt"})
    refused(folder, "more.weight", "expected none")


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_truncated_tensors(folder, keep):
    file = folder / "score_network" / TENSORS
    file.write_bytes(file.read_bytes()[:keep])
    refused(folder, TENSORS, "damaged")


def test_tensors_that_are_not_finite(folder):
    file = folder / "score_network" / TENSORS
    tensors = load_file(file)
    tensors["stem.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    refused(folder, "NaN", "stem.weight")


def test_pickled_tensors_are_not_loaded(folder):
    file = folder / "score_network" / TENSORS
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    refused(folder, "diffusion_pytorch_model.bin", "pickle")
    file.with_suffix(".bin").unlink()
    refused(folder, TENSORS, "no such file")


def test_sums_are_verified_where_there_are_some(folder):
    file = folder / "score_network" / TENSORS
    name = file.relative_to(folder)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n")
    DefocusDeblurPipeline.from_pretrained(folder)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused(folder, str(name), "SHA256SUMS")
    file.unlink()
    refused(folder, str(name), "no such file")
