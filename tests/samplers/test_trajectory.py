"""The reverse process as animation and plot."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from PIL import Image

from samplers.reverse_process import SamplerStep
from samplers.trajectory import Trajectory


def _step(index, estimate, residual=2.0):
    residual = None if residual is None else torch.tensor(residual)
    return SamplerStep(index, 3, 0.3 / index, estimate, estimate, residual)


def test_it_keeps_levels_misfits_and_changes():
    trajectory = Trajectory((6, 8))
    canvas = torch.zeros(1, 3, 10, 12)
    trajectory(_step(1, canvas + 9))
    for index in (1, 2, 3):
        trajectory(_step(index, canvas + 0.1 * index, residual=4.0 / index))
    # An attempt that began anew leaves nothing of the one before.
    assert trajectory.curves["noise level"] == pytest.approx([0.3, 0.15, 0.1])
    assert trajectory.curves["misfit"] == pytest.approx([4, 2, 4 / 3])
    assert math.isnan(trajectory.curves["change"][0])
    assert trajectory.curves["change"][1:] == pytest.approx([0.1, 0.1])


def test_the_animation_shows_each_evaluation_and_the_result(tmp_path):
    trajectory, canvas = Trajectory((6, 8)), torch.full((1, 3, 10, 12), -1.0)
    for index in (1, 2, 3):
        canvas[..., 2:8, 2:10] = 0.5 * index - 1
        trajectory(_step(index, canvas.clone()))
    trajectory.write(tmp_path / "a.webp", tmp_path / "a.svg", torch.ones(1, 3, 6, 8))
    with Image.open(tmp_path / "a.webp") as animation:
        assert animation.n_frames == 4 and animation.size == (8, 6)
        levels = []
        for frame in range(4):
            animation.seek(frame)
            levels.append(animation.convert("L").getpixel((4, 3)))
    assert levels == pytest.approx([64, 128, 191, 255], abs=6)
    texts = [element.text for element in ElementTree.parse(tmp_path / "a.svg").getroot().iter() if element.text]
    assert {"noise level", "misfit", "change"} <= set(texts)
    assert "0.3" in texts and "0.1" in texts


def test_large_photos_become_small_pictures():
    trajectory = Trajectory((1200, 600))
    trajectory(_step(1, torch.zeros(1, 3, 1210, 610)))
    assert trajectory.frames[0].size == (240, 480)


def test_without_evaluations_the_result_stands_alone(tmp_path):
    trajectory = Trajectory((6, 8))
    trajectory.write(tmp_path / "a.webp", tmp_path / "a.svg", torch.ones(1, 3, 6, 8))
    assert Image.open(tmp_path / "a.webp").size == (8, 6)
    assert (tmp_path / "a.svg").read_text().count("no data") == 3
