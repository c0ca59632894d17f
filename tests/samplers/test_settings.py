"""Settings of a restoration and the presets."""

import dataclasses
import math
from itertools import product

import numpy as np
import pytest
import torch
from oracles import GaussianDenoiser, MatrixModel, row_capture

from diffusion import VESDE, VPSDE, SubVPSDE
from optics import DISK, Lens
from samplers.choices import GUIDANCES, SOLVERS
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
    settings = SamplerSettings(predictor="reverse-diffusion", corrector=False)
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
    assert fast <= 8 and balanced <= 15 and best <= 40


def test_every_preset_draws_samples_in_one_run():
    for name in PRESETS:
        settings = load_config(SamplerSettings, preset_file(name), ["output=sample"])
        assert settings.evaluations == settings.sampler().evaluations


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 1), ("sigma_end", 0.0), ("sigma_end", 3.0), ("sigma_start", float("inf")), ("rho", 0.5),
        ("predictor", "euler"), ("renoise", -0.1), ("renoise", 1.1), ("corrector_ratio", 0.0),
        ("corrector_ratio", 1.0), ("corrector_below", -1.0), ("strength", 0.0), ("cg_iterations", 0),
        ("mixture_detail", -1.0), ("noise_factor", 0.0), ("precision", "fp16"), ("tile", 16), ("order", 4),
        ("strength", float("nan")), ("solver", "rk45"), ("guidance", "mcg"), ("grid", "linear"),
        ("output", "median"), ("restarts", -1), ("runs", 0), ("rho", float("inf")),
        ("strength", float("inf")), ("eta", 1.5), ("churn", float("nan")),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=f"{key} must be .* got {value}"):
        SamplerSettings(**{key: value})


@pytest.mark.parametrize(
    ("key", "value", "expectation"),
    [
        ("steps", 2.0, "a whole number"), ("steps", "2", "a whole number"), ("steps", None, "a whole number"),
        ("steps", True, "a whole number"), ("runs", 1.5, "a whole number"), ("tile", 64.0, "a whole number"),
        ("cg_iterations", 4.0, "a whole number or null"), ("sigma_start", "0.3", "a number"),
        ("sigma_end", None, "a number"), ("rho", True, "a number"), ("temperature", "1", "a number or null"),
        ("corrector", "false", "true or false"), ("corrector", 0, "true or false"), ("solver", 3, "a word"),
        ("latent_prior", [], "a word"), ("trust", 3.0, "a list of numbers or null"),
        ("trust", "abc", "a list of numbers or null"), ("trust", [1.0, "2", 3.0], "a list of numbers or null"),
    ],
)  # fmt: skip
def test_values_of_other_types_are_named(key, value, expectation):
    with pytest.raises(ValueError) as caught:
        SamplerSettings(**{key: value})
    assert str(caught.value) == f"{key} must be {expectation}, got {value!r}"


def test_numbers_of_numpy_and_whole_ones_do():
    settings = SamplerSettings(steps=np.int64(4), rho=2, sigma_start=np.float32(0.5), trust=(0, np.float64(1), 2.0))
    assert len(settings.sigmas()) == 4 and settings.sigmas()[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="sigma_per_pixel must be a finite number"):
        SamplerSettings(sigma_per_pixel=np.float32("inf"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 0.5}, "eta must be 0.0 unless solver is dpm-solver, got 0.5"),
        ({"churn": 1.0, "solver": "daps"}, "churn must be 0.0 unless solver is heun"),
        ({"solver": "heun", "predictor": "none"}, "must be"),
        ({"solver": "heun", "predictor": "euler-maruyama"}, "predictor must be ancestral unless solver is predictor"),
        ({"solver": "daps", "guidance": "dps"}, "guidance must be proximal unless solver is pred"),
        ({"solver": "red-diff", "output": "sample"}, "output must be mean with solver red-diff"),
        ({"output": "sample", "temperature": 0.5}, "temperature must be null or 1 with output sample, got 0.5"),
        ({"output": "sample", "sigma_per_pixel": 0.1}, "sigma_per_pixel must be 0.05 unless output is mean, got 0.1"),
        ({"solver": "daps", "sigma_per_pixel": 0.1}, "sigma_per_pixel must be 0.05 unless solver is"),
        ({"guidance": "none", "sigma_per_pixel": 0.1}, "sigma_per_pixel must be 0.05 unless guidance is proximal or"),
        ({"predictor": "none", "sigma_per_pixel": 0.1}, "sigma_per_pixel must be 0.05 unless predictor is"),
        ({"output": "sample", "renoise": 0.5}, "renoise must be null with output sample, got 0.5"),
        ({"predictor": "none"}, "corrector_below must be at least sigma_start=0.3"),
        ({"predictor": "none", "corrector": False}, "corrector must be true with predictor none"),
        ({"guidance": "range-null"}, "model_error must be 0 with guidance range-null"),
        ({"restarts": 1, "restart_high": 0.5}, "expected 0.01 <= restart_low < restart_high <= 0.3"),
        ({"grid": "log-snr", "rho": 7.0}, "rho must be 1.0 unless grid is karras"),
        ({"restart_low": 0.1}, "restart_low must be 0.05 unless restarts is at least 1, got 0.1"),
        ({"restart_high": 0.25}, "restart_high must be 0.2 unless restarts is at least 1, got 0.25"),
        ({"solver": "heun", "renoise": 0.5}, "renoise must be 1.0 unless solver is predictor-corrector, got 0.5"),
        ({"predictor": "euler-maruyama", "renoise": 0.5}, "renoise must be 1.0 unless predictor is ancestral"),
        ({"corrector": False, "corrector_ratio": 0.3}, "corrector_ratio must be 0.16 unless corrector is True"),
        ({"guidance": "pigdm", "latent_prior_share": 0.3}, "latent_prior_share must be 0.65 unless guidance is"),
        ({"guidance": "pigdm", "graph_capture": True}, "graph_capture must be False unless guidance is proximal"),
        ({"guidance": "moment-matching", "strength": 0.3}, "strength must be None unless guidance is proximal or"),
        ({"solver": "red-diff", "strength": 0.3}, "strength must be None unless solver is"),
    ],
)  # fmt: skip
def test_settings_that_exclude_one_another_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplerSettings(**settings)


