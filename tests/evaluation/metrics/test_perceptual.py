"""LPIPS and DISTS: a published value, hand computation, and what is said where weights are missing."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.metrics import DISTS, LPIPS

# Indices of the layers of torchvision's backbones after which LPIPS compares.
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(1, 3, 64, 72, generator=generator) for _ in range(2))


def _random_backbone(net):
    from torchvision import models

    torch.manual_seed(0)
    if net == "alex":
        return models.alexnet().features
    return models.vgg.make_layers(models.vgg.cfgs["D"])


@pytest.mark.parametrize("net", TAPS)
def test_lpips_is_the_weighted_distance_of_unit_features(net, pair, tmp_path):
    lpips = pytest.importorskip("lpips")
    backbone = _random_backbone(net)
    torch.save(backbone.state_dict(), tmp_path / ("alexnet_features.pth" if net == "alex" else "vgg16_features.pth"))
    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth", map_location="cpu")
    heads = list(heads.values())
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    features = [(2 * picture - 1 - mean[:, None, None]) / std[:, None, None] for picture in pair]
    expected = 0.0
    with torch.no_grad():
        for index, layer in enumerate(backbone):
            features = [layer(values.clone()) for values in features]
            if index in TAPS[net]:
                first, second = (values / values.square().sum(1, keepdim=True).sqrt() for values in features)
                expected += float(((first - second).square() * heads[TAPS[net].index(index)]).sum(1).mean())
    distance = LPIPS(net, tmp_path)
    assert distance.reason is None
    assert distance(*pair) == pytest.approx(expected, rel=1e-4)
    assert distance(pair[0], pair[0]) == 0


def test_lpips_without_weights_gives_none_and_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    distance = LPIPS("alex")
    assert distance(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)) is None
    assert "alexnet-owt-7be5be79.pth" in distance.reason


def test_lpips_names_a_broken_environment(monkeypatch, tmp_path):
    (tmp_path / "squeezenet1_1_features.pth").touch()
    monkeypatch.setitem(sys.modules, "lpips", None)
    distance = LPIPS("squeeze", tmp_path)
    assert distance(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)) is None
    assert "cannot be imported" in distance.reason


@pytest.mark.parametrize("file", ["alexnet_features.pth", "lpips_lin_alex_v0.1.pth"])
def test_lpips_names_a_damaged_file(file, tmp_path):
    pytest.importorskip("lpips")
    backbone = _random_backbone("alex").state_dict()
    torch.save(backbone, tmp_path / "alexnet_features.pth")
    torch.save({}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    # Torch ends otherwise with each.
    for damaged in (b"", whole[:1], whole[:10], whole[: len(whole) // 2], whole[:-10], b"junk" * 100):
        (tmp_path / file).write_bytes(damaged)
        with pytest.raises(ValueError) as error:
            LPIPS("alex", tmp_path)
        assert str(error.value).startswith(f"{tmp_path / file}: expected weights of LPIPS, got damaged or other ones")
        assert "\n" not in str(error.value)
    for other in ([1], 3, {"0.weight": torch.zeros(2), "lin0.model.1.weight": torch.zeros(2)}):
        torch.save(other, tmp_path / file)
        with pytest.raises(ValueError, match=f"{file}: expected weights of LPIPS"):
            LPIPS("alex", tmp_path)


def test_lpips_refuses_a_folder_without_the_backbone_and_unknown_nets(tmp_path):
    with pytest.raises(ValueError, match="squeezenet1_1_features"):
        LPIPS("squeeze", tmp_path)
    with pytest.raises(ValueError, match="squeeze, alex, vgg"):
        LPIPS("resnet")


@pytest.mark.filterwarnings("error")
@pytest.mark.skipif("SCOREFOCUS_LPIPS_WEIGHTS" not in os.environ, reason="set SCOREFOCUS_LPIPS_WEIGHTS to a folder")
def test_lpips_reproduces_a_published_value(monkeypatch, tmp_path):
    # The example in torchmetrics' documentation of LPIPS-SqueezeNet: seed 42, mean of 10 pairs, 0.1005.
    distance = LPIPS("squeeze", os.environ["SCOREFOCUS_LPIPS_WEIGHTS"])
    assert distance.reason is None
    generator = torch.Generator().manual_seed(42)
    first, second = (torch.rand(10, 3, 100, 100, generator=generator) for _ in range(2))
    values = [distance(first[i : i + 1], second[i : i + 1]) for i in range(10)]
    assert np.mean(values) == pytest.approx(0.1005, abs=5e-5)
    assert distance(first[:1], first[:1]) == 0
    grey = first[:1, :1], second[:1, :1]
    assert distance(*grey) == pytest.approx(distance(*(picture.repeat(1, 3, 1, 1) for picture in grey)))

    # The whole backbone, as torchvision would have stored it, gives the same.
    features = torch.load(Path(os.environ["SCOREFOCUS_LPIPS_WEIGHTS"]) / "squeezenet1_1_features.pth")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    whole = {f"features.{name}": value for name, value in features.items()} | {"classifier.1.bias": torch.zeros(1000)}
    torch.save(whole, tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert LPIPS("squeeze")(first[:1], second[:1]) == pytest.approx(values[0])


def test_dists_without_weights_gives_none_and_the_reason(monkeypatch, tmp_path, pair):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    distance = DISTS()
    assert distance(*pair) is None
    assert "vgg16-397923af.pth does not exist" in distance.reason


def test_dists_names_a_missing_package(monkeypatch, tmp_path, pair):
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.dists", None)
    distance = DISTS()
    assert distance(*pair) is None
    assert "torchmetrics cannot be imported" in distance.reason


def test_dists_compares_pictures_in_the_unit_range(monkeypatch, tmp_path, pair):
    dists = pytest.importorskip("torchmetrics.functional.image.dists")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # The whole backbone has 550 MB; its convolutions, with random weights, are enough here.
    monkeypatch.setattr(dists, "vgg16", lambda weights: SimpleNamespace(features=_random_backbone("vgg")))
    distance = DISTS()
    assert distance.reason is None
    expected = dists.deep_image_structure_and_texture_similarity(*pair).detach()
    assert distance(*pair) == pytest.approx(expected.item(), rel=1e-5)
    assert distance(pair[0], pair[0]) == pytest.approx(0, abs=1e-5)
    grey = [picture[:, :1] for picture in pair]
    assert distance(*grey) == pytest.approx(distance(*(picture.repeat(1, 3, 1, 1) for picture in grey)))


@pytest.mark.parametrize("metric", [DISTS, LPIPS])
def test_pictures_of_two_shapes_are_refused(metric, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="one shape"):
        metric()(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 65))
