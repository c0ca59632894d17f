"""Methods of this project."""

import pytest
import torch

from diffusion.latent_prior import SwinDiff
from evaluation.methods import MethodUnavailable
from evaluation.methods.ours import identity, score, swin_diff, tv, tv_bank
from evaluation.metrics import psnr
from optics import DISK, UNKNOWN
from optics.defocus_map import EdgeEstimator
from restorers.swin_diff import SwinDiffRestorer
from samplers.pipeline import DefocusDeblurPipeline
from samplers.settings import SamplerSettings

CPU = torch.device("cpu")


def test_identity_changes_nothing(varying, generator):
    method = identity(None, CPU)
    result = method(varying, None, generator)
    assert result.image is varying.y and result.evaluations == 0 and not method.takes_map


@pytest.mark.parametrize("maker", [tv, tv_bank])
def test_tv_uses_the_map_it_is_given(varying, generator, maker):
    method = maker(None, CPU)
    gains = [
        psnr(method(varying, radius_map, generator).image, varying.x) - psnr(varying.y, varying.x)
        for radius_map in (varying.radius_map, varying.radius_map.flip(-1))
    ]
    assert gains[0] > 2 > gains[1] + 1


def test_the_bank_is_blind_by_its_own_map(varying, generator):
    result = tv_bank(None, CPU)(varying, None, generator)
    radius_map, _ = EdgeEstimator()(varying.y)
    assert torch.equal(result.radius_map, radius_map) and radius_map.max() > 0
    assert psnr(result.image, varying.x) > psnr(varying.y, varying.x)


def test_swin_diff_is_the_restorer_and_takes_no_map(tiny, varying, tmp_path):
    with pytest.raises(MethodUnavailable, match="needs weights with a latent_prior"):
        swin_diff(tiny, CPU)
    torch.manual_seed(0)
    network = SwinDiff(channels=(32, 32), blocks=(1, 1), windows=(0, 0), latent=8, encoder=8, steps=2, stage=2)
    for parameter in network.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    network.save_pretrained(tmp_path / "latent_prior")
    tiny.weights = str(tmp_path)
    method = swin_diff(tiny, CPU)
    result = method(varying, None, torch.Generator().manual_seed(1))
    expected = SwinDiffRestorer(network.eval())(varying.y, torch.Generator().manual_seed(1))
    torch.testing.assert_close(result.image, expected, atol=1e-5, rtol=0)
    assert result.evaluations == 1 and not method.takes_map


@pytest.mark.parametrize("true_map", [True, False])
def test_score_is_the_pipeline(tiny, varying, true_map):
    radius_map = varying.radius_map if true_map else None
    result = score(tiny, CPU)(varying, radius_map, torch.Generator().manual_seed(1))
    # The preset "fast"; where the map is true so is the lens, and there is no error of the model.
    settings = SamplerSettings(steps=5, sigma_start=0.2, corrector=False, cg_iterations=2)
    settings.model_error = 0.0 if true_map else settings.model_error
    expected = DefocusDeblurPipeline.from_pretrained(tiny.weights)(  # fmt: skip
        varying.y, radius_map=radius_map, lens=DISK if true_map else UNKNOWN, settings=settings,
        generator=torch.Generator().manual_seed(1),
    )
    assert torch.equal(result.image, expected.image)
    assert torch.equal(result.radius_map, expected.radius_map)
    assert result.evaluations == expected.evaluations


def test_presets_and_overrides_of_a_column_win(tiny):
    assert score(tiny, CPU).settings.steps == 5
    assert score(tiny, CPU, preset="best").settings.runs == 3
    balanced = score(tiny, CPU, preset="balanced", overrides=["corrector=false", "cg_iterations=3"]).settings
    assert (balanced.steps, balanced.corrector, balanced.cg_iterations) == (8, False, 3)


def test_unknown_settings_are_refused(tiny):
    with pytest.raises(ValueError, match="step"):
        score(tiny, CPU, overrides=["stepps=3"])
