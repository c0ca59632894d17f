"""What is learned: forward SDEs, the score network, denoisers and the training objective."""

from diffusion.denoiser import Denoiser, ScoreDenoiser
from diffusion.objective import DenoisingScoreMatching, Uncertainty, denoising_error
from diffusion.score_network import ScoreNetwork
from diffusion.sde import SDE, VESDE, VPSDE, SubVPSDE
from diffusion.weighting import EDMWeighting, LikelihoodWeighting, NoiseLevels, ObjectiveConfig, weighting_of

__all__ = [
    "SDE", "Denoiser", "DenoisingScoreMatching", "EDMWeighting", "LikelihoodWeighting", "NoiseLevels",
    "ObjectiveConfig", "ScoreDenoiser", "ScoreNetwork", "SubVPSDE", "Uncertainty", "VESDE", "VPSDE",
    "denoising_error", "weighting_of",
]  # fmt: skip
