"""What methods that are not blind are told."""

import pytest
import torch

from evaluation.methods.blur import blur_of
from optics import EvidenceEstimator, estimate_noise_std
from optics.model_error import model_error_std
from samplers import SamplerSettings


def test_a_true_map_is_exact(varying):
    blur = blur_of(varying.y, varying.radius_map)
    assert blur.radius_map is varying.radius_map
    assert blur.total_std == blur.noise_std == estimate_noise_std(varying.y)
    assert blur.mean_radius == pytest.approx(2.25)


def test_an_estimated_map_is_the_pipelines_and_errs(varying):
    blur = blur_of(varying.y, None)
    assert torch.equal(blur.radius_map, EvidenceEstimator()(varying.y, blur.noise_std)[0])
    assert blur.mean_radius > 1
    error = model_error_std(varying.y, blur.radius_map, SamplerSettings().model_error)
    assert blur.total_std**2 == pytest.approx(blur.noise_std**2 + float(error.square().mean()))
