"""Power-function averages: tracked, written out, and of other lengths afterwards."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from train.averaging import (
    PowerAverages,
    averaged_weights,
    combine,
    drop_snapshots_after,
    exponent,
    find_snapshots,
    profile_weights,
)


def _walk(steps, seed=0):
    """A random walk of a little network's weights, one row a step."""
    return torch.randn(steps, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).cumsum(0)


def _parameters(values):
    return [nn.Parameter(values[:3].clone()), nn.Parameter(values[3:].clone())]


def _tracked(walk, lengths, folder=None, every=None):
    averages = PowerAverages(_parameters(walk[0]), lengths)
    for step, values in enumerate(walk, start=1):
        averages.update(_parameters(values))
        if folder is not None and step % every == 0:
            averages.write_snapshot(folder, ["a", "b"])
    return averages


def _closed_form(walk, length):
    """The iterates weighted by the increments of (s / t)^(gamma + 1)."""
    t = len(walk)
    shares = (torch.arange(t + 1, dtype=torch.float64) / t) ** (exponent(length) + 1)
    return shares.diff() @ walk


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.25])
def test_exponent_gives_the_length_as_a_standard_deviation(length):
    gamma = exponent(length)
    # Of the density (gamma + 1) s^gamma on [0, 1], by the midpoint rule.
    s = (np.arange(400000) + 0.5) / 400000
    density = (gamma + 1) * s**gamma / 400000
    mean = (density * s).sum()
    assert math.sqrt((density * (s - mean) ** 2).sum()) == pytest.approx(length, rel=1e-5)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.2887, 1.0])
def test_impossible_lengths_are_refused(length):
    with pytest.raises(ValueError, match=r"must be in \(0, 0.2887\)"):
        PowerAverages([], [length])


@pytest.mark.parametrize("length", [0.05, 0.1])
@pytest.mark.parametrize("steps", [1, 2, 300])
def test_tracked_average_is_the_closed_form(length, steps):
    walk = _walk(steps)
    average = torch.cat(_tracked(walk, [length]).averages[0])
    torch.testing.assert_close(average, _closed_form(walk, length), rtol=1e-10, atol=1e-10)


def test_each_length_is_averaged_on_its_own():
    walk = _walk(50)
    both = _tracked(walk, [0.05, 0.1])
    for length, average in zip(both.lengths, both.averages, strict=True):
        assert torch.equal(torch.cat(average), torch.cat(_tracked(walk, [length]).averages[0]))


@pytest.mark.parametrize("length", [0.035, 0.07, 0.15])
def test_other_lengths_are_reconstructed_from_snapshots(tmp_path, length):
    walk = _walk(2000) / 10
    _tracked(walk, [0.05, 0.1], tmp_path, every=50)
    snapshots = find_snapshots(tmp_path)
    assert [(s.step, s.length) for s in snapshots[:3]] == [(50, 0.05), (50, 0.1), (100, 0.05)]
    for step in (2000, 1400):
        found, error = combine(snapshots, step, length)
        found = torch.cat([found["a"], found["b"]]).double()
        tracked = torch.cat(_tracked(walk[:step], [length]).averages[0])
        torch.testing.assert_close(tracked, _closed_form(walk[:step], length), rtol=1e-9, atol=1e-9)
        spread = walk[:step].std(0).mean()
        # Snapshots are in half precision; far less than what tells it from the nearest length that was tracked.
        assert float((found - tracked).abs().max()) < 0.01 * spread
        nearest = torch.cat(_tracked(walk[:step], [0.1 if length > 0.1 else 0.05]).averages[0])
        assert float((nearest - tracked).abs().max()) > 0.03 * spread
        assert error < 0.01


def test_profile_of_a_tracked_length_is_its_own_snapshot():
    snapshots = [(step, length) for step in (100, 200, 300) for length in (0.05, 0.1)]
    weights, error = profile_weights(snapshots, 300, 0.1)
    np.testing.assert_allclose(weights, [0, 0, 0, 0, 0, 1], atol=1e-6)
    assert error < 1e-6


