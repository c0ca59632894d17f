"""Full-reference metrics of pictures in [0, 1], and intervals of their means.

Every metric is computed per picture. PSNR is that of all pixels and channels together. SSIM has a
Gaussian window of 11 pixels and standard deviation 1.5, K1 = 0.01, K2 = 0.03, population covariances,
and is averaged over the pixels whose window lies inside the picture, and over channels; it equals
scikit-image's with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`.

References:
    Wang et al., Image quality assessment: from error visibility to structural similarity, TIP 2004.
    Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["LPIPS", "bootstrap_interval", "mae", "psnr", "ssim"]

_WINDOW, _WINDOW_STD = 11, 1.5
_K1, _K2 = 0.01, 0.03

_BACKBONES = {
    "squeeze": ("squeezenet1_1_features.pth", "squeezenet1_1-b8a52dc0.pth"),
    "alex": ("alexnet_features.pth", "alexnet-owt-7be5be79.pth"),
    "vgg": ("vgg16_features.pth", "vgg16-397923af.pth"),
}
"""File of the backbone's convolutions alone, and torchvision's file of the whole backbone."""


def psnr(x: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1], shape (1, C, H, W); infinite if they are equal."""
    _check(x, reference)
    error = (x.double() - reference.double()).square().mean()
    return float(-10 * error.log10())


def mae(x: Tensor, reference: Tensor) -> float:
    """Mean absolute error of pictures in [0, 1], shape (1, C, H, W)."""
    _check(x, reference)
    return float((x.double() - reference.double()).abs().mean())


def ssim(x: Tensor, reference: Tensor) -> float:
    """Structural similarity of pictures in [0, 1], shape (1, C, H, W), in the variant of the module's head.

    Raises:
        ValueError: If the pictures differ in shape or are smaller than the window.
    """
    _check(x, reference)
    if min(x.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {_WINDOW} pixels a side, got {tuple(x.shape)}")
    x, reference = x.double(), reference.double()
    mean_x, mean_r = _window_mean(x), _window_mean(reference)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_r = _window_mean(reference * reference) - mean_r**2
    covariance = _window_mean(x * reference) - mean_x * mean_r
    luminance = (2 * mean_x * mean_r + _K1**2) / (mean_x**2 + mean_r**2 + _K1**2)
    structure = (2 * covariance + _K2**2) / (variance_x + variance_r + _K2**2)
    return float((luminance * structure).mean())


class LPIPS:
    """Learned perceptual distance of pictures in [0, 1]; never downloads, never scores with random weights.

    Calling it with two pictures of shape (1, 3, H, W), or (1, 1, H, W) for grey, gives their distance,
    0 if they are equal; None if the weights cannot be had, for the `reason` given (None otherwise).

    Args:
        net: Backbone: `squeeze`, `alex` or `vgg`.
        weights: Folder with the convolutions of torchvision's backbone (`squeezenet1_1_features.pth`)
            and, optionally, the linear heads (`lpips_lin_squeeze_v0.1.pth`; those of the lpips package
            otherwise). None takes the backbone from `$TORCH_HOME/hub/checkpoints` if it is there.

    Raises:
        ValueError: If the net is unknown, or a folder is named that does not hold the backbone.
    """

    def __init__(self, net: str = "squeeze", weights: str | Path | None = None) -> None:
        if net not in _BACKBONES:
            raise ValueError(f"net must be one of {', '.join(_BACKBONES)}, got {net!r}")
        self.net = net
        self.reason: str | None = None
        self._model: torch.nn.Module | None = None
        backbone, heads = _find_weights(net, weights)
        if not backbone.is_file():
            if weights is not None:
                raise ValueError(f"the LPIPS weights must hold {backbone.name}, which {backbone.parent} does not")
            self.reason = f"no weights of the {net} backbone: {backbone} does not exist"
            return
        try:
            import lpips
        except Exception as error:  # torchvision fails in many ways beside a torch of another build.
            words = str(error).splitlines() or [type(error).__name__]
            self.reason = f"the lpips package cannot be imported: {words[0]}"
            return
        with warnings.catch_warnings():
            # lpips calls torchvision with arguments deprecated since 0.13.
            warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated")
            warnings.filterwarnings("ignore", message="Arguments other than a weight enum")
            # Every random weight of these is replaced below.
            model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
        heads = heads or Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
        model.net.load_state_dict(_slice_names(model.net, torch.load(backbone, weights_only=True, map_location="cpu")))
        left = model.load_state_dict(torch.load(heads, weights_only=True, map_location="cpu"), strict=False)
        # `lins` lists the same layers once more.
        if any(name.startswith("lin") and not name.startswith("lins.") for name in left.missing_keys):
            raise ValueError(f"{heads} does not hold the linear heads of LPIPS-{net}")
        self._model = model.eval().requires_grad_(False)

    def __call__(self, x: Tensor, reference: Tensor) -> float | None:
        """Distance of two pictures in [0, 1], shape (1, 1 or 3, H, W); None without weights."""
        _check(x, reference)
        if self._model is None:
            return None
        x, reference = (2 * picture.float().expand(-1, 3, -1, -1).cpu() - 1 for picture in (x, reference))
        with torch.no_grad():
            return float(self._model(x, reference))


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean from 10,000 bootstrap resamples.

    Args:
        values: Independent values, at least one; a single value is its own interval.
        seed: Seed of the resampling.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: If there is no value.
    """
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("an interval needs at least one value")
    picks = np.random.default_rng(seed).integers(data.size, size=(10_000, data.size))
    low, high = np.percentile(data[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _check(x: Tensor, reference: Tensor) -> None:
    if x.shape != reference.shape or x.dim() != 4 or len(x) != 1:
        raise ValueError(
            f"expected two pictures of one shape (1, C, H, W), got {tuple(x.shape)} and {tuple(reference.shape)}"
        )


def _window_mean(x: Tensor) -> Tensor:
    """Gaussian mean around each pixel whose window lies inside: (1, C, H, W) -> (C, 1, H - 10, W - 10)."""
    offsets = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    gaussian = torch.exp(-offsets.square() / (2 * _WINDOW_STD**2))
    gaussian = gaussian / gaussian.sum()
    x = F.conv2d(x.transpose(0, 1), gaussian[None, None, :, None])
    return F.conv2d(x, gaussian[None, None, None, :])


def _find_weights(net: str, folder: str | Path | None) -> tuple[Path, Path | None]:
    """Files of the backbone and of the linear heads; no heads: those of the lpips package."""
    features, whole = _BACKBONES[net]
    if folder is None:
        home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
        return Path(home).expanduser() / "hub" / "checkpoints" / whole, None
    heads = Path(folder) / f"lpips_lin_{net}_v0.1.pth"
    return Path(folder) / features, heads if heads.is_file() else None


def _slice_names(network: torch.nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames torchvision's `features.3.weight` or `3.weight` as lpips has it, `slice2.3.weight`."""
    names = {name.split(".", 1)[1]: name for name in network.state_dict()}
    features = {name.removeprefix("features."): value for name, value in weights.items()}
    return {names[name]: value for name, value in features.items() if name in names}
