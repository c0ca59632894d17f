"""The normalisation that networks of this package share: it acts on one pixel, and so leaves tiles exact."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PixelNorm"]


class PixelNorm(nn.Module):
    """Standardises the channels of each pixel on its own: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        # A view where channels are last: free of copies in the channels_last memory format. CUDA's autocast would make
        # single precision of bfloat16 and keep both; what is summed is in single precision anyway.
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2)
