"""Labels, weights and loss of the defocus map network against their definitions."""

import numpy as np
import pytest
import torch

from optics.defocus_map.network import DefocusMapNetwork
from train.radius_likelihood import RadiusLikelihood, cell_weights, soft_labels

RADII = (0.0, 0.25, 0.5, 1.0, 2.0)


def test_labels_are_distributions_with_the_radius_for_a_mean():
    radius = 2 * torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    radius[0, 0, 0, :4] = torch.tensor([0.0, 0.25, 2.0, 0.5])
    labels = soft_labels(radius, RADII)
    assert labels.shape == (2, 5, 5, 6)
    assert torch.allclose(labels.sum(1), torch.ones(())) and labels.min() >= 0
    assert torch.allclose((labels * torch.tensor(RADII)[:, None, None]).sum(1, keepdim=True), radius, atol=1e-6)
    # On two neighbouring candidates at most, which none of another mean has.
    support = (labels > 1e-6).sum(1)
    assert support.max() == 2 and (support[0, 0, :4] == 1).all()
    # Beyond the candidates, the last.
    assert soft_labels(torch.full((1, 1, 1, 1), 7.0), RADII).flatten().tolist() == [0, 0, 0, 0, 1]


def test_weights_fall_with_the_range_of_radii_around_a_cell():
    generator = np.random.default_rng(1)
    radius = 3 * generator.random((1, 1, 20, 24), dtype=np.float32)
    weights = cell_weights(torch.from_numpy(radius))[0, 0].numpy()
    for row in range(5):
        for column in range(6):
            window = radius[0, 0, max(4 * row - 4, 0) : 4 * row + 8, max(4 * column - 4, 0) : 4 * column + 8]
            assert weights[row, column] == pytest.approx(1 / (1 + np.ptp(window) ** 2), rel=1e-5)
    assert (cell_weights(torch.full((1, 1, 16, 16), 5.0)) == 1).all()


def test_the_loss_is_the_weighted_cross_entropy():
    torch.manual_seed(0)
    network = DefocusMapNetwork(channels=(4, 6), blocks=(1, 1))
    torch.nn.init.normal_(network.head.weight)
    y = torch.rand(2, 3, 16, 20)
    radius_map = 8 * torch.rand(2, 1, 16, 20)
    loss = RadiusLikelihood(network)(y, radius_map).detach()
    cells = radius_map.reshape(2, 1, 4, 4, 5, 4).mean((3, 5))
    labels, weights = soft_labels(cells, network.radii), cell_weights(radius_map)
    for index in range(2):
        total = scale = 0.0
        for row in range(4):
            for column in range(5):
                log_probability = network(y)[index, :, row, column]
                weight = float(weights[index, 0, row, column])
                total -= weight * float(labels[index, :, row, column] @ log_probability.detach())
                scale += weight
        assert float(loss[index]) == pytest.approx(total / scale, rel=1e-4)


def test_the_network_learns_what_it_is_told():
    torch.manual_seed(0)
    network = DefocusMapNetwork(channels=(8, 12), blocks=(1, 1))
    objective = RadiusLikelihood(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    # Noise of two strengths stands for two radii.
    y = torch.cat([0.5 + 0.05 * torch.randn(4, 3, 32, 32), 0.5 + 0.3 * torch.randn(4, 3, 32, 32)])
    radius_map = torch.cat([torch.full((4, 1, 32, 32), 1.0), torch.full((4, 1, 32, 32), 4.0)])
    for _ in range(40):
        optimizer.zero_grad()
        loss = objective(y, radius_map).mean()
        loss.backward()
        optimizer.step()
    # It began at ln 26 = 3.3.
    assert loss < 1.5