@pytest.mark.parametrize("length", [0.02, 0.07, 0.2])
def test_error_of_the_profile_is_that_of_its_weights(length):
    snapshots = [(step, one) for step in (250, 500, 750, 1000) for one in (0.05, 0.1)]
    weights, error = profile_weights(snapshots, 1000, length)
    s = (np.arange(200000) + 0.5) / 200

    def profile(step, one):
        gamma = exponent(one)
        return np.where(s <= step, (gamma + 1) * s**gamma / float(step) ** (gamma + 1), 0)

    wanted = profile(1000, length)
    made = sum(w * profile(*snapshot) for w, snapshot in zip(weights, snapshots, strict=True))
    assert np.linalg.norm(made - wanted) / np.linalg.norm(wanted) == pytest.approx(error, rel=1e-3)
    assert weights.sum() == pytest.approx(1)
    # No other weights that add up to 1 are better.
    for nudge in np.eye(8):
        other = made + 0.01 * (sum(n * profile(*q) for n, q in zip(nudge, snapshots, strict=True)) - made)
        assert np.linalg.norm(other - wanted) > (1 - 1e-6) * np.linalg.norm(made - wanted)


def test_state_is_restored():
    walk = _walk(30)
    first = _tracked(walk[:20], [0.05, 0.1])
    state = {**first.state_dict(), "averages": [[w.clone() for w in a] for a in first.averages]}
    second = PowerAverages(_parameters(walk[0]), [0.05, 0.1])
    second.load_state_dict(state)
    for values in walk[20:]:
        second.update(_parameters(values))
    whole = _tracked(walk, [0.05, 0.1])
    assert all(torch.equal(a, b) for x, y in zip(second.averages, whole.averages, strict=True)
               for a, b in zip(x, y, strict=True))  # fmt: skip
    with pytest.raises(ValueError, match="lengths"):
        PowerAverages(_parameters(walk[0]), [0.05]).load_state_dict(state)


def test_averaged_weights_are_lent_to_the_network():
    network = nn.Linear(3, 2)
    averages = PowerAverages(network.parameters(), [0.05, 0.1])
    for _ in range(3):
        nn.init.normal_(network.weight)
        averages.update(network.parameters())
    own = network.weight.detach().clone()
    with pytest.raises(KeyError), averaged_weights(averages, network):
        assert torch.equal(network.weight, averages.averages[0][0])
        assert not torch.equal(network.weight, own)
        raise KeyError
    assert torch.equal(network.weight, own)


def test_damaged_and_missing_snapshots_are_named(tmp_path):
    with pytest.raises(ValueError, match="got none"):
        find_snapshots(tmp_path)
    _tracked(_walk(10), [0.05], tmp_path, every=5)
    with pytest.raises(ValueError, match="a step with a snapshot, 5, 10, got 7"):
        combine(find_snapshots(tmp_path), 7, 0.05)
    (tmp_path / "step_00000010.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="step_00000010.safetensors: expected a snapshot"):
        find_snapshots(tmp_path)


def test_snapshot_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    from train import averaging

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(averaging, "save_file", full)
    with pytest.raises(OSError, match="cannot write .*step_00000001.safetensors: No space left on device"):
        _tracked(_walk(1), [0.05], tmp_path, every=1)
    assert not list(tmp_path.iterdir())


def test_snapshots_of_the_future_and_half_written_ones_are_dropped(tmp_path):
    _tracked(_walk(20), [0.05], tmp_path, every=5)
    (tmp_path / "step_00000005.safetensors.part").touch()
    drop_snapshots_after(10, tmp_path)
    assert [snapshot.step for snapshot in find_snapshots(tmp_path)] == [5, 10]
    assert len(list(tmp_path.iterdir())) == 2
    drop_snapshots_after(0, tmp_path / "nowhere")
