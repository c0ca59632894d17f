"""Several samples: their statistics, their seeds, and their files."""

import math

import numpy as np
import pytest
import torch
from command_line import fails, files, outputs
from PIL import Image

from photos import read_map
from samplers import DefocusDeblurPipeline, SamplerSettings
from samplers.posterior_samples import SamplesMethod
from samplers.restoring import ScoreMethod
from samplers.wishes import Wishes, restore_as_wished


@pytest.fixture
def method(saved_pipeline):
    settings = SamplerSettings(output="sample", steps=3, corrector=False, cg_iterations=2)
    return ScoreMethod(DefocusDeblurPipeline.from_pretrained(saved_pipeline), settings, seed=7)


def test_mean_and_spread_are_those_of_the_samples(method):
    image = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    steps, radius_map = [], torch.full((1, 1, 20, 24), 2.0)
    result = SamplesMethod(method, 3)(image, radius_map, steps.append)
    assert [step.index for step in steps] == list(range(1, 10)) and {step.total for step in steps} == {9}
    assert result.evaluations == 9 and len(result.samples) == 3
    assert torch.equal(result.samples[0], method(image, radius_map).image)
    stacked = np.concatenate([sample.numpy() for sample in result.samples])
    np.testing.assert_allclose(result.image[0], stacked.mean(0), atol=1e-6)
    expected = np.sqrt(stacked.var(0, ddof=1).mean(0))
    np.testing.assert_allclose(result.spread[0, 0], expected, atol=1e-6)
    assert expected.mean() > 0.01


def test_what_is_kept_is_kept_in_every_sample(method):
    image = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    mask = np.ones((20, 24), np.float32)
    mask[:10] = 0
    wished = restore_as_wished(SamplesMethod(method, 2), image, torch.full((1, 1, 20, 24), 2.0), Wishes(mask=mask))
    for picture in (wished.image, *wished.samples):
        assert torch.equal(picture[..., :10, :], image[..., :10, :])
    assert not wished.spread[..., :10, :].any() and wished.spread[..., 10:, :].mean() > 0.01


def test_settings_must_draw_samples(method):
    with pytest.raises(ValueError, match="at least 2, got 1"):
        SamplesMethod(method, 1)
    method.settings = SamplerSettings()
    with pytest.raises(ValueError, match="expected settings with output=sample, got output=mean"):
        SamplesMethod(method, 2)


def test_samples_and_spread_become_files(deblur, photo, out):
    code, output, errors = deblur(photo, "--samples", 2, "--trajectory")
    assert (code, errors) == (0, [])
    more = ["sample1.png", "sample2.png", "spread.tif", "trajectory.svg", "trajectory.webp"]
    expected = sorted([*outputs("cat.png"), *(f"cat.png_{name}" for name in more)])
    assert files(out) == expected and sorted(output) == [str(out / name) for name in expected]
    mean, first, second = (
        np.array(Image.open(out / name), float) for name in ("cat.png", "cat.png_sample1.png", "cat.png_sample2.png")
    )
    assert np.abs(mean - (first + second) / 2).max() <= 1
    spread = read_map(out / "cat.png_spread.tif")
    from_files = np.sqrt(((first - second) ** 2 / 2).mean(-1)) / 255
    # Two roundings to 8 bits.
    np.testing.assert_allclose(spread, from_files, atol=1.1 / 255 / math.sqrt(2))
    assert deblur(photo, "--seed", 1, "output=sample", "--overwrite")[0] == 0
    np.testing.assert_array_equal(np.array(Image.open(out / "cat.png"), float), second)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--samples", "1"), ("samples", "got 1")),
        (("--samples", "3", "output=mean"), ("--samples 3", "output=sample", "output=mean")),
        (("--method", "tv", "--samples", "3"), ("--samples", "--method score")),
        (("--method", "tv", "--trajectory"), ("--trajectory", "--method score")),
        (("solver=red-diff", "--samples", "3"), ("output must be mean",)),
        (("sigma_end=0.001",), ("sigma_end", "0.002")),
        (("guidance=range-null", "model_error=0", "--light", "linear"), ("range-null", "proximal")),
        (("guidance=ddnm",), ("guidance must be proximal or",)),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_usage_error(deblur, photo, out, arguments, words):
    settings = () if "tv" in arguments else ("steps=3", "corrector=false")
    fails(deblur(photo, *arguments, settings=settings), 2, *words)
    assert files(out) == []


def test_a_network_without_gradient_is_named(deblur, photo, out, monkeypatch):
    from diffusion import ScoreNetwork

    monkeypatch.setattr(ScoreNetwork, "forward", torch.no_grad()(ScoreNetwork.forward))
    fails(deblur(photo, "guidance=dps"), 2, "guidance dps", "gradient", "proximal")
    assert files(out) == []


@pytest.mark.parametrize("guidance", ["pigdm", "moment-matching", "dps"])
def test_guidance_by_gradient_reaches_through_tiles(deblur, photo, out, guidance):
    results = []
    for tile in (32, 1024):
        assert deblur(photo, f"guidance={guidance}", "--tile", tile, "--overwrite", "--no-report")[0] == 0
        results.append(np.array(Image.open(out / "cat.png"), float))
    assert np.abs(results[0] - results[1]).max() <= 1
