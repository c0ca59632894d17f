"""The command that mixes the weights of two networks."""

import os

import pytest
import torch
from command_line import files
from safetensors.torch import load_file
from training_runs import PROJECT

from diffusion.latent_prior import SwinDiff
from optics.defocus_map.network import DefocusMapNetwork
from samplers.weights import SUMS, load_defocus_map, load_latent_prior
from train.blend import main
from train.export import export_defocus_map, export_latent_prior

SMALL = dict(channels=(32, 32), blocks=(1, 1), windows=(0, 4), latent=8, encoder=8, steps=2, stage=2)


def _random(network, seed):
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two folders, each with a map network and, below `prior`, a latent prior of its own."""
    folders = [tmp_path_factory.mktemp("exports") / name for name in ("first", "second")]
    for seed, folder in enumerate(folders):
        export_defocus_map(_random(DefocusMapNetwork((4, 8), (1, 1), 2.0), seed), folder)
        export_latent_prior(_random(SwinDiff(**SMALL), seed), folder.with_name(folder.name + "-prior"))
    return folders


def _words(exports, tmp_path, part="defocus_map", share="0.25"):
    names = [str(folder) if part == "defocus_map" else f"{folder}-prior" for folder in exports]
    return [*names, "--part", part, "--share", share, "-o", str(tmp_path / "out")]


@pytest.mark.parametrize(("part", "load"), [("defocus_map", load_defocus_map), ("latent_prior", load_latent_prior)])
def test_weights_are_those_between(exports, tmp_path, part, load):
    words = _words(exports, tmp_path, part)
    assert main(words) == 0
    mixed, first, second = (load(folder).state_dict() for folder in (tmp_path / "out", *words[:2]))
    for name, values in mixed.items():
        torch.testing.assert_close(values, 0.75 * first[name] + 0.25 * second[name], rtol=1e-3, atol=1e-4)
    assert main(words) == 1, "nothing is overwritten"


@pytest.mark.parametrize(("share", "which"), [("0", 0), ("1", 1)])
def test_all_of_one_is_that_one(exports, tmp_path, share, which):
    assert main(_words(exports, tmp_path, share=share)) == 0
    # SHA256SUMS says what the other files hold.
    assert files(tmp_path / "out") == files(exports[which])
    assert (tmp_path / "out" / SUMS).read_text() == (exports[which] / SUMS).read_text()


@pytest.mark.skipif(os.name == "nt", reason="permissions are those of POSIX")
def test_others_may_read_an_export_as_they_may_other_files(exports):
    plain = exports[0].parent / "plain"
    plain.touch()
    modes = {file.stat().st_mode for file in exports[0].rglob("*") if file.is_file()}
    assert modes == {plain.stat().st_mode}


def test_of_a_whole_pipeline_the_rest_is_kept(tmp_path):
    small, base = (PROJECT / "weights" / name for name in ("small", "base"))
    words = [str(small), str(base), "--part", "latent_prior", "--share", "0", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    file = "latent_prior/diffusion_pytorch_model.safetensors"
    sums = [(folder / SUMS).read_text().splitlines() for folder in (tmp_path / "out", small)]
    rest, expected = ([line for line in lines if not line.endswith(file)] for lines in sums)
    assert rest == expected and len(rest) == len(sums[0]) - 1
    # Values rather than bytes: of two zeros one may become the other.
    mixed, ours = (load_file(folder / file) for folder in (tmp_path / "out", small))
    assert mixed.keys() == ours.keys() and all(torch.equal(mixed[key], ours[key]) for key in ours)


def test_mistakes_are_one_line(exports, tmp_path, capsys):
    other = tmp_path / "other"
    export_defocus_map(DefocusMapNetwork((4, 8), (1, 1), 3.0), other)
    for second, words in ((other, "simulation.largest_radius is 3.0 there and 2.0 here"), ("nowhere", "nowhere: ")):
        assert main([str(exports[0]), str(second), *_words(exports, tmp_path)[2:]]) == 1
        errors = capsys.readouterr().err
        assert errors.startswith("train/blend.py: ") and words in errors and len(errors.splitlines()) == 1
    export_latent_prior(SwinDiff(**SMALL | {"stage": 1}), tmp_path / "stage1")
    words = _words(exports, tmp_path, "latent_prior")
    assert main([words[0], str(tmp_path / "stage1"), *words[2:]]) == 1
    assert "expected stage 2, got 1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(_words(exports, tmp_path, share="1.5"))
    assert stopped.value.code == 2 and "expected a number from 0 to 1, got 1.5" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
