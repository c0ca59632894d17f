"""The loss by noise level against numpy, over processes and over a checkpoint."""

import numpy as np
import pytest
import torch

from train.loss_by_noise import LOSS_BINS, LossByNoise

EDGES = [0.02, 0.05, 0.1, 0.2, 0.5]


def _samples(seed, count=300):
    rng = np.random.default_rng(seed)
    sigma = np.exp(rng.normal(-2, 1.2, count)).astype(np.float32)
    # Edges themselves belong to the bin above them.
    sigma[:5] = EDGES
    return sigma, rng.random(count).astype(np.float32)


def _expected(sigma, losses):
    lows, highs = [0, *EDGES], [*EDGES, np.inf]
    inside = [(sigma >= np.float32(low)) & (sigma < np.float32(high)) for low, high in zip(lows, highs, strict=True)]
    return [losses[mask].astype(np.float64).mean() for mask in inside]


def test_means_are_those_of_numpy():
    sigma, losses = _samples(0)
    bins = LossByNoise()
    for part in np.split(np.arange(300), [7, 120, 121]):
        bins.add(torch.from_numpy(sigma[part]), torch.from_numpy(losses[part]))
    bins.collect(lambda sums: sums)
    means = bins.means()
    assert list(means) == list(LOSS_BINS)
    assert list(means.values()) == pytest.approx(_expected(sigma, losses), rel=1e-5)
    assert LOSS_BINS[0] == "loss_by_sigma/0-0.02" and LOSS_BINS[-1] == "loss_by_sigma/0.5-inf"


def test_processes_make_one_mean_not_a_mean_of_means():
    sigma, losses = _samples(1)
    processes = [LossByNoise(), LossByNoise()]
    parts = [slice(0, 40), slice(40, 300)]
    for process, part in zip(processes, parts, strict=True):
        process.add(torch.from_numpy(sigma[part]), torch.from_numpy(losses[part]))
    sent = []
    processes[1].collect(lambda sums: sent.append(sums) or sums)
    processes[0].collect(lambda sums: sums + sent[0])
    assert list(processes[0].means().values()) == pytest.approx(_expected(sigma, losses), rel=1e-5)


def test_empty_bins_are_left_out_and_means_start_anew():
    bins = LossByNoise()
    assert bins.means() == {}
    bins.add(torch.tensor([0.3, 0.4]), torch.tensor([1.0, 2.0]))
    bins.collect(lambda sums: sums)
    bins.collect(lambda sums: pytest.fail("nothing to send"))
    assert bins.means() == {"loss_by_sigma/0.2-0.5": 1.5}
    bins.forget()
    assert bins.means() == {}


def test_a_checkpoint_carries_what_is_not_logged():
    sigma, losses = (torch.from_numpy(values) for values in _samples(2))
    whole, first, second = LossByNoise(), LossByNoise(), LossByNoise()
    for bins, part in ((whole, slice(0, 90)), (first, slice(0, 90))):
        bins.add(sigma[part], losses[part])
        bins.collect(lambda sums: sums)
    second.load_state_dict(first.state_dict())
    for bins in (whole, second):
        bins.add(sigma[90:], losses[90:])
        bins.collect(lambda sums: sums)
    assert second.means() == whole.means()
