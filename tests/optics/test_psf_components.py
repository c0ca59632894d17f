"""Components against the PSFs that they stand for, and their error against that of blurred photos."""

import pytest
import torch

from optics import bank_radii, defocus_psf
from optics.psf_components import photo_power, psf_components

HEIGHT, WIDTH = 54, 49


def _transfer_functions(softness=0.0, largest=8.0, skewed=False):
    """Spectra of the PSFs of a bank, complex if they are not symmetric; (K, h, w // 2 + 1)."""
    psfs = [defocus_psf(float(radius), softness, 16) for radius in bank_radii(largest)[1:]]
    if skewed:
        psfs = [psf * torch.linspace(0, 1, 33, dtype=psf.dtype) for psf in psfs]
    kernels = torch.zeros(len(psfs), HEIGHT, WIDTH, dtype=torch.float64)
    kernels[:, :33, :33] = torch.stack([psf / psf.sum() for psf in psfs])
    spectra = torch.fft.rfft2(kernels.roll((-16, -16), (1, 2)))
    return spectra if skewed else spectra.real


def _rebuilt(components):
    mean, rest = components.spectra[0], components.spectra[1:]
    return mean + torch.einsum("rk,rhw->khw", components.coefficients.to(rest.dtype), rest)


@pytest.mark.parametrize("skewed", [False, True])
def test_all_components_together_are_the_bank(skewed):
    bank = _transfer_functions(skewed=skewed)
    components = psf_components(bank, WIDTH, 0.0)
    assert len(components.spectra) <= len(bank)
    torch.testing.assert_close(_rebuilt(components), bank, rtol=0, atol=1e-6)


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("softness", [0.0, 0.3])
@pytest.mark.parametrize("tolerance", [0.002, 0.02])
def test_photos_are_blurred_to_the_tolerance_and_by_no_more_components_than_that_takes(softness, tolerance, skewed):
    bank = _transfer_functions(softness, skewed=skewed)
    components = psf_components(bank, WIDTH, tolerance)
    # A photo of the expected spectrum: random phases of a real picture.
    noise = torch.randn(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    phases = torch.fft.fft2(noise)
    rows, columns = torch.fft.fftfreq(HEIGHT), torch.fft.fftfreq(WIDTH)
    amplitude = (rows[:, None] ** 2 + columns**2 + 1 / 64**2) ** -0.5
    amplitude[0, 0] = 0
    photo = torch.fft.ifft2(phases / phases.abs() * amplitude).real

    def errors(kept):
        left_out = _rebuilt(type(components)(components.spectra[: kept + 1], components.coefficients[:kept])) - bank
        changes = torch.fft.irfft2(torch.fft.rfft2(photo) * left_out, s=(HEIGHT, WIDTH))
        return changes.std((1, 2), correction=0) / photo.std(correction=0)

    kept = len(components.coefficients)
    assert errors(kept).max() <= tolerance * (1 + 1e-4)
    assert errors(kept - 1).max() > tolerance
    assert kept < len(bank) / 1.5


def test_equal_psfs_need_no_component_and_one_psf_is_itself():
    bank = _transfer_functions()[:1]
    for count in (1, 3):
        components = psf_components(bank.expand(count, -1, -1), WIDTH, 1e-6)
        assert components.coefficients.shape == (0, count)
        torch.testing.assert_close(components.spectra, bank)


def test_components_leave_the_mean_of_a_picture_alone():
    components = psf_components(_transfer_functions(), WIDTH, 0.005)
    assert components.spectra[0, 0, 0] == pytest.approx(1, abs=1e-12)
    assert components.spectra[1:, 0, 0].abs().max() < 1e-12


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7), (6, 11), (1, 6)])
def test_the_power_of_photos_is_that_of_all_frequencies(height, width):
    power = photo_power(height, width)
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    whole = 1 / (rows[:, None] ** 2 + columns**2 + 1 / 64**2)
    whole[0, 0] = 0
    whole /= whole.sum()
    torch.testing.assert_close(power[:, 0], whole[:, 0])
    both = whole + whole.flip(0).roll(1, 0).flip(1).roll(1, 1)
    for column in range(1, (width + 1) // 2):
        torch.testing.assert_close(power[:, column], both[:, column])
    assert float(power.sum()) == pytest.approx(1)
