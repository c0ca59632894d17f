"""The score network: preconditioning, sizes, receptive field, files."""

import pytest
import torch

from diffusion import ScoreNetwork
from diffusion.score_network import ResidualBlock


def _network(channels=(4, 8), blocks=1, seed=0, **options):
    """A small network whose every weight is random, including those that training starts at zero."""
    torch.manual_seed(seed)
    network = ScoreNetwork(channels=channels, blocks=blocks, embedding=16, **options).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def _photo(height, width, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, dtype=torch.float64, generator=generator) * 2 - 1


@pytest.mark.parametrize("sigma_data", [0.5, 0.3])
@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.5, 3.0])
def test_untrained_network_scales_like_the_best_linear_denoiser(sigma, sigma_data):
    network = ScoreNetwork(channels=(4, 8), blocks=1, embedding=16, sigma_data=sigma_data)
    x = _photo(9, 10).float()
    expected = sigma_data**2 / (sigma_data**2 + sigma**2) * x
    torch.testing.assert_close(network(x, torch.tensor(sigma)), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0])
def test_backbone_sees_unit_variance(sigma, monkeypatch):
    network = ScoreNetwork(channels=(4, 8), blocks=1, embedding=16)
    seen = []
    monkeypatch.setattr(network, "_backbone", lambda x, s, m, a: seen.append(x) or torch.zeros_like(x))
    generator = torch.Generator().manual_seed(0)
    x_0 = 0.5 * torch.randn(4, 3, 64, 64, generator=generator)
    network(x_0 + sigma * torch.randn(x_0.shape, generator=generator), torch.tensor(sigma))
    assert float(seen[0].square().mean()) == pytest.approx(1, rel=4 * (2 / x_0.numel()) ** 0.5)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0])
def test_network_is_asked_for_a_unit_variance_target(sigma, monkeypatch):
    # With c_out, the target (x_0 - c_skip x) / c_out of the backbone has unit variance.
    network = ScoreNetwork(channels=(4, 8), blocks=1, embedding=16)
    generator = torch.Generator().manual_seed(0)
    x_0 = 0.5 * torch.randn(4, 3, 64, 64, generator=generator)
    x = x_0 + sigma * torch.randn(x_0.shape, generator=generator)
    skipped = network(x, torch.tensor(sigma))
    monkeypatch.setattr(network, "_backbone", lambda x, s, m, a: torch.ones_like(x))
    c_out = (network(x, torch.tensor(sigma)) - skipped).mean()
    target = ((x_0 - skipped) / c_out).detach()
    assert float(target.square().mean()) == pytest.approx(1, rel=4 * (2 / x_0.numel()) ** 0.5 + 1e-3)


def test_vanishing_noise_leaves_the_photo_alone():
    network, x = _network(), _photo(12, 13)
    with torch.no_grad():
        errors = [float((network(x, torch.tensor(sigma)) - x).abs().max()) for sigma in (1e-2, 1e-3, 1e-4)]
    assert errors[0] > 10 * errors[2] > 0
    assert errors[2] < 2e-2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 17), (33, 5), (16, 16), (7, 24)])
def test_any_size_keeps_its_size_and_shape_of_batch(height, width):
    network, x = _network(), _photo(height, width, batch=2)
    sigma = torch.tensor([0.1, 0.7])
    estimate = network(x, sigma)
    assert estimate.shape == x.shape
    for index in range(2):
        torch.testing.assert_close(estimate[index], network(x[index : index + 1], sigma[index])[0])


@pytest.mark.parametrize(
    ("channels", "blocks"), [((4,), 1), ((4, 6), 1), ((4, 6), 2), ((4, 6), (2, 1)), ((4, 6, 8), 1)]
)
def test_receptive_field_is_the_reach_of_a_pixel(channels, blocks):
    network = _network(channels, blocks)
    reach, stride = network.receptive_field, network.stride
    assert reach % stride == 0
    furthest = 0
    side = 2 * reach + 3 * stride
    for offset in range(stride):
        # Pixels of one coarse block reach differently far.
        centre = reach + stride + offset
        x = _photo(side, side).requires_grad_()
        network(x, torch.tensor(0.4))[0, :, centre, centre].sum().backward()
        touched = torch.nonzero(x.grad[0].abs().amax(0))
        furthest = max(furthest, int((touched - centre).abs().max()))
    assert furthest <= reach
    # The field is not overstated by more than the rounding to whole strides.
    assert furthest > reach - 2 * stride


