"""Captures that the trust in an estimate is fitted to."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from train import trust
from train.data_config import DataConfig


def test_photos_that_are_never_in_focus_end_the_search(tmp_path, monkeypatch):
    for name in "abc":
        codes = np.random.default_rng(ord(name)).integers(0, 256, (360, 360, 3), dtype=np.uint8)
        Image.fromarray(codes).save(tmp_path / f"{name}.png")
    data, pipeline = DataConfig(root=str(tmp_path), holdout=1), SimpleNamespace(defocus_map=None)
    y, x = next(trust._captures(data, pipeline, 1, 0))
    assert y.shape == x.shape == (1, 3, 192, 192) and y.std() < x.std()
    monkeypatch.setattr("train.simulated_captures.sharp_throughout", lambda *_: False)
    monkeypatch.setattr(trust, "_TRIES", 3)
    with pytest.raises(ValueError, match="expected photos in focus throughout, got none in 3 parts of photos"):
        next(trust._captures(data, pipeline, 1, 0))
