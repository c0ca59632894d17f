"""How a lens defocuses: point spread functions, the operator and its adjoint, light, noise, the defocus map."""

from optics.operator import DefocusOperator
from optics.psf import PSF_SOFTNESS, bank_radii, defocus_psf, psf_bank

__all__ = ["PSF_SOFTNESS", "DefocusOperator", "bank_radii", "defocus_psf", "psf_bank"]
