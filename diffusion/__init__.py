"""What is learned: forward SDEs, the score network, denoisers and the training objective."""

from diffusion.denoiser import Denoiser, ScoreDenoiser
from diffusion.objective import NoiseLevels, denoising_loss
from diffusion.score_network import ScoreNetwork
from diffusion.sde import SDE, VESDE, VPSDE, SubVPSDE

__all__ = [
    "SDE", "Denoiser", "NoiseLevels", "ScoreDenoiser", "ScoreNetwork", "SubVPSDE", "VESDE", "VPSDE",
    "denoising_loss",
]  # fmt: skip
