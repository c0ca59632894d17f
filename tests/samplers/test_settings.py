"""Settings of a restoration and the presets."""

import dataclasses

import pytest

from samplers.config import load_config
from samplers.predictors import AncestralPredictor, ReverseDiffusionPredictor
from samplers.settings import PRESETS, SamplerSettings, preset_file


def test_settings_become_a_sampler():
    sampler = SamplerSettings(
        steps=9, sigma_start=0.5, sigma_end=0.02, renoise=0.3, corrector=True, corrector_ratio=0.2, corrector_below=0.1
    ).sampler()
    assert len(sampler.sigmas) == 9
    assert sampler.sigmas[0] == pytest.approx(0.5) and sampler.sigmas[-1] == pytest.approx(0.02)
    assert isinstance(sampler.predictor, AncestralPredictor) and sampler.predictor.renoise == 0.3
    assert (sampler.corrector.ratio, sampler.corrector.below) == (0.2, 0.1)
    settings = SamplerSettings(predictor="reverse-diffusion", renoise=None, corrector=False)
    assert isinstance(settings.sampler().predictor, ReverseDiffusionPredictor)
    assert settings.sampler().corrector is None


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_differences_only(name):
    settings = load_config(SamplerSettings, preset_file(name))
    assert isinstance(settings, SamplerSettings)
    assert 2 <= settings.evaluations <= 80


def test_presets_cost_more_the_better_they_are():
    fast, balanced, best = (load_config(SamplerSettings, preset_file(name)).evaluations for name in PRESETS)
    assert fast < balanced < best
    # What a 512 x 512 photo may cost at the preset that is used unless another is asked for.
    assert balanced <= 15


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 1), ("sigma_end", 0.0), ("sigma_end", 3.0), ("sigma_start", 3.5), ("rho", 0.5),
        ("predictor", "euler"), ("renoise", -0.1), ("renoise", 1.1), ("corrector_ratio", 0.0),
        ("corrector_ratio", 1.0), ("corrector_below", -1.0), ("strength", 0.0), ("cg_iterations", 0),
        ("noise_factor", 0.0), ("precision", "fp16"), ("tile", 16), ("strength", float("nan")),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=f"{key} must be .* got {value}"):
        SamplerSettings(**{key: value})


def test_every_setting_is_documented():
    documented = SamplerSettings.__doc__
    for field in dataclasses.fields(SamplerSettings):
        assert f"    {field.name}: " in documented, field.name
