"""Perceptual distances of pictures in [0, 1] from the features of classification networks: LPIPS and DISTS.

Neither ever downloads anything or scores with random weights: what is missing is named by `reason`, and the
distance is None.

References:
    Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.
    Ding et al., Image Quality Assessment: Unifying Structure and Texture Similarity, TPAMI 2020.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from evaluation.metrics.fidelity import require_pair

__all__ = ["DISTS", "LPIPS"]

_BACKBONES = {
    "squeeze": ("squeezenet1_1_features.pth", "squeezenet1_1-b8a52dc0.pth"),
    "alex": ("alexnet_features.pth", "alexnet-owt-7be5be79.pth"),
    "vgg": ("vgg16_features.pth", "vgg16-397923af.pth"),
}
"""File of the backbone's convolutions alone, and torchvision's file of the whole backbone."""


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
        ValueError: If the net is unknown, a folder is named that does not hold the backbone, or a file is damaged.
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
            self.reason = f"the lpips package cannot be imported: {_first_line(error)}"
            return
        with warnings.catch_warnings():
            # lpips calls torchvision with arguments deprecated since 0.13.
            warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated")
            warnings.filterwarnings("ignore", message="Arguments other than a weight enum")
            # Every random weight of these is replaced below.
            model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
        heads = heads or Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
        with _weights_of(backbone) as weights:
            model.net.load_state_dict(_slice_names(model.net, weights))
        with _weights_of(heads) as weights:
            left = model.load_state_dict(weights, strict=False)
        # `lins` lists the same layers once more.
        if any(name.startswith("lin") and not name.startswith("lins.") for name in left.missing_keys):
            raise ValueError(f"{heads} does not hold the linear heads of LPIPS-{net}")
        self._model = model.eval().requires_grad_(False)

    def __call__(self, x: Tensor, reference: Tensor) -> float | None:
        """Distance of two pictures in [0, 1], shape (1, 1 or 3, H, W); None without weights."""
        require_pair(x, reference)
        if self._model is None:
            return None
        with torch.no_grad():
            return float(self.distances(2 * x.float().cpu() - 1, 2 * reference.float().cpu() - 1))

    def distances(self, x: Tensor, reference: Tensor) -> Tensor:
        """Distances with their gradients, to train by.

        Args:
            x: Pictures in [-1, 1], shape (B, 1 or 3, H, W), on any device, which the network is moved to.
            reference: What they are compared with, same shape.

        Returns:
            In single precision whatever the context, shape (B,).

        Raises:
            ValueError: If the weights cannot be had.
        """
        if self._model is None:
            raise ValueError(f"LPIPS cannot be computed: {self.reason}")
        model = self._model.to(x.device)
        # Features are divided by their norms, which half precision would not carry.
        with torch.autocast(x.device.type, enabled=False):
            return model(*(pictures.float().expand(-1, 3, -1, -1) for pictures in (x, reference))).flatten()


class DISTS:
    """Deep image structure and texture similarity, as a distance, of pictures in [0, 1]; forgives resampled texture.

    Computed by torchmetrics, which brings the weights of the measure; the VGG-16 backbone must lie in torchvision's
    file `$TORCH_HOME/hub/checkpoints/vgg16-397923af.pth`. Pictures are taken at their full size; the authors' demo
    shrinks the shorter side to 256 pixels first, so its figures are others.

    Calling it with two pictures of shape (1, 3, H, W), or (1, 1, H, W) for grey, gives their distance, 0 if they
    are equal; None if it cannot be had, for the `reason` given (None otherwise).
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._model: torch.nn.Module | None = None
        # torchvision would download a file that is not there.
        backbone = _checkpoints() / _BACKBONES["vgg"][1]
        if not backbone.is_file():
            self.reason = f"no weights of the vgg backbone: {backbone} does not exist"
            return
        try:
            from torchmetrics.functional.image.dists import DISTSNetwork
        except Exception as error:  # As with lpips above, torchvision may fail in many ways.
            self.reason = f"torchmetrics cannot be imported: {_first_line(error)}"
            return
        self._model = DISTSNetwork().eval().requires_grad_(False)

    def __call__(self, x: Tensor, reference: Tensor) -> float | None:
        """Distance of two pictures in [0, 1], shape (1, 1 or 3, H, W); None without weights."""
        require_pair(x, reference)
        if self._model is None:
            return None
        with torch.no_grad():
            return float(self._model(*(picture.float().expand(-1, 3, -1, -1).cpu() for picture in (x, reference))))


def _find_weights(net: str, folder: str | Path | None) -> tuple[Path, Path | None]:
    """Files of the backbone and of the linear heads; no heads: those of the lpips package."""
    features, whole = _BACKBONES[net]
    if folder is None:
        return _checkpoints() / whole, None
    heads = Path(folder) / f"lpips_lin_{net}_v0.1.pth"
    return Path(folder) / features, heads if heads.is_file() else None


@contextmanager
def _weights_of(file: Path) -> Iterator[dict[str, Tensor]]:
    """Gives the weights in a file; whatever goes wrong with them is a ValueError that names it."""
    try:
        with warnings.catch_warnings():
            # What torch says of files that are none of its own would come before the error.
            warnings.simplefilter("ignore")
            weights = torch.load(file, weights_only=True, map_location="cpu")
        yield weights
    except Exception as error:  # A damaged file makes torch fail in any way.
        reason = type(error).__name__
        raise ValueError(f"{file}: expected weights of LPIPS, got damaged or other ones ({reason})") from None


def _slice_names(network: torch.nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames torchvision's `features.3.weight` or `3.weight` as lpips has it, `slice2.3.weight`."""
    names = {name.split(".", 1)[1]: name for name in network.state_dict()}
    features = {name.removeprefix("features."): value for name, value in weights.items()}
    return {names[name]: value for name, value in features.items() if name in names}


def _checkpoints() -> Path:
    """Folder in which torchvision looks for weights before it downloads them."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
