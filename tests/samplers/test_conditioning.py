"""Conditioning in the pipeline: silent when fresh or off, exact in tiles, drawn once, whole or refused."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion import VESDE, ScoreNetwork
from diffusion.latent_prior import LatentFiLM, ModulatedNetwork, SwinDiff
from optics import DISK
from restorers.swin_diff import SwinDiffRestorer
from samplers import DefocusDeblurPipeline, SamplerSettings
from samplers.tiling import TiledNetwork
from samplers.weights import TENSORS, WeightsError, load_conditioning

FEW = SamplerSettings(steps=2, corrector=False, cg_iterations=4, precision="fp32")
# With its regression beside it, on its own, where no guidance takes a second estimate, and where a sampler of its own.
WAYS = {
    "proximal": FEW, "alone": replace(FEW, latent_prior="off"), "dps": replace(FEW, guidance="dps"),
    "daps": replace(FEW, solver="daps"),
}  # fmt: skip


def _random(network, std):
    """The network with random numbers added to all parameters."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += std * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def parts():
    """Score network and latent prior of random parameters, and what lies between them, fresh and random."""
    torch.manual_seed(0)
    network = _random(ScoreNetwork(channels=(8, 8), blocks=1, embedding=16), 0.05)
    sizes = {"channels": (32, 32), "blocks": (1, 1), "windows": (0, 4), "latent": 8, "encoder": 8, "steps": 2}
    prior = _random(SwinDiff(**sizes, stage=2), 0.05)
    fresh = LatentFiLM.between(prior, network, width=16)
    return network, prior, fresh, _random(LatentFiLM.between(prior, network, width=16), 0.3)


def _pipeline(parts, conditioning=None):
    return DefocusDeblurPipeline(parts[0], VESDE(), latent_prior=parts[1], conditioning=conditioning)


@pytest.fixture
def photo():
    return torch.rand(1, 3, 24, 33, generator=torch.Generator().manual_seed(1))


def _restored(pipeline, photo, settings):
    radius_map = torch.full((1, 1, *photo.shape[-2:]), 2.0)
    return pipeline(photo, radius_map=radius_map, noise_std=0.02, lens=DISK, settings=settings).image


@pytest.mark.parametrize("way", WAYS)
def test_fresh_or_off_it_changes_no_bit_and_trained_it_does(parts, photo, way):
    settings, (_, _, fresh, trained) = WAYS[way], parts
    plain = _restored(_pipeline(parts), photo, settings)
    for condition in ("on", "auto"):
        assert torch.equal(_restored(_pipeline(parts, fresh), photo, replace(settings, condition=condition)), plain)
    assert torch.equal(_restored(_pipeline(parts, trained), photo, replace(settings, condition="off")), plain)
    conditioned = [_restored(_pipeline(parts, trained), photo, replace(settings, condition=c)) for c in ("on", "auto")]
    assert torch.equal(*conditioned) and (conditioned[0] - plain).abs().max() > 1e-3


def test_off_it_is_not_evaluated_and_on_the_prior_is_drawn_once(parts, photo, monkeypatch):
    calls = []
    for cls, name in ((LatentFiLM, "forward"), (SwinDiffRestorer, "prior")):
        real = getattr(cls, name)
        counted = lambda *a, _real=real, _name=name, **k: calls.append(_name) or _real(*a, **k)  # noqa: E731
        monkeypatch.setattr(cls, name, counted)
    pipeline = _pipeline(parts, parts[3])
    for settings, expected in (
        (FEW, ["prior", "forward"]), (WAYS["alone"], ["prior", "forward"]),
        (replace(FEW, condition="off"), ["prior"]), (replace(WAYS["alone"], condition="off"), []),
    ):  # fmt: skip
        calls.clear()
        _restored(pipeline, photo, settings)
        assert calls == expected


def test_what_is_said_is_what_the_prior_of_the_capture_says(parts, photo, monkeypatch):
    network, prior, _, film = parts
    seen = []
    monkeypatch.setattr(
        ModulatedNetwork, "__init__", lambda self, network, said: seen.append(said) or torch.nn.Module.__init__(self)
    )
    with pytest.raises(AttributeError):
        _restored(_pipeline(parts, film), photo, FEW)
    tokens = prior.drawn_prior(prior.capture_encoder(2 * photo - 1), 1, torch.Generator().manual_seed(0))
    for said, expected in zip(seen[0], film(tokens), strict=True):
        torch.testing.assert_close(said, expected, atol=1e-5, rtol=1e-5)


