"""Posterior denoisers: E[x_0 | x_t, y] from E[x_0 | x_t], a capture y and a model of the blur."""

from samplers.guidance.proximal import ForwardModel, ProximalGuidance, SecondEstimate

__all__ = ["ForwardModel", "ProximalGuidance", "SecondEstimate"]
