"""The pipeline: what it leaves alone, what it refuses, and what its settings reach."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusion import VESDE, VPSDE, ScoreNetwork, SubVPSDE
from diffusion.latent_prior import SwinDiff
from optics import DISK, DefocusOperator, Lens, UnknownLens
from samplers import DefocusDeblurPipeline, SamplerSettings
from samplers.choices import SOLVERS
from samplers.mixture import mixture

FEW = dict(steps=3, corrector=False)


class PerfectPrior(ScoreNetwork):
    """A prior that knows a single photo: E[x_0 | x_t] is that photo, whatever the state."""

    def __init__(self, photo: torch.Tensor) -> None:
        super().__init__(channels=(4,), blocks=1, embedding=4)
        self.photo = photo

    def forward(self, x, sigma, asked=None):
        return self.photo.expand_as(x)


class TimidPrior(ScoreNetwork):
    """A prior of grey photos with little contrast: states far from grey do not come of it."""

    def __init__(self) -> None:
        super().__init__(channels=(4,), blocks=1, embedding=4)

    def forward(self, x, sigma, asked=None):
        return 0.5 * x


@pytest.fixture
def pipeline() -> DefocusDeblurPipeline:
    torch.manual_seed(0)
    return DefocusDeblurPipeline(ScoreNetwork(channels=(8, 8), blocks=1, embedding=16), VESDE())


@pytest.fixture
def photo() -> torch.Tensor:
    return torch.rand(1, 3, 24, 33, generator=torch.Generator().manual_seed(1))


def test_no_blur_returns_the_photo_itself(pipeline, photo):
    result = pipeline(photo, radius_map=torch.zeros(1, 1, 24, 33))
    assert torch.equal(result.image, photo)
    assert result.evaluations == 0


def test_pixels_without_blur_stay_as_taken(pipeline, photo):
    radius_map = torch.zeros(1, 1, 24, 33)
    radius_map[..., 20:] = 3.0
    result = pipeline(photo, radius_map=radius_map, settings=SamplerSettings(**FEW))
    assert torch.equal(result.image[..., :20], photo[..., :20])
    assert not torch.equal(result.image[..., 20:], photo[..., 20:])


def test_the_start_has_the_noise_that_the_blur_asks_for(pipeline, photo):
    steps, settings = [], SamplerSettings(**FEW)
    for radius in (4.0, 12.0):
        pipeline(photo, radius_map=torch.full((1, 1, 24, 33), radius), settings=settings, callback=steps.append)
    assert [step.sigma for step in steps if step.index == 1] == pytest.approx([0.3, 0.6])


def test_what_is_far_from_blur_is_not_shown_to_the_network_and_the_result_the_same(pipeline, monkeypatch):
    photo = torch.rand(1, 3, 64, 400, generator=torch.Generator().manual_seed(2))
    radius_map = torch.zeros(1, 1, 64, 400)
    radius_map[..., :40] = 3.0
    settings, seen = SamplerSettings(**FEW), []
    forward = ScoreNetwork.forward

    def watched(self, x, sigma, modulations=None, asked=None):  # noqa: ANN001
        seen.append(x.shape[-1])
        return forward(self, x, sigma, modulations, asked)

    monkeypatch.setattr(ScoreNetwork, "forward", watched)
    result = pipeline(photo, radius_map=radius_map, settings=settings).image
    assert len(seen) == 3 and max(seen) < 200
    tiled = pipeline(photo, radius_map=radius_map, settings=replace(settings, tile=32)).image
    torch.testing.assert_close(tiled, result, rtol=0, atol=1e-5)
    monkeypatch.setattr("samplers.pipeline.near_blur", lambda radius_map, reach: torch.ones(64, 400, dtype=torch.bool))
    whole = pipeline(photo, radius_map=radius_map, settings=settings).image
    assert max(seen) > 400
    # Not a level of 8 bits, nor a change that comes from beyond the context.
    assert (result - whole).abs().max() < 0.5 / 255


def _certain_prior(shift):
    """A latent prior that adds a constant to captures in [-1, 1] and is as sure of it as it can be."""
    prior = SwinDiff(channels=(32, 32), blocks=(1, 1), windows=(0, 0), latent=8, encoder=8, steps=2)
    with torch.no_grad():
        prior.backbone.head.bias.fill_(10 * shift)
        prior.backbone.error[-1].bias.fill_(-100)
    return prior


def test_a_latent_prior_that_is_sure_decides_where_the_capture_says_nothing(pipeline, photo):
    with_prior = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=_certain_prior(0.1))
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01}
    # In [0, 1] units the shift is half as large.
    expected = (photo + 0.05).clamp(0, 1)
    quiet = SamplerSettings(**FEW, temperature=0.7, noise_factor=1000.0)
    results = [with_prior(photo, **options, settings=replace(quiet, latent_prior=c)) for c in ("on", "auto")]
    for result in results:
        torch.testing.assert_close(result.image, expected, atol=2e-3, rtol=0)
    doubting = SamplerSettings(**FEW, latent_prior_variance=1e8, noise_factor=1000.0)
    assert (with_prior(photo, **options, settings=doubting).image - expected).abs().mean() > 0.02


@pytest.mark.parametrize(
    ("temperature", "share", "scale", "detail"),
    [(None, 0.25, 1.0, 0.0), (0.5, 0.25, 0.5, 2.0), (None, 0.0, 0.85, 2.0)],
)
def test_the_regression_stands_in_where_an_estimated_map_is_doubted(
    pipeline, photo, temperature, share, scale, detail
):  # fmt: skip
    with_prior = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=_certain_prior(0.1))
    confidence = torch.linspace(0, 1, 33).expand(1, 1, 24, 33)
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01}
    # Of little weight in the guidance, so that the two differ.
    settings = SamplerSettings(**FEW, trust=[-1.0, 0.5, 2.0], latent_prior_share=share, latent_prior_variance=1e8)
    # Confidence has a say in the model's error as well.
    settings = replace(settings, model_error=0.0, mixture_detail=detail, cg_iterations=8)
    # Unless told otherwise a mixture is one with a sampler that has all its noise.
    sampled = with_prior(photo, **options, settings=replace(settings, temperature=scale)).image
    settings = replace(settings, temperature=temperature)
    mixed = with_prior(photo, **options, confidence=confidence, settings=settings).image
    trust = (1 - share) * confidence**6 if share else torch.sigmoid(-1 + 0.5 * math.log(2) + 2 * confidence)
    regression = (photo + 0.05).clamp(0, 1)
    assert (sampled - regression).abs().mean() > 0.02
    mean = trust * sampled + (1 - trust) * regression
    expected = mixture(regression, sampled, trust, detail) if share else mean
    torch.testing.assert_close(mixed, expected, atol=2e-3, rtol=0)
    assert detail == 0 or share == 0 or (expected - mean).abs().max() > 0.02


def test_an_estimated_map_has_an_operator_that_is_less_exact(pipeline, photo, monkeypatch):
    radius_map, asked, operator = torch.full((1, 1, 24, 33), 2.0), [], Lens.operator
    monkeypatch.setattr(Lens, "operator", lambda *a, estimated=False: asked.append(estimated) or operator(*a))
    for confidence, trust in ((None, [0.0] * 3), (torch.ones_like(radius_map), [0.0] * 3), (radius_map / 2, None)):
        settings = SamplerSettings(**FEW, trust=trust)
        pipeline(photo, radius_map=radius_map, confidence=confidence, lens=DISK, settings=settings)
    assert asked == [False, True, False]


def test_a_latent_prior_in_half_precision_is_run_in_it(pipeline, photo):
    prior = _certain_prior(0.1).bfloat16()
    with_prior = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=prior)
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01}
    for precision in ("fp32", "auto"):
        settings = SamplerSettings(**FEW, precision=precision, noise_factor=1000.0)
        image = with_prior(photo, **options, settings=settings).image
        torch.testing.assert_close(image, (photo + 0.05).clamp(0, 1), atol=1e-2, rtol=0)


def test_without_its_latent_prior_a_pipeline_is_as_before(pipeline, photo):
    with_prior = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=_certain_prior(0.1))
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0)}
    off = SamplerSettings(**FEW, latent_prior="off")
    plain = pipeline(photo, **options, settings=SamplerSettings(**FEW))
    assert torch.equal(with_prior(photo, **options, settings=off).image, plain.image)
    # The start matters, even if the regression has no weight.
    doubting = SamplerSettings(**FEW, latent_prior_variance=1e12)
    assert not torch.equal(with_prior(photo, **options, settings=doubting).image, plain.image)
    with pytest.raises(ValueError, match="latent_prior=on: expected a pipeline with a latent_prior"):
        pipeline(photo, **options, settings=SamplerSettings(**FEW, latent_prior="on"))


def test_the_models_error_makes_the_capture_weigh_less(photo):
    radius_map = torch.full((1, 1, 24, 33), 2.0)
    pipeline = DefocusDeblurPipeline(PerfectPrior(torch.zeros(1)), VESDE())
    distances = []
    for error in (0.0, 0.2, 1.0):
        settings = SamplerSettings(model_error=error, **FEW)
        result = pipeline(photo, radius_map=radius_map, noise_std=0.01, settings=settings)
        # The prior's photo is 0 in [-1, 1] units: the less the capture weighs, the nearer the result.
        distances.append((result.image - 0.5).square().mean())
    assert distances[0] > distances[1] > distances[2]


def test_the_doubt_of_a_lens_is_a_share_of_the_models_error(pipeline, photo):
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01}
    half, whole, doubled = (
        pipeline(photo, **options, lens=Lens(doubt=doubt), settings=SamplerSettings(**FEW, model_error=error)).image
        for doubt, error in ((0.5, 0.4), (1.0, 0.2), (1.0, 0.4))
    )
    assert torch.equal(half, whole) and not torch.equal(half, doubled)


def test_an_estimated_map_is_doubted_the_less_the_surer_it_is(pipeline, photo):
    # Trust that mixes nothing with the capture; without it an estimated map is believed.
    settings = SamplerSettings(**FEW, trust=[0.0, 0.0, 100.0], model_error=0.4)
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01}

    def restored(confidence, **changes):
        confidence = None if confidence is None else torch.full((1, 1, 24, 33), confidence)
        return pipeline(photo, **options, confidence=confidence, settings=replace(settings, **changes)).image

    # What is left of the error is 1.3 less the confidence: all of it at 0.3, half at 0.8.
    torch.testing.assert_close(restored(0.3), restored(None), rtol=0, atol=1e-5)
    torch.testing.assert_close(restored(0.8), restored(None, model_error=0.2), rtol=0, atol=1e-5)
    assert (restored(0.3) - restored(0.8)).abs().max() > 1e-3
    torch.testing.assert_close(restored(0.8, trust=None), restored(None, trust=None), rtol=0, atol=0)


def test_a_sample_is_not_mixed_with_the_regression_where_the_map_is_trusted(pipeline, photo):
    with_prior = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=_certain_prior(0.1))
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01}
    certain = torch.ones(1, 1, 24, 33)
    # Weights of trust that make it 1: of a sample nothing is left but the sampler's result, of a mean a half.
    sure = [0.0, 0.0, 100.0]
    sample = SamplerSettings(**FEW, output="sample", trust=sure, latent_prior_variance=1e8, model_error=0.0)
    mean = replace(sample, output="mean")
    drawn, mixed = (with_prior(photo, **options, confidence=certain, settings=s).image for s in (sample, mean))
    # Without trust nothing is mixed, and confidence has no say.
    alone = with_prior(photo, **options, settings=replace(sample, trust=None)).image
    half = with_prior(photo, **options, settings=replace(mean, trust=None)).image
    assert torch.equal(drawn, alone) and not torch.allclose(mixed, half, atol=1e-3)


def test_the_models_error_counts_as_noise(pipeline, photo):
    radius_map, y = torch.full((1, 1, 24, 33), 2.0), torch.full_like(photo, 0.4)
    exact = SamplerSettings(precision="fp32", **FEW)
    results = [
        pipeline(y, radius_map=radius_map, noise_std=std, settings=replace(exact, model_error=error)).image
        for std, error in ((0.03, 2.0), (0.05, 0.0))
    ]
    # A flat capture has the floor of 0.01 for each pixel of the radius' error: 0.03^2 + (0.01 x 2 x 2)^2 = 0.05^2.
    assert torch.allclose(results[0], results[1], atol=1e-5)


@pytest.mark.parametrize("sde", [VESDE(), VPSDE(), SubVPSDE()], ids=["ve", "vp", "sub-vp"])
def test_the_sde_does_not_change_a_restoration_from_the_same_noise(photo, sde):
    torch.manual_seed(0)
    network = ScoreNetwork(channels=(8, 8), blocks=1, embedding=16)
    radius_map = torch.full((1, 1, 24, 33), 1.5)
    settings = SamplerSettings(**FEW)
    reference = DefocusDeblurPipeline(network, VESDE())(photo, radius_map=radius_map, settings=settings).image
    result = DefocusDeblurPipeline(network, sde)(photo, radius_map=radius_map, settings=settings).image
    assert torch.allclose(result, reference, atol=2e-4)


def test_a_prior_that_knows_the_photo_restores_it(photo):
    x = torch.nn.functional.avg_pool2d(photo, 3, 1, 1)
    operator = DefocusOperator(torch.full((1, 1, 24, 33), 2.0))
    canvas = operator.extend(x)
    pipeline = DefocusDeblurPipeline(PerfectPrior(2 * canvas - 1), VESDE())
    result = pipeline(operator(canvas).clamp(0, 1), radius_map=operator.radius_map, noise_std=0.01, lens=DISK)
    assert torch.allclose(result.image, x, atol=1e-3)


@pytest.mark.parametrize(
    ("image", "radius_map", "words"),
    [
        (torch.zeros(3, 8, 8), None, r"\(1, 3, H, W\)"),
        (torch.full((1, 3, 8, 8), float("nan")), None, "finite"),
        (torch.full((1, 3, 8, 8), 2.0), None, r"\[0, 1\]"),
        (torch.zeros(1, 3, 0, 8), None, r"at least one pixel, got the shape \(1, 3, 0, 8\)"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 9), r"\(1, 1, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8), torch.full((1, 1, 8, 8), 1000.0), "up to 100 pixels, got 1000"),
        (torch.zeros(1, 3, 8, 8), torch.full((1, 1, 8, 8), math.nan), "finite, non-negative radii"),
        (torch.zeros(1, 3, 8, 8), [[2.0]], "radius_map must be a tensor or an array of numbers, got list"),
        (torch.zeros(1, 3, 8, 8), np.full((8, 8), "2"), "radius_map must be a tensor or an array of numbers, got an"),
    ],
)  # fmt: skip
def test_bad_input_is_named(pipeline, image, radius_map, words, monkeypatch):
    # Before a lens is looked for, by PSFs of all the radii of the map.
    monkeypatch.setattr(UnknownLens, "found", None)
    with pytest.raises(ValueError, match=words):
        pipeline(image, radius_map=radius_map)
    with pytest.raises(ValueError, match=r"confidence must have shape \(1, 1, 8, 8\)"):
        pipeline(torch.zeros(1, 3, 8, 8), radius_map=torch.ones(1, 1, 8, 8), confidence=torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *[({"noise_std": value}, f"noise_std must be a number above 0 and below 1, or None, got {value!r}")
          for value in (-0.1, 0, 1.0, 5.0, math.nan, "0.01")],
        *[({"confidence": torch.full((1, 1, 24, 33), value)}, r"confidence must hold finite values in \[0, 1\], got")
          for value in (2.0, 255.0, -1.0, math.nan)],
        ({"radius_map": None, "confidence": torch.ones(1, 1, 24, 33)}, "confidence must come with the radius_map"),
        ({"map_estimator": "edges"}, "map_estimator must be None with a radius_map that is given, got 'edges'"),
        ({"settings": {"steps": 3}}, "settings must be SamplerSettings or None, got dict"),
        ({"lens": "disk"}, "lens must be a Lens or an UnknownLens of optics, got 'disk'"),
        ({"generator": 7}, "generator must be a torch.Generator, .* got 7"),
        ({"generator": 0}, "generator must be a torch.Generator, .* got 0"),
        ({"generator": [torch.Generator()] * 2}, "generator must be one or a list of 1 like the images, got 2"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_named(pipeline, photo, options, words):
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0)} | options
    for image in (photo, [photo]):
        with pytest.raises(ValueError, match=words):
            pipeline(image, **options)


def test_maps_may_be_arrays(pipeline, photo):
    options = {"settings": SamplerSettings(**FEW), "noise_std": 0.01}
    radius, sure = np.linspace(0, 3, 24 * 33).reshape(24, 33), np.full((1, 1, 24, 33), 0.5, np.float32)
    maps = {"radius_map": torch.from_numpy(radius).float()[None, None], "confidence": torch.from_numpy(sure)}
    expected = pipeline(photo, **maps, **options)
    given = pipeline(photo, radius_map=radius, confidence=sure, **options)
    assert torch.equal(given.image, expected.image) and torch.equal(given.radius_map, maps["radius_map"])
    # Read-only and upside down in memory.
    given = pipeline([photo], radius_map=np.broadcast_to(radius[::-1], (24, 33))[::-1], confidence=sure, **options)
    assert torch.equal(given.restorations[0].image, expected.image)


def test_a_list_of_one_generator_serves_one_tensor(pipeline, photo):
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "settings": SamplerSettings(**FEW)}
    listed = pipeline(photo, **options, generator=[torch.Generator().manual_seed(3)]).image
    assert torch.equal(listed, pipeline(photo, **options, generator=torch.Generator().manual_seed(3)).image)
    assert not torch.equal(listed, pipeline(photo, **options).image)


@pytest.mark.parametrize(
    "settings",
    [dict(FEW), dict(FEW, grid="log-snr"), dict(steps=6, restarts=1), dict(steps=3, solver="daps", ode_steps=2)],
)
def test_the_default_type_of_pytorch_changes_nothing(pipeline, photo, settings):
    prior = SwinDiff(channels=(32, 32), blocks=(1, 1), windows=(0, 0), latent=8, encoder=8, steps=2, stage=2)
    with_prior = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=prior)
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0)}
    expected = with_prior(photo, **options, settings=SamplerSettings(**settings)).image
    torch.set_default_dtype(torch.float64)
    try:
        image = with_prior(photo, **options, settings=SamplerSettings(**settings)).image
    finally:
        torch.set_default_dtype(torch.float32)
    assert image.dtype == torch.float32 and torch.equal(image, expected)


def test_networks_in_double_precision_are_refused(pipeline, photo):
    with pytest.raises(ValueError, match=r"score_network must be in float32, .* got torch\.float64"):
        pipeline.to(torch.float64)(photo)


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_a_callback_of_diffusers_changes_is_no_state(pipeline, photo, solver):
    settings = SamplerSettings(steps=3, solver=solver)
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.01, "settings": settings}
    seen = []

    def spoil(_pipe, _step, _sigma, state):
        seen.append({name: values.clone() for name, values in state.items()})
        for values in state.values():
            values.zero_()

    expected = pipeline(photo, **options).image
    assert torch.equal(pipeline(photo, **options, callback_on_step_end=spoil).image, expected)
    assert len(seen) >= 3 and all(state["estimate"].any() and state["latents"].any() for state in seen)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_photos_of_any_precision_are_restored(pipeline, photo, dtype):
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "settings": SamplerSettings(**FEW), "noise_std": 0.01}
    photo = photo.to(dtype)
    expected = pipeline(photo.float(), **options).image
    assert torch.equal(pipeline(photo, **options).image, expected) and expected.dtype == torch.float32


@pytest.mark.parametrize("bias", ["head.bias", "error.2.bias"])
def test_a_latent_prior_that_overflows_is_named(pipeline, photo, bias):
    prior = _certain_prior(0.1)
    with torch.no_grad():
        prior.backbone.get_parameter(bias).fill_(math.nan)
    broken = DefocusDeblurPipeline(pipeline.score_network, pipeline.sde, latent_prior=prior)
    with pytest.raises(FloatingPointError, match="from the latent prior"):
        broken(photo, radius_map=torch.full((1, 1, 24, 33), 2.0), noise_std=0.01, settings=SamplerSettings(**FEW))


@pytest.mark.parametrize("solver", ["predictor-corrector", "dpm-solver", "daps"])
def test_runs_are_averaged_as_separate_restorations_are(photo, solver):
    # In the middle of the range, so that nothing is clipped before or after the mean.
    pipeline, photo = DefocusDeblurPipeline(TimidPrior(), VESDE()), 0.45 + 0.1 * photo
    options = {"radius_map": torch.full((1, 1, 24, 33), 2.0), "noise_std": 0.02}
    # What a solver that stops early finds depends on its start.
    settings = SamplerSettings(steps=3, solver=solver, cg_iterations=1)
    generator, steps = torch.Generator().manual_seed(5), []
    apart = [pipeline(photo, **options, settings=settings, generator=generator) for _ in range(3)]
    together = pipeline(
        photo, **options, settings=replace(settings, runs=3), generator=torch.Generator().manual_seed(5),
        callback=lambda step: steps.append((step.index, step.total)),
    )  # fmt: skip
    assert not torch.equal(apart[0].image, apart[1].image)
    mean = sum(one.image for one in apart) / 3
    torch.testing.assert_close(together.image, mean, atol=1e-6, rtol=0)
    expected = replace(settings, runs=3).evaluations
    assert together.evaluations == expected == 3 * apart[0].evaluations
    assert steps == [(number, expected) for number in range(1, expected + 1)]
