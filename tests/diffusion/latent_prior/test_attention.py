"""Attention: windows, the dense formulas they restrict, and silence at the start."""

import pytest
import torch
from torch.nn import functional as F

from diffusion.latent_prior.attention import CrossAttention, DualAttention, merge_windows, partition_windows


def _random(module, seed=0):
    """The module with random parameters: what is zero at first proves nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return module


def test_windows_are_cut_row_by_row_and_put_back():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    windows = partition_windows(x, 2)
    assert windows.shape == (2 * 6, 4, 3)
    # The second window of the first picture: rows 0-1, columns 2-3.
    assert torch.equal(windows[1], x[0, :, :2, 2:4].flatten(1).T)
    assert torch.equal(merge_windows(windows, 4, 6), x)


def test_attention_in_windows_is_dense_attention_restricted_to_them():
    attention = _random(DualAttention(64, 4))
    x = torch.randn(2, 64, 8, 12, generator=torch.Generator().manual_seed(1))
    normal = F.layer_norm(x.permute(0, 2, 3, 1), (64,)).flatten(1, 2)  # (B, H W, C)
    weight, bias = attention.qkv.weight[:, :, 0, 0], attention.qkv.bias
    q, k, v = (part.unflatten(2, (4, 16)).transpose(1, 2) for part in (normal @ weight.T + bias).chunk(3, dim=2))
    rows, columns = (axis.flatten() for axis in torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij"))
    same = (rows[:, None] // 4 == rows // 4) & (columns[:, None] // 4 == columns // 4)
    offset = (rows[:, None] - rows + 3).clamp(0, 6) * 7 + (columns[:, None] - columns + 3).clamp(0, 6)
    # Two heads look along space, the other two along channels.
    scores = q[:, :2] @ k[:, :2].transpose(2, 3) / 4 + attention.bias[offset].permute(2, 0, 1)
    space = scores.masked_fill(~same, -torch.inf).softmax(-1) @ v[:, :2]
    channels = torch.zeros_like(v[:, 2:])
    for window in same.unique(dim=0):
        inside = [F.normalize(part[:, 2:, window], dim=2) for part in (q, k)]
        scores = torch.einsum("bhpi,bhpj->bhij", *inside) * attention.log_temperature.exp()
        channels[:, :, window] = torch.einsum("bhij,bhpj->bhpi", scores.softmax(-1), v[:, 2:, window])
    joined = torch.cat([space, channels], dim=1).transpose(1, 2).flatten(2)
    expected = (joined @ attention.merge.weight[:, :, 0, 0].T + attention.merge.bias).transpose(1, 2)
    torch.testing.assert_close(attention(x), x + expected.unflatten(2, (8, 12)), atol=1e-4, rtol=1e-4)


def test_cross_attention_is_a_mean_of_values_weighted_by_pixels():
    attention = _random(CrossAttention(8, 6, heads=2))
    x, tokens = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6)
    result = attention(x, tokens)
    # One pixel of one picture, head by head.
    pixel = F.layer_norm(x[1, :, 2, 3], (8,))
    expected = x[1, :, 2, 3].clone()
    for head in range(2):
        keys = tokens[1] @ attention.key.weight[8 * head : 8 * head + 8].T
        values = tokens[1] @ attention.value.weight[8 * head : 8 * head + 8].T
        expected += (keys @ pixel / 8**0.5).softmax(0) @ values
    torch.testing.assert_close(result[1, :, 2, 3], expected, atol=1e-5, rtol=1e-5)
    # Their order says nothing.
    torch.testing.assert_close(attention(x, tokens[:, [2, 0, 3, 1]]), result, atol=1e-5, rtol=1e-5)


def test_attention_is_the_identity_at_first():
    x = torch.randn(1, 32, 8, 8)
    assert torch.equal(DualAttention(32, 4)(x), x)
    assert torch.equal(CrossAttention(32, 6)(x, torch.randn(1, 4, 6)), x)


def test_widths_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="channels must be multiples of 32 .* got 48"):
        DualAttention(48, 4)