def test_tiles_give_what_the_whole_gives(parts):
    network, _, _, film = parts
    x = torch.rand(1, 3, 70, 45, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        modulated = ModulatedNetwork(network, film(torch.randn(1, 16, 8)))
        for sigma in (torch.tensor(0.02), torch.tensor(1.0)):
            whole = modulated(x, sigma)
            torch.testing.assert_close(TiledNetwork(modulated, 32)(x, sigma), whole, rtol=0, atol=1e-5)
            assert (whole - network(x, sigma)).abs().max() > 1e-3
    photo = (x + 1) / 2
    results = [_restored(_pipeline(parts, film), photo, replace(WAYS["alone"], tile=tile)) for tile in (1024, 32)]
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)


def test_conditioning_that_is_not_there_is_asked_for_in_vain(parts, photo):
    with pytest.raises(ValueError, match="^condition=on: expected a pipeline with a conditioning, got one without$"):
        _restored(_pipeline(parts), photo, replace(FEW, condition="on"))
    with pytest.raises(ValueError, match="condition must be on or off or auto, got perhaps"):
        replace(FEW, condition="perhaps")
    with pytest.raises(ValueError, match="expected a latent_prior beside it, got none"):
        DefocusDeblurPipeline(parts[0], VESDE(), conditioning=parts[2])


def test_it_is_saved_and_loaded_and_pipelines_from_before_it_load(parts, photo, tmp_path):
    pipeline = _pipeline(parts, parts[3])
    pipeline.save_pretrained(tmp_path / "new")
    loaded = DefocusDeblurPipeline.from_pretrained(tmp_path / "new")
    # Tensors from files lie elsewhere in memory, and sums are rounded otherwise.
    near = partial(torch.testing.assert_close, rtol=0, atol=1e-5)
    near(_restored(loaded, photo, FEW), _restored(pipeline, photo, FEW))
    alone = load_conditioning(tmp_path / "new").state_dict()
    assert all(torch.equal(tensor, alone[name]) for name, tensor in parts[3].state_dict().items())
    _pipeline(parts).save_pretrained(tmp_path / "without")
    index = tmp_path / "without" / "model_index.json"
    entries = json.loads(index.read_text())
    assert entries.pop("conditioning") == [None, None]
    for _ in range(2):
        without = DefocusDeblurPipeline.from_pretrained(tmp_path / "without")
        assert without.conditioning is None
        near(_restored(without, photo, FEW), _restored(pipeline, photo, replace(FEW, condition="off")))
        index.write_text(json.dumps(entries))


def _truncated(folder):
    file = folder / "conditioning" / TENSORS
    file.write_bytes(file.read_bytes()[:100])


def _not_finite(folder):
    file = folder / "conditioning" / TENSORS
    tensors = load_file(file)
    tensors["heads.0.bias"][0] = float("nan")
    save_file(tensors, file, {"format": "pt"})


def _edited(file, **changes):
    def edit(folder):
        values = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps(values))

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncated, "damaged"),
        (_not_finite, "heads.0.bias"),
        (lambda folder: (folder / "conditioning" / TENSORS).unlink(), "no such file"),
        (lambda folder: (folder / "conditioning" / "config.json").unlink(), "no such file"),
        (_edited("conditioning/config.json", widht=3), "'width'"),
        (_edited("conditioning/config.json", latent=4), "another architecture"),
        (_edited("model_index.json", conditioning=["os", "system"]), "as conditioning, got"),
        (_edited("model_index.json", latent_prior=[None, None]), "expected a latent_prior beside it, got none"),
        (_edited("latent_prior/config.json", stage=1), "expected a latent_prior of stage 2"),
    ],
)
def test_what_is_damaged_or_missing_is_one_sentence(parts, tmp_path, damage, words):
    _pipeline(parts, parts[3]).save_pretrained(tmp_path / "saved")
    damage(tmp_path / "saved")
    with pytest.raises(WeightsError) as caught:
        DefocusDeblurPipeline.from_pretrained(tmp_path / "saved")
    message = str(caught.value)
    assert words in message and str(tmp_path / "saved") in message and "\n" not in message
