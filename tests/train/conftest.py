import numpy as np
import pytest
import torch
from PIL import Image


def _blocks(seed, height, width):
    """A picture of coloured blocks: sharp edges."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
    return cells.repeat(6, 0).repeat(6, 1)[:height, :width]


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of eight small photos, some of them deeper in it."""
    root = tmp_path_factory.mktemp("photos")
    (root / "deeper").mkdir()
    for seed in range(8):
        folder = root / "deeper" if seed % 3 == 0 else root
        Image.fromarray(_blocks(seed, 48, 48)).save(folder / f"{seed}.png")
    return root


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the settings of a process's first run; every test gets a process of its own, so to speak."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture
def squeeze_backbone(tmp_path_factory):
    """A folder with a backbone of LPIPS with random weights."""
    from torchvision import models

    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().features.state_dict(), folder / "squeezenet1_1_features.pth")
    return folder
