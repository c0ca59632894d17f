"""How a lens defocuses: point spread functions, the operator and its adjoint, light, noise, the defocus map."""

from optics.defocus_map import EvidenceEstimator
from optics.lens import DISK, Lens
from optics.lens_choice import TYPICAL, UNKNOWN, UnknownLens
from optics.light import LinearLightDefocus, to_linear, to_srgb
from optics.measured_psf import MeasuredPSF, read_measured_psf
from optics.noise import estimate_noise_std
from optics.operator import MAX_RADIUS, DefocusOperator, check_radius_map
from optics.psf import PSF_SOFTNESS, bank_radii, defocus_psf, psf_bank

__all__ = [
    "DISK", "MAX_RADIUS", "PSF_SOFTNESS", "TYPICAL", "UNKNOWN", "DefocusOperator", "EvidenceEstimator", "Lens",
    "LinearLightDefocus", "MeasuredPSF", "UnknownLens", "bank_radii", "check_radius_map", "defocus_psf",
    "estimate_noise_std", "psf_bank", "read_measured_psf", "to_linear", "to_srgb",
]  # fmt: skip
