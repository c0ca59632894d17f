"""The network of the defocus map, its posterior and its fusion with the evidence."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from optics.defocus_map import EvidenceEstimator, FusedEstimator, LearnedEstimator
from optics.defocus_map.learned import read_posterior
from optics.defocus_map.network import CELL, DefocusMapNetwork, ResidualBlock, _colours_and_details
from optics.defocus_map.posterior import bin_edges, mass_between, quantile_radius, rebin


def _network(channels=(8, 12, 16), blocks=(1, 2, 1), scale=0.25):
    """A network that does something, though nothing useful."""
    network = DefocusMapNetwork(channels=channels, blocks=blocks).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = max(parameter[0].numel(), 1)
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator) * 3 / fan_in**0.5)
    return network


class Convinced(torch.nn.Module):
    """Stands in for a network: says the same of every cell."""

    def __init__(self, log_probability):
        super().__init__()
        self.log_probability, self.radii = log_probability, EvidenceEstimator().radii

    def tiled(self, y, tile):
        cells = [-(-length // CELL) for length in y.shape[-2:]]
        return self.log_probability[None, :, None, None].expand(1, -1, *cells).clone()


@pytest.fixture
def photo():
    return torch.rand(1, 3, 50, 67, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (8, 8), (33, 50)])
def test_every_cell_gets_a_distribution(size):
    network = _network()
    with torch.no_grad():
        log_probability = network(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    assert log_probability.shape == (2, len(network.radii), -(-size[0] // CELL), -(-size[1] // CELL))
    assert torch.allclose(log_probability.exp().sum(1), torch.ones(()), atol=1e-5)
    assert log_probability.exp().std() > 1e-3


@pytest.mark.parametrize("tile", [24, 64, 1000])
def test_tiles_show_what_the_whole_photo_shows(tile):
    network = _network()
    y = torch.rand(1, 3, 3 * network.receptive_field + 9, 90, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = network(y)
    assert torch.allclose(network.tiled(y, tile), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "blocks"), [((4, 6), (2, 1)), ((4, 6, 8), (1, 2, 1)), ((4, 6, 8, 8), (1, 1, 1, 2))]
)
def test_no_pixel_beyond_the_receptive_field_matters(channels, blocks):
    network = _network(channels, blocks, scale=0.5)
    reach = network.receptive_field
    side = 2 * reach + 2 * network.stride
    y = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(3)).requires_grad_()
    cell = (side // 2) // CELL
    (gradient,) = torch.autograd.grad(network(y)[0, :, cell, cell].square().sum(), y)
    seen = gradient.abs().sum((0, 1)).nonzero()
    low, high = seen.min(0).values - cell * CELL, seen.max(0).values - (cell * CELL + CELL - 1)
    assert low.min() >= -reach and high.max() <= reach
    # Nor is it a gross overstatement, which would cost time.
    assert max(-low.min(), high.max()) > reach - 2 * network.stride


def test_details_are_shown_at_equal_strength(photo):
    seen = _colours_and_details(photo)
    colours, details, strength = seen.split((3, 3, 1), 1)
    assert torch.equal(colours, 2 * photo - 1)

    def mean(x, side):
        return F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)

    expected = photo - mean(photo, 5)
    variance = mean(expected.square().mean(1, keepdim=True), 17) + 1e-5
    assert torch.allclose(details, expected / variance.sqrt(), atol=1e-4)
    assert torch.allclose(strength, variance.log() / 6 + 1, atol=1e-5)
    # A tenth of the contrast looks the same but for what is told of it.
    fainter = _colours_and_details(0.45 + 0.1 * photo).split((3, 3, 1), 1)
    assert torch.allclose(fainter[1], details, atol=0.02) and (fainter[2] < strength).all()
    assert _colours_and_details(torch.full((1, 3, 9, 9), 0.3))[:, 3:6].abs().max() < 1e-3


def test_the_network_is_small_and_knows_the_radii_of_the_evidence():
    network = DefocusMapNetwork()
    assert sum(parameter.numel() for parameter in network.parameters()) < 1.5e6
    assert network.radii == EvidenceEstimator().radii
    # Untrained, it knows nothing.
    assert torch.allclose(network(torch.rand(1, 3, 16, 16)).exp(), torch.tensor(1 / len(network.radii)))


def test_saved_and_loaded_it_is_the_same(tmp_path, photo):
    network = _network()
    network.save_pretrained(tmp_path)
    loaded = DefocusMapNetwork.from_pretrained(tmp_path)
    assert (tmp_path / "config.json").is_file()
    with torch.no_grad():
        assert torch.equal(loaded(photo), network(photo))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"channels": (8,), "blocks": (1,)}, "channels"), ({"blocks": (1, 1)}, "blocks"), ({"largest_radius": 1.0}, "px")],
)
def test_impossible_networks_are_errors(settings, words):
    with pytest.raises(ValueError, match=words):
        DefocusMapNetwork(**settings)


def test_the_mass_between_two_radii_is_that_of_samples():
    edges = bin_edges(torch.tensor([0.0, 0.5, 1.5, 4.0]))
    assert edges.tolist() == [0.0, 0.25, 1.0, 2.75, 4.0]
    probability = torch.tensor([0.1, 0.4, 0.3, 0.2])
    rng = np.random.default_rng(0)
    bins = rng.choice(4, size=200_000, p=probability.numpy())
    radii = edges[:-1].numpy()[bins] + rng.random(200_000) * edges.diff().numpy()[bins]
    cells = probability[None, :, None, None]
    for low, high in ((0.1, 0.9), (1.2, 3.3), (-1.0, 9.0), (2.0, 2.0)):
        mass = mass_between(cells, edges, torch.full((1, 1, 1, 1), low), torch.full((1, 1, 1, 1), high))
        # Four standard deviations of the share among 200,000 samples.
        assert float(mass) == pytest.approx(((radii >= low) & (radii <= high)).mean(), abs=0.0045)
    for quantile in (0.05, 0.42, 0.9):
        assert float(quantile_radius(cells, edges, quantile)) == pytest.approx(np.quantile(radii, quantile), abs=0.02)


def test_confidence_is_the_probability_of_half_a_pixel_or_a_fifth(photo):
    radii = EvidenceEstimator().radii
    probability = torch.rand(len(radii), generator=torch.Generator().manual_seed(4)) ** 8
    probability = probability / probability.sum()
    cells = probability.log()[None, :, None, None].expand(1, -1, 13, 17)
    radius, confidence = read_posterior(photo, cells, radii, 0.42)
    edges = bin_edges(torch.tensor(radii))
    estimate = quantile_radius(probability[None, :, None, None], edges, 0.42)
    tolerance = max(0.5, 0.2 * float(estimate))
    expected = mass_between(probability[None, :, None, None], edges, estimate - tolerance, estimate + tolerance)
    assert torch.allclose(confidence, expected.expand_as(confidence), atol=1e-5)
    assert torch.allclose(radius, (estimate * (expected >= 0.2)).expand_as(radius), atol=1e-4)


@pytest.mark.parametrize(("width", "known"), [(0.2, True), (30.0, False)])
def test_what_is_not_known_is_left_alone(photo, width, known):
    radii = torch.tensor(EvidenceEstimator().radii)
    believed = torch.log_softmax(-((radii - 4.0) ** 2) / (2 * width**2), 0)
    estimator = LearnedEstimator(Convinced(believed), scales=(1,))
    radius, confidence = estimator(photo)
    assert radius.shape == confidence.shape == (1, 1, 50, 67)
    if known:
        assert float(radius.mean()) == pytest.approx(4.0, abs=0.2) and confidence.min() > 0.9
    else:
        assert radius.max() == 0 and confidence.max() < 0.2


def test_the_fusion_is_log_linear(photo):
    log_probability = torch.log_softmax(torch.randn(26, generator=torch.Generator().manual_seed(5)), 0)
    learned = LearnedEstimator(Convinced(log_probability), scales=(1,))
    estimator = FusedEstimator(learned, network_weight=0.7, evidence_weight=0.3)
    volume = EvidenceEstimator().evidence(photo, 0.01)
    # By hand in one cell of 4 px, between the centres of cells of 8 px: weights 3/4 and 1/4 along each axis.
    row, column = 5, 6
    near = 0.75 * volume[0, :, 2, 3] + 0.25 * volume[0, :, 2, 2]
    far = 0.75 * volume[0, :, 3, 3] + 0.25 * volume[0, :, 3, 2]
    evidence = 0.75 * near + 0.25 * far
    product = log_probability.exp() ** 0.7 * torch.exp(0.3 * (evidence - evidence.max()))
    expected = product / product.sum()
    got = estimator.posterior(photo, 0.01)[0, :, row, column].exp()
    assert torch.allclose(got, expected, atol=1e-5)


def test_without_a_say_of_the_other_each_stands_alone(photo):
    learned = LearnedEstimator(Convinced(torch.log_softmax(torch.linspace(0, 3, 26), 0)), scales=(1,))
    alone = FusedEstimator(learned, network_weight=1.0, evidence_weight=0.0, quantile=learned.quantile)
    for ours, theirs in zip(alone(photo), learned(photo), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    deaf = FusedEstimator(learned, network_weight=0.0, evidence_weight=1.0).posterior(photo, 0.02)
    evidence = torch.softmax(EvidenceEstimator().evidence(photo, 0.02), 1)
    # The first of the finer cells has no neighbour before it to be mixed with.
    assert torch.allclose(deaf[0, :, 0, 0].exp(), evidence[0, :, 0, 0], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["black", "grey", "noise"])
@pytest.mark.parametrize("size", [(8, 8), (40, 31)])
def test_odd_pictures_give_finite_maps(kind, size, channels):
    y = torch.zeros(1, channels, *size)
    if kind == "grey":
        y += 0.5
    if kind == "noise":
        y = torch.rand(y.shape, generator=torch.Generator().manual_seed(6))
    learned = LearnedEstimator(_network())
    for estimator in (learned, FusedEstimator(learned)):
        for values in estimator(y):
            assert values.shape == (1, 1, *size) and values.dtype == torch.float32
            assert torch.isfinite(values).all() and values.min() >= 0


@pytest.mark.parametrize("y", [torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8), torch.full((1, 3, 8, 8), torch.nan)])
def test_impossible_captures_are_errors(y):
    learned = LearnedEstimator(_network())
    for estimator in (learned, FusedEstimator(learned)):
        with pytest.raises(ValueError, match="^y must"):
            estimator(y)


class Ruler(torch.nn.Module):
    """Stands in for a network that reads the radius, in pixels of what it is shown, from the brightness."""

    def __init__(self, width):
        super().__init__()
        self.radii, self.width = EvidenceEstimator().radii, width

    def tiled(self, y, tile):
        pixels = 10 * torch.nn.functional.avg_pool2d(y[:, :1], CELL, ceil_mode=True, count_include_pad=False)
        distance = (torch.tensor(self.radii)[None, :, None, None] - pixels) / self.width
        return torch.log_softmax(-distance.square() / 2, 1)


def test_other_bins_hold_the_same_probability():
    edges, finer = torch.tensor([0.0, 1.0, 2.0, 4.0]), torch.tensor([0.0, 0.5, 1.5, 2.0, 3.0, 8.0])
    probability = torch.tensor([0.2, 0.5, 0.3])[None, :, None, None]
    assert torch.equal(rebin(probability, edges, edges), probability)
    # The last bin, from 2 on, stands for all beyond: a sixth of its mass for each pixel up to 8.
    expected = torch.tensor([0.1, 0.1 + 0.25, 0.25, 0.05, 0.25])
    assert torch.allclose(rebin(probability, edges, finer).flatten(), expected)
    # The last of fewer bins holds all beyond.
    fewer = torch.tensor([0.0, 0.5, 1.5, 1.75])
    assert torch.allclose(rebin(probability, edges, fewer).flatten(), torch.tensor([0.1, 0.35, 0.55]))


def test_half_size_sees_twice_the_radius():
    photo = torch.full((1, 3, 64, 64), 0.3)
    # Of both sizes it says 3 px, which is 6 px of the full size: the more certain one decides, or they meet.
    network = Ruler(0.5)
    estimator = LearnedEstimator(network, scales=(1, 2))
    both = estimator.posterior(photo).exp()[0, :, 5, 5]
    radii = torch.tensor(estimator.radii)
    assert radii[-1] == 16
    # 3 with a deviation of 0.5 times 6 with one of 1: their product's mean weighs them 4 to 1.
    assert float((both * radii).sum()) == pytest.approx((4 * 3 + 6) / 5, abs=0.15)


def test_beyond_its_radii_the_half_size_decides():
    class Saturated(Ruler):
        def tiled(self, y, tile):
            # 12 px of the full size look like the largest radius there and like 6 px at half size.
            return super().tiled(torch.full_like(y, {64: 1.2, 32: 0.6, 16: 0.3}[y.shape[-1]]), tile)

    radius, confidence = LearnedEstimator(Saturated(0.3))(torch.rand(1, 3, 64, 64))
    assert float(radius.mean()) == pytest.approx(12, abs=0.7) and confidence.min() > 0.8


def test_what_only_a_fourth_of_the_size_shows_has_the_last_radius():
    class Lost(Ruler):
        def tiled(self, y, tile):
            if y.shape[-1] == 16:
                return super().tiled(torch.full_like(y, self.seen), tile)
            # It may be anything, and beyond its radii as well.
            believed = bin_edges(torch.tensor(self.radii)).diff()
            believed[-1] = 8
            cells = (side // CELL for side in y.shape[-2:])
            return (believed / believed.sum()).log()[None, :, None, None].expand(1, -1, *cells)

    network, photo = Lost(0.3), torch.rand(1, 3, 64, 64)
    network.seen = 0.6  # 6 px of a fourth of the size are 24 px.
    posterior = LearnedEstimator(network).posterior(photo).exp()
    assert posterior.shape[1] == len(LearnedEstimator(network).radii) and posterior[:, -1].min() > 0.95
    assert torch.allclose(posterior.sum(1), torch.tensor(1.0))
    assert LearnedEstimator(network)(photo)[0].min() > 15
    # Below 2 px there it says no more than that: which of them is for the other sizes to say.
    network.seen = 0.1
    at = torch.tensor(LearnedEstimator(network).radii)
    density = LearnedEstimator(network).posterior(photo).exp()[0, :, 1, 1] / bin_edges(at).diff()
    small = density[at < 7]
    assert small.max() < 1.01 * small.min() and (density[at > 9][:-1] < 0.02 * small.min()).all()


def test_half_size_has_no_say_on_blur_below_its_pixels():
    class SharpAtHalfSize(Ruler):
        def tiled(self, y, tile):
            return super().tiled(torch.full_like(y, 0.15 if y.shape[-1] == 64 else 0.0), tile)

    radius, _ = LearnedEstimator(SharpAtHalfSize(0.2))(torch.full((1, 3, 64, 64), 0.5))
    assert float(radius.mean()) == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("settings", [{"quantile": 0.0}, {"network_weight": -1.0}, {"evidence_weight": -0.1}])
def test_impossible_fusions_are_errors(settings):
    with pytest.raises(ValueError, match="must"):
        FusedEstimator(LearnedEstimator(_network()), **settings)


def test_a_block_adds_its_convolutions_to_what_it_is_given():
    torch.manual_seed(0)
    block, x = ResidualBlock(6), torch.randn(2, 6, 7, 9)
    torch.nn.init.normal_(block.conv_out.weight)
    given, mean, variance = x.clone(), x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    h = block.conv_in((x - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(block(x), x + block.conv_out(h * h.sigmoid()))
    assert torch.equal(x, given)