def test_shift_by_the_stride_shifts_the_result():
    network = _network((4, 6), 1)
    margin, stride = network.receptive_field, network.stride
    whole = _photo(2 * margin + 24, 2 * margin + 20)
    estimate = network(whole, torch.tensor(0.4))[..., margin:-margin, margin:-margin]
    shifted = network(whole[..., stride:, 2 * stride :], torch.tensor(0.4))
    shifted = shifted[..., margin:-margin, margin:-margin]
    torch.testing.assert_close(estimate[..., stride:, 2 * stride :], shifted)


def test_saved_and_loaded_unchanged(tmp_path):
    network = _network((4, 6), 2, sigma_data=0.4).float()
    network.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = ScoreNetwork.from_pretrained(tmp_path)
    assert (loaded.stride, loaded.receptive_field) == (network.stride, network.receptive_field)
    for (name, ours), theirs in zip(network.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    # Kernels may add up in another order where weights lie elsewhere in memory.
    x = _photo(9, 12).float()
    torch.testing.assert_close(loaded(x, torch.tensor(0.2)), network(x, torch.tensor(0.2)), rtol=1e-4, atol=1e-4)


def test_every_parameter_learns():
    network, x = _network((4, 6), 2), _photo(16, 16, batch=2)
    network(x, torch.tensor([0.05, 1.0])).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_channels_last_gives_the_same_result():
    network, x = _network(), _photo(20, 18)
    expected = network(x, torch.tensor(0.3))
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last), torch.tensor(0.3)), expected)
    # And what training puts in: photos as they come.
    torch.testing.assert_close(network(x, torch.tensor(0.3)), expected)


def test_a_list_gives_blocks_to_each_level():
    network = _network((4, 6, 8), [1, 2, 3])
    assert network.depths == (1, 2, 3)
    assert [len(level) for level in network.encoder] == [len(level) for level in network.decoder] == [1, 2]
    assert len(network.middle) == 3
    names = [name for name, _ in _network((4, 6, 8), 2).named_parameters()]
    assert names == [name for name, _ in _network((4, 6, 8), [2, 2, 2]).named_parameters()]


@pytest.mark.parametrize("blocks", [[1, 2], [2, 0, 1], 0])
def test_impossible_blocks_are_refused(blocks):
    with pytest.raises(ValueError, match="blocks must be a number or a list of 3"):
        ScoreNetwork(channels=(4, 6, 8), blocks=blocks, embedding=16)


def test_gradient_checkpointing_changes_no_gradient():
    x, sigma, gradients, passes = _photo(16, 16, batch=2), torch.tensor([0.05, 1.0]), [], []
    for checkpointing in (False, True):
        network = _network((4, 6), 2)
        if checkpointing:
            network.enable_gradient_checkpointing()
        counted = []
        network.middle[0].register_forward_pre_hook(lambda *_, counted=counted: counted.append(1))
        network(x, sigma).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        passes.append(len(counted))
    # The middle is run again on the way back.
    assert passes == [1, 2]
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("learning", [True, False])
def test_a_block_adds_the_scaled_and_shifted_convolution_of_what_it_is_given(batch, learning):
    torch.manual_seed(0)
    block, x = ResidualBlock(4, 6).double(), torch.randn(batch, 4, 7, 9).double()
    torch.nn.init.normal_(block.conv_out.weight)
    embedding, modulation, given = torch.randn(batch, 6).double(), torch.randn(batch, 8).double(), x.clone()
    with torch.set_grad_enabled(learning):
        y = block(x, embedding, modulation)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    scale, shift = (block.film(embedding) + modulation)[:, :, None, None].chunk(2, 1)
    h = (1 + scale) * block.conv_in((x - mean) / (variance + 1e-5).sqrt()) + shift
    torch.testing.assert_close(y, x + block.conv_out(h * h.sigmoid()))
    assert torch.equal(x, given)
