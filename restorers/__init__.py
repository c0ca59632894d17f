"""Methods from a capture to a sharp picture that are not the diffusion sampler."""
