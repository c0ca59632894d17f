"""Motion told from defocus, on random fields whose spectra are known in closed form."""

import math

import pytest
import torch

from optics import defocus_psf
from optics.defocus_map import MotionDetector

SIDE = 256


def _frequencies():
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    return f[:, None], f[None]


def _field(transfer, seed=0, along=None):
    """A grey field of the spectrum of sharp photos, seen through a transfer function, with noise: (1, 1, S, S)."""
    down, right = _frequencies()
    squared = down.square() + right.square()
    amplitude = squared.clamp(min=1e-4) ** -0.55 * torch.exp(-squared * (2 * math.pi * 0.4) ** 2 / 2)
    if along is not None:
        # Content with a direction: four times the amplitude along it than across.
        amplitude = amplitude * torch.exp(math.log(4) / 2 * torch.cos(2 * (torch.atan2(down, right) - along)))
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(SIDE, SIDE, generator=generator, dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(white) * amplitude).real
    scale = 0.15 / field.std()
    field = torch.fft.ifft2(torch.fft.fft2(field * scale) * transfer).real + 0.5
    noise = 0.01 * torch.randn(SIDE, SIDE, generator=generator, dtype=torch.float64)
    return (field + noise).clamp(0, 1).float()[None, None]


def _motion(length, angle):
    down, right = _frequencies()
    return torch.sinc(length * (right * math.cos(angle) + down * math.sin(angle)))


def _disk(radius):
    psf = defocus_psf(radius)
    reach = len(psf) // 2
    kernel = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    kernel[: len(psf), : len(psf)] = psf
    return torch.fft.fft2(kernel.roll((-reach, -reach), (0, 1)))


@pytest.mark.parametrize(("length", "angle"), [(9.0, 0.3), (13.0, 1.2), (18.0, 2.5)])
def test_motion_is_found_with_its_direction_and_length(length, angle):
    motion = MotionDetector()(_field(_motion(length, angle)), 0.01)
    assert motion.found and motion.score > 1
    # Candidates are 11 degrees apart, and their lengths about a third.
    assert abs((motion.angle - angle + math.pi / 2) % math.pi - math.pi / 2) < math.radians(12)
    assert motion.length == pytest.approx(length, rel=0.35)


@pytest.mark.parametrize("radius", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("along", [None, 0.0, 0.9])
def test_defocus_and_content_with_a_direction_are_no_motion(radius, along):
    motion = MotionDetector()(_field(_disk(radius), along=along), 0.01)
    assert not motion.found and motion.score < -1


def test_what_shows_nothing_says_nothing():
    generator = torch.Generator().manual_seed(0)
    noise = (0.5 + 0.05 * torch.randn(1, 3, 200, 200, generator=generator)).clamp(0, 1)
    pictures = [torch.zeros(1, 3, 200, 200), torch.full((1, 3, 200, 200), 0.7), noise, torch.rand(1, 3, 8, 8)]
    for picture in pictures:
        motion = MotionDetector()(picture)
        assert not motion.found and motion.score == -math.inf


def test_what_is_no_capture_is_refused():
    with pytest.raises(ValueError, match="shape"):
        MotionDetector()(torch.zeros(3, 100, 100))
    with pytest.raises(ValueError, match="finite"):
        MotionDetector()(torch.full((1, 3, 100, 100), float("nan")))