class _LearnedDenoiser(GaussianDenoiser):
    """One with a parameter, and that fills its result in place, as tiles do."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x_t, t):
        result = torch.empty_like(x_t)
        result[...] = self.scale * super().forward(x_t, t)
        return result


@pytest.mark.parametrize("solver", SOLVERS)
def test_samplers_run_where_gradients_are_on(solver):
    mean, covariance, blur, y = row_capture()
    photo, model = _LearnedDenoiser(VESDE(), mean, covariance), MatrixModel(blur, mean.shape)
    for guidance in ("proximal", "dps", "pigdm") if solver not in ("daps", "red-diff") else ("proximal",):
        settings = SamplerSettings(solver=solver, guidance=guidance, steps=4)
        x_t = torch.zeros(1, 1, 1, 8, dtype=torch.float64)

        def drawn(settings=settings, x_t=x_t):
            guided = settings.guided(photo, model, y, 0.1)
            return settings.sampler()(guided, x_t, generator=torch.Generator().manual_seed(0))

        x = drawn()
        assert not x.requires_grad
        with torch.no_grad():
            assert torch.equal(drawn(), x)


def test_noise_and_captures_that_do_not_fit_the_model_are_refused():
    lens, y = Lens(light="linear"), torch.zeros(1, 3, 8, 9)
    photo, operator = _LearnedDenoiser(VESDE(), torch.zeros(8), torch.eye(8)), DISK.operator(torch.ones(1, 1, 8, 9))
    for guidance in GUIDANCES:
        settings = SamplerSettings(guidance=guidance, model_error=0.0)
        for noise_std in (-1.0, 0.0, math.nan, torch.tensor([[[[0.1], [-0.1]]]])):
            with pytest.raises(ValueError, match="noise_std must be positive, got"):
                settings.guided(photo, operator, y, noise_std)
        for model in (operator, lens.model(operator)) if guidance != "range-null" else (operator,):
            with pytest.raises(ValueError, match=r"y must be of the size \(8, 9\) of the model's captures, got \(8, 8"):
                settings.guided(photo, model, y[..., :8], 0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sde", [VESDE(), VPSDE(), SubVPSDE()], ids=["ve", "vp", "sub-vp"])
def test_every_solver_takes_every_guidance_and_counts_its_evaluations(solver, sde):
    mean, covariance, blur, y = row_capture()
    model, photo = MatrixModel(blur, mean.shape), GaussianDenoiser(sde, mean, covariance)
    stepping = solver not in ("daps", "red-diff")
    for guidance in GUIDANCES if stepping else ("proximal", "none"):
        grids = ("karras", "log-snr", "time") if guidance == "proximal" else ("karras",)
        for grid, restarts in product(grids, (0, 2) if stepping and guidance == "proximal" else (0,)):
            settings = SamplerSettings(
                solver=solver, guidance=guidance, grid=grid, restarts=restarts, steps=8, model_error=0.0
            )
            settings.check(sde)
            sampler, seen = settings.sampler(sde), []
            x_t = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
            guided = settings.guided(photo, model, y, 0.1)
            x = sampler(guided, x_t, generator=torch.Generator().manual_seed(0), callback=seen.append)
            assert len(seen) == sampler.evaluations == seen[-1].total
            assert torch.isfinite(x).all() and seen[-1].residual is not None


def test_a_sample_has_all_the_noise():
    sampler = SamplerSettings(output="sample").sampler()
    assert sampler.predictor == AncestralPredictor(None, 1.0) and sampler.corrector.temperature == 1.0
    assert SamplerSettings(output="sample").noise_scale == 1.0 and SamplerSettings().noise_scale == 0.85
    assert SamplerSettings(output="sample", solver="daps").sampler().sample
    assert not SamplerSettings(solver="daps").sampler().sample


def test_daps_draws_with_less_variance_than_the_guidances_suppose():
    assert SamplerSettings(solver="daps").sampler().strength == 4.0
    assert SamplerSettings(solver="daps", strength=1.0).sampler().strength == 1.0


def test_what_the_sde_or_the_light_cannot_do_is_named():
    with pytest.raises(ValueError, match="sigma_end: expected a number in .0.002, 3"):
        SamplerSettings(sigma_end=0.001).check(VESDE())
    SamplerSettings(sigma_end=0.001).check(VPSDE())
    with pytest.raises(ValueError, match="sigma_start: expected .*VPSDE"):
        SamplerSettings(sigma_start=2.9).check(VPSDE(beta_max=4.0))
    with pytest.raises(ValueError, match="sigma_start: expected at most 0.5, the largest .* training, got 0.6"):
        SamplerSettings(sigma_start=0.6).check(VESDE(), sigma_max=0.5)
    SamplerSettings(sigma_start=0.5).check(VESDE(), sigma_max=0.5)
    SamplerSettings(sigma_start=9.0).check(VPSDE(), sigma_max=10.0)
    with pytest.raises(ValueError, match="guidance must be proximal or pigdm or .* with light linear, got range-null"):
        SamplerSettings(guidance="range-null", model_error=0.0).check(VESDE(), "linear")


def test_every_setting_is_documented():
    documented = SamplerSettings.__doc__
    for field in dataclasses.fields(SamplerSettings):
        assert f"    {field.name}: " in documented, field.name


def test_the_wider_the_blur_the_more_noise_at_the_start():
    settings = SamplerSettings(sigma_start=0.2, sigma_per_pixel=0.1)
    # Of the 100 blurred pixels 90 have at most 8 px; what is sharp does not count.
    radii = torch.cat([torch.zeros(1000), torch.full((50,), 2.0), torch.full((41,), 8.0), torch.full((9,), 16.0)])
    radii = radii.reshape(1, 1, 11, 100)
    wide = settings.for_blur(radii, VESDE(), 3.0)
    assert wide.sigma_start == pytest.approx(0.8)
    assert dataclasses.replace(wide, sigma_start=0.2) == settings
    # No less than is asked for, no more than the network or the SDE knows.
    assert settings.for_blur(radii / 8, VESDE(), 3.0) == settings
    assert settings.for_blur(radii, VESDE(), 0.5).sigma_start == 0.5
    for sde, sigma_max in ((VESDE(sigma_max=0.6), 3.0), (VESDE(sigma_max=0.6), None)):
        known = settings.for_blur(radii, sde, sigma_max)
        assert known.sigma_start == pytest.approx(0.6)
        known.check(sde, sigma_max=sigma_max)
    for unchanged in (
        dataclasses.replace(settings, sigma_per_pixel=0.0), SamplerSettings(guidance="none"),
        SamplerSettings(predictor="none", corrector_below=0.3), SamplerSettings(solver="red-diff"),
        SamplerSettings(output="sample"), SamplerSettings(restarts=1, steps=5, sigma_start=0.2, corrector=False),
    ):  # fmt: skip
        assert unchanged.for_blur(radii, VESDE(), 3.0) == unchanged
    assert settings.for_blur(torch.zeros(1, 1, 5, 5), VESDE()) == settings
    with pytest.raises(ValueError, match="sigma_per_pixel must be non-negative, got -0.1"):
        SamplerSettings(sigma_per_pixel=-0.1)


def test_few_steps_lean_more_on_the_regression_unless_told_otherwise():
    assert [SamplerSettings(steps=steps).regression_variance for steps in (4, 5, 6, 8)] == [4, 4, 16, 16]
    assert SamplerSettings(steps=5, latent_prior_variance=9.0).regression_variance == 9
    with pytest.raises(ValueError, match="latent_prior_variance must be null or positive, got 0"):
        SamplerSettings(latent_prior_variance=0.0)


def test_a_quick_mixture_takes_fewer_iterations_unless_told_otherwise():
    # Steps, iterations alone, iterations where the regression has a share of the result.
    for steps, alone, mixed in ((5, 16, 8), (6, 16, 16)):
        settings = SamplerSettings(steps=steps)
        assert (settings.solver_iterations, settings.for_mixture().solver_iterations) == (alone, mixed)
    settings = SamplerSettings(steps=5, cg_iterations=12, temperature=0.9)
    assert settings.for_mixture() == settings and settings.solver_iterations == 12
    assert SamplerSettings(steps=5, temperature=0.9).for_mixture().solver_iterations == 8
