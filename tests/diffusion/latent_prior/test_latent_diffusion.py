"""Diffusion of the latent prior: marginals, posterior means, and the chain they make."""

import torch

from diffusion.latent_prior import LatentDiffusion


def test_steps_of_the_forward_chain_compose_to_the_marginal():
    diffusion = LatentDiffusion(4, 8, steps=6)
    mean, variance = 1.0, 0.0
    ones, zeros = torch.ones(1, 4, 8), torch.zeros(1, 4, 8)
    for t, beta in enumerate(diffusion.beta, start=1):
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        torch.testing.assert_close(diffusion.noised(ones, t, zeros), mean * ones)
        torch.testing.assert_close(diffusion.noised(zeros, t, ones), variance**0.5 * ones)
    # Of the last, next to nothing is signal.
    assert 1 - variance < 1e-3 and diffusion.beta[0] == 0.1 and abs(diffusion.beta[-1] - 0.99) < 1e-12


def test_the_posterior_mean_is_that_of_two_gaussians():
    diffusion = LatentDiffusion(4, 8, steps=5)
    z_0, z_t = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    for t in range(1, 6):
        beta, before = diffusion.beta[t - 1], diffusion.abar[t - 1]
        if t == 1:
            expected = z_0
        else:
            # z_t-1 is N(sqrt(abar) z_0, 1 - abar) and z_t | z_t-1 is N(sqrt(1 - beta) z_t-1, beta).
            precision = 1 / (1 - before) + (1 - beta) / beta
            expected = (before**0.5 * z_0 / (1 - before) + (1 - beta) ** 0.5 * z_t / beta) / precision
        torch.testing.assert_close(diffusion.posterior_mean(z_t, t, z_0), expected)


def test_the_chain_ends_at_the_last_prediction_and_is_differentiated():
    diffusion = LatentDiffusion(4, 8, steps=4)
    noise, condition = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    z_t = noise
    for t in (4, 3, 2):
        z_t = diffusion.posterior_mean(z_t, t, diffusion.predict(z_t, t, condition))
    z = diffusion(noise, condition)
    torch.testing.assert_close(z, diffusion.predict(z_t, 1, condition))
    z.square().sum().backward()
    # All steps have a part in it, and what the capture says has.
    assert (diffusion.time.weight.grad.abs().sum(1) > 0).all()
    assert not torch.equal(z, diffusion(noise, condition.flip(0)))
