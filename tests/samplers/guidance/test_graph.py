"""Products captured in CUDA graphs: refused elsewhere, and the same as without where a GPU is."""

import pytest
import torch

import samplers.guidance.likelihood as likelihood_module
from diffusion import VESDE, Denoiser, ScoreNetwork
from optics import DefocusOperator, LinearLightDefocus
from samplers.choices import GUIDANCES, SOLVERS
from samplers.guidance import ProximalGuidance
from samplers.guidance.graph import CapturedMap
from samplers.pipeline import DefocusDeblurPipeline
from samplers.settings import SamplerSettings

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CPU_IS_REFUSED = "^graph_capture must be False on the device cpu, for graphs are CUDA's, got True$"
SIZE = (60, 70)


class _Faint(Denoiser):
    """The denoiser of photos with less contrast than their states."""

    def __init__(self) -> None:
        super().__init__()
        self.sde = VESDE()

    def forward(self, x_t, t):
        return 0.9 * x_t


def _random(shape, seed, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def _operator(device, **options):
    radius_map = torch.linspace(0, 5, SIZE[1]).sub(1).clamp(min=0).expand(1, 1, *SIZE)
    return DefocusOperator(radius_map.to(device), block=20, batch=1000, **options)


def _estimates(device, light, **options):
    """Two estimates of one guidance, the second from the increment of the first."""
    operator = _operator(device)
    model = LinearLightDefocus(operator) if light == "linear" else operator
    y, noise_std = 0.3 * _random((2, 3, *SIZE), 1, device), 0.02 + 0.02 * _random((2, 1, *SIZE), 3, device).abs()
    guidance = ProximalGuidance(_Faint(), model, y, noise_std, **options)
    x_t, sde = 0.3 * _random((2, 3, *operator.canvas_size), 2, device), guidance.sde
    times = (sde.time_of(torch.tensor(sigma, device=device)) for sigma in (0.3, 0.1))
    with torch.no_grad():
        return [guidance(x_t, t) for t in times]


def test_maps_on_a_cpu_are_not_captured():
    with pytest.raises(ValueError, match="^a graph must be captured on a CUDA device, got cpu$"):
        CapturedMap(torch.neg, torch.zeros(3))


def test_a_cpu_is_refused_before_the_work():
    settings = SamplerSettings(graph_capture=True)
    with pytest.raises(ValueError, match=CPU_IS_REFUSED):
        settings.check(VESDE(), device=torch.device("cpu"))
    settings.check(VESDE(), device=torch.device("cuda", 1))
    settings.check(VESDE())
    SamplerSettings().check(VESDE(), device=torch.device("cpu"))


def test_the_pipeline_refuses_a_photo_on_a_cpu():
    pipeline = DefocusDeblurPipeline(ScoreNetwork(channels=(8, 8), blocks=1, embedding=16), VESDE())
    photo, radius_map = torch.full((1, 3, 20, 20), 0.5), torch.full((1, 1, 20, 20), 2.0)
    with pytest.raises(ValueError, match=CPU_IS_REFUSED):
        pipeline(photo, radius_map=radius_map, settings=SamplerSettings(graph_capture=True))


@pytest.mark.parametrize("guidance", [name for name in GUIDANCES if name != "proximal"])
def test_other_guidances_name_the_one_that_captures(guidance):
    with pytest.raises(ValueError, match="^graph_capture must be False unless guidance is proximal, got True$"):
        SamplerSettings(guidance=guidance, model_error=0.0, graph_capture=True)


@pytest.mark.parametrize("solver", ["daps", "red-diff"])
def test_solvers_that_meet_the_capture_themselves_name_those_that_capture(solver):
    assert solver in SOLVERS
    with pytest.raises(ValueError, match="^graph_capture must be False unless solver is predictor-.* got True$"):
        SamplerSettings(solver=solver, graph_capture=True)


@pytest.mark.parametrize("asked", [False, True])
def test_the_setting_reaches_the_product_of_every_solution(asked, monkeypatch):
    captured, applied = [], []

    def plain(apply, like):
        captured.append(tuple(like.shape))

        def counted(x):
            applied.append(1)
            return apply(x)

        return counted

    monkeypatch.setattr(likelihood_module, "CapturedMap", plain)
    operator, sde = _operator("cpu"), VESDE()
    settings = SamplerSettings(graph_capture=asked, cg_iterations=5)
    guidance = settings.guided(_Faint(), operator, 0.3 * _random((1, 3, *SIZE), 1), 0.02)
    x_t = 0.3 * _random((1, 3, *operator.canvas_size), 2)
    for sigma in (0.3, 0.1):
        guidance(x_t, sde.time_of(torch.tensor(sigma)))
    assert captured == asked * [tuple(x_t.shape)] * 2 and len(applied) == asked * 10


@CUDA
@pytest.mark.parametrize("options", [{}, {"channel_scales": (1.1, 1.0, 0.9)}, {"softness": 0.3}])
def test_captured_products_are_the_plain_ones(options):
    operator = _operator("cuda", **options)
    weight = _random((1, 3, *SIZE), 3, "cuda").abs()

    def product(x):
        return operator.normal(x, weight).addcmul_(weight.mean(), x)

    inputs = [_random((1, 3, *operator.canvas_size), seed, "cuda") for seed in (4, 5, 6)]
    expected = [product(x) for x in inputs]
    captured = CapturedMap(product, inputs[0])
    for x, image in zip(inputs + inputs[:1], expected + expected[:1], strict=True):
        torch.testing.assert_close(captured(x), image, rtol=0, atol=1e-5)


@CUDA
@pytest.mark.parametrize("light", ["srgb", "linear"])
def test_estimates_by_captured_products_are_the_plain_ones(light):
    plain = _estimates("cuda", light)
    for estimate, expected in zip(_estimates("cuda", light, graph_capture=True), plain, strict=True):
        torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-4)


@CUDA
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_a_gpu_has_the_products_of_a_cpu(batch):
    radius_map = torch.linspace(0, 5, SIZE[1]).sub(1).clamp(min=0).expand(1, 1, *SIZE)
    there, here = (DefocusOperator(radius_map.to(device), block=20, batch=batch) for device in ("cuda", "cpu"))
    x, y = _random((2, 3, *here.canvas_size), 7), _random((2, 3, *SIZE), 8)
    torch.testing.assert_close(there(x.cuda()).cpu(), here(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(there.adjoint(y.cuda()).cpu(), here.adjoint(y), rtol=0, atol=1e-5)
    assert torch.equal(there.normal(x.cuda(), y.cuda()), there.adjoint(y.cuda() * there(x.cuda())))
