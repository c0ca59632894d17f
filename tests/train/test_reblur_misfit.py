"""Re-blurring by a mixture of radii: the operator's own arithmetic, its minimum, its gradient."""

import pytest
import torch

from optics import DefocusOperator
from train.radius_likelihood import soft_labels
from train.reblur_misfit import ReblurMisfit

RADII = (0.0, 1.0, 1.5, 2.0, 3.0)


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def _cells(radius, like):
    """Certain distributions of one radius."""
    return soft_labels(torch.full((2, 1, 8, 10), float(radius)), RADII).to(like)


def test_a_certain_radius_blurs_as_the_defocus_operator_does(x):
    misfit = ReblurMisfit(RADII)
    for radius in (0.0, 1.0, 3.0):
        operator = DefocusOperator(torch.full((1, 1, 32 - 2 * misfit.margin, 40 - 2 * misfit.margin), radius))
        spare = misfit.margin - operator.margin
        canvas = x[..., spare : x.shape[2] - spare, spare : x.shape[3] - spare]
        assert torch.allclose(misfit.reblurred(_cells(radius, x), x), operator(canvas), atol=1e-5)


@pytest.mark.parametrize("truth", [0.0, 1.0, 2.0])
def test_the_misfit_is_least_at_the_true_radius(x, truth):
    misfit = ReblurMisfit(RADII)
    y = x.clone()
    inner = slice(misfit.margin, -misfit.margin)
    y[..., inner, inner] = misfit.reblurred(_cells(truth, x), x)
    best = misfit(_cells(truth, x), y, x)
    assert best.max() < 1e-4
    for other in RADII:
        if other != truth:
            assert (misfit(_cells(other, x), y, x) > best + 0.1).all()
    # Convex in the probabilities: towards any other distribution it only grows.
    generator = torch.Generator().manual_seed(1)
    other = torch.rand(2, len(RADII), 8, 10, generator=generator).softmax(1)
    values = [misfit(torch.lerp(_cells(truth, x), other, share), y, x) for share in (0.0, 0.2, 0.5, 1.0)]
    assert all((late > early).all() for early, late in zip(values, values[1:], strict=False))


def test_the_gradient_is_that_of_the_misfit(x):
    # No reference but arithmetic: double precision, differences along random directions of the log-probabilities.
    misfit, x = ReblurMisfit(RADII), x.double()
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, len(RADII), 8, 10, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, 32, 40, generator=generator, dtype=torch.float64)
    loss = misfit(logits.softmax(1), y, x).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    for _ in range(3):
        direction = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 * direction
        ends = [misfit((logits.detach() + sign * step).softmax(1), y, x).sum() for sign in (1, -1)]
        assert float((ends[0] - ends[1]) / 2e-5) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_captures_within_the_margins_are_refused(x):
    misfit = ReblurMisfit((0.0, 16.0))
    with pytest.raises(ValueError, match="larger than 2 x 16 pixels"):
        misfit(torch.full((2, 2, 8, 10), 0.5), x, x)


def test_kernels_are_learnt_from_pairs_and_keep_their_radii(x):
    radii = (0.0, 2.0, 4.0)
    photos = torch.rand(2, 3, 48, 56, generator=torch.Generator().manual_seed(3))
    cells = torch.zeros(2, 3, 12, 14)
    cells[0, 1], cells[1, 2] = 1, 1
    truth, misfit = ReblurMisfit(radii, learned=True), ReblurMisfit(radii, learned=True)
    shares = torch.tensor([0.5, 0.8, 0.3])
    with torch.no_grad():
        truth.shape.copy_(torch.logit(shares))
        y = photos.clone()
        inner = slice(truth.margin, -truth.margin)
        y[..., inner, inner] = truth.reblurred(cells, photos)
    optimizer = torch.optim.Adam(misfit.parameters(), 0.2)
    for _ in range(80):
        optimizer.zero_grad()
        misfit(cells, y, photos).sum().backward()
        optimizer.step()
    torch.testing.assert_close(misfit.shape.sigmoid()[1:], shares[1:], rtol=0, atol=0.02)
    # The standard deviation along an axis is r / 2, and a pixel's own 1 / 12 beside it, whatever the shape, but for
    # the tails of Gaussians, which end at 3 standard deviations.
    places = torch.arange(misfit.kernels.shape[-1], dtype=torch.float64) - misfit.margin
    for kernels in (misfit.kernels, ReblurMisfit(radii, learned=True).kernels):
        variance = (kernels.sum(1) * places.square()).sum(1)[1:]
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(3, dtype=torch.float64))
        expected = torch.tensor([1.0, 4.0], dtype=torch.float64) + 1 / 12
        torch.testing.assert_close(variance, expected, rtol=0.04, atol=0)


def test_kernels_are_disks_unless_learnt_and_nearly_so_at_first():
    assert not list(ReblurMisfit(RADII).parameters())
    disk, kernel = (ReblurMisfit(RADII, learned=learned).kernels[-1].detach() for learned in (False, True))
    spare = (kernel.shape[-1] - disk.shape[-1]) // 2
    middle = kernel[spare : spare + disk.shape[-1], spare : spare + disk.shape[-1]]
    assert 0.01 < float((middle - disk).abs().sum()) < 0.1
    assert [tuple(p.shape) for p in ReblurMisfit(RADII, learned=True).parameters()] == [(len(RADII),)]
