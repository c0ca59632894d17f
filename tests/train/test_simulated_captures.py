"""Captures to train on: the same whoever simulates them, whenever, whatever is in the folder."""

import json
import shutil
from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from optics import DefocusOperator
from optics.simulation import Simulator
from train.data_config import DataConfig
from train.simulated_captures import SimulationConfig, _recoloured, open_captures, sharp_throughout, turned

SIMULATION = dict(side=24, captures=3, reuse=2, largest_radius=1.5, buried=0.0, block_smoothness=None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def data(photos):
    return DataConfig(root=str(photos), patch=16, holdout=2, min_contrast=0, max_smoothness=None, min_scale=1.0)


def _open(data, folder, seed=0, **changes):
    training, held_out = open_captures(
        data, SimulationConfig(**SIMULATION | changes), seed, 4, folder, report=lambda line: None
    )
    return training, held_out


def test_samples_are_functions_of_seed_and_number(data, tmp_path):
    first, other = _open(data, tmp_path / "a")[0], _open(data, tmp_path / "b")[0]
    samples = [first[number] for number in range(10)]
    # In another order, into another folder, and again from what is there.
    for number in reversed(range(10)):
        for dataset in (other, first):
            again = dataset[number]
            assert all(torch.equal(again[key], samples[number][key]) for key in ("y", "radius_map"))
    different = _open(data, tmp_path / "c", seed=1)[0]
    assert not torch.equal(different[0]["y"], samples[0]["y"])


def test_samples_are_parts_of_captures_with_their_maps(data, tmp_path):
    training, _ = _open(data, tmp_path)
    captures = [training.capture(number) for number in range(3)]
    assert all((captures[0][0] != other).any() for other, _ in captures[1:])
    parts = {}
    for whole, map_ in captures:
        for top, left in product(range(9), repeat=2):
            window = np.s_[:, top : top + 16, left : left + 16]
            for turns, flip in product(range(4), (False, True)):
                parts[turned(whole[window], turns, flip).tobytes()] = turned(map_[window], turns, flip)
    varied = 0
    for number in range(12):
        y, radius = (training[number][key].numpy() for key in ("y", "radius_map"))
        assert y.shape == (3, 16, 16) and radius.shape == (1, 16, 16)
        assert np.array_equal(radius, parts[np.rint(255 * y).astype(np.uint8).tobytes()])
        varied += radius.std() > 0.01
    # Of a constant map any part is as good.
    assert varied >= 4


def test_new_captures_come_as_samples_need_them_and_no_more(data, tmp_path):
    training, _ = _open(data, tmp_path)
    counts = []
    for number in range(12):
        training[number]
        counts.append(len(list((tmp_path / "training").glob("*.bin"))))
    assert counts == [1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]


def test_damaged_captures_are_simulated_again(data, tmp_path):
    training, _ = _open(data, tmp_path)
    y, radius = training.capture(1)
    file = tmp_path / "training" / "capture_000001.bin"
    content = file.read_bytes()
    assert len(content) == 5 * 24 * 24 + 4
    # Cut short, with another bit somewhere, of zeros.
    for damaged in (content[:-1], content[:900] + bytes([content[900] ^ 4]) + content[901:], bytes(len(content))):
        file.write_bytes(damaged)
        again = training.capture(1)
        assert np.array_equal(again[0], y) and np.array_equal(again[1], radius)
        assert file.read_bytes() == content
    # As earlier versions wrote them, without a checksum.
    file.write_bytes(content[:-4])
    assert np.array_equal(training.capture(1)[0], y) and file.read_bytes() == content[:-4]
    assert radius.dtype == np.float16 and radius.min() >= 0 and radius.max() <= 1.5


def test_captures_of_other_photos_or_settings_are_refused(data, tmp_path):
    _open(data, tmp_path)
    _open(data, tmp_path, captures=50, reuse=9, buried=0.5)
    with pytest.raises(ValueError, match="another matched"):
        _open(data, tmp_path, matched=0.9)
    with pytest.raises(ValueError, match="another block_smoothness"):
        _open(data, tmp_path, block_smoothness=1.7)
    with pytest.raises(ValueError, match="another seed"):
        _open(data, tmp_path, seed=3)
    (tmp_path / "training" / "captures.json").write_text("{")
    with pytest.raises(ValueError, match="expected what the captures here are made of, got damaged JSON"):
        _open(data, tmp_path)


def test_captures_of_another_simulator_are_refused(data, tmp_path):
    _open(data, tmp_path)
    note = tmp_path / "training" / "captures.json"
    content = json.loads(note.read_text())
    # Those of the first said nothing of it.
    for older in ({"simulator": content["simulator"] - 1}, {}):
        note.write_text(json.dumps({key: content[key] for key in content if key != "simulator"} | older))
        with pytest.raises(ValueError, match="those of another simulator$"):
            _open(data, tmp_path)
    note.write_text(json.dumps(content))
    _open(data, tmp_path)


@pytest.mark.parametrize("choice", ["outlined", "collage", "recoloured"])
def test_captures_from_before_there_was_a_choice_are_those_without(data, tmp_path, choice):
    _open(data, tmp_path)
    for part in ("training", "held_out"):
        note = tmp_path / part / "captures.json"
        content = json.loads(note.read_text())
        assert content.pop(choice) == 0
        note.write_text(json.dumps(content))
    _open(data, tmp_path)
    with pytest.raises(ValueError, match=f"those of another {choice}$"):
        _open(data, tmp_path, **{choice: 0.5})


def test_other_tones_keep_black_white_and_what_is_darker():
    rng = np.random.default_rng(4)
    greys = np.linspace(0, 1, 64, dtype=np.float32)
    photo = np.broadcast_to(greys, (3, 2, 64))
    spread = []
    for _ in range(20):
        changed = _recoloured(photo, rng)
        assert changed.dtype == np.float32 and changed.shape == photo.shape
        assert (changed[..., 0] == 0).all() and (changed[..., -1] == 1).all() and (np.diff(changed) > 0).all()
        spread.append(changed[0, 0, 32])
    assert np.ptp(spread) > 0.2


def test_collages_leave_the_photo_behind_lens_and_camera_as_they_were(data, tmp_path):
    plain, collage = (_open(data, tmp_path / str(share), matched=0.5, collage=share)[0] for share in (0.0, 1.0))
    counts = []
    for number in range(12):
        (photo,), simulator, rng = plain._photos(number)
        photos, other, again = collage._photos(number)
        assert torch.equal(photo, photos[0]) and simulator == other
        assert simulator.equipment(rng) == simulator.equipment(again)
        # What keeps to the restorer's world has one layer.
        assert len(photos) == (1 if simulator.matched else 3)
        counts.append(len(photos))
    assert len(set(counts)) == 2


def test_held_out_photos_are_not_trained_on(data, photos, tmp_path):
    _open(data, tmp_path)
    notes = [tmp_path / part / "captures.json" for part in ("training", "held_out")]
    used = [set(json.loads(note.read_text())["photos"]) for note in notes]
    assert len(used[1]) == 2 and not used[0] & used[1] and len(used[0] | used[1]) == 8


def test_matched_and_faint_shares(data, tmp_path):
    """All faint: what little contrast is left is that of noise and of an eighth of the photo's."""
    plain = _open(data, tmp_path / "plain", matched=1.0, faint=0.0)[0]
    faint = _open(data, tmp_path / "faint", matched=1.0, faint=1.0)[0]
    for number in range(3):
        strong, weak = (captures.capture(number)[0].astype(float).std((1, 2)).max() for captures in (plain, faint))
        assert weak < 0.2 * strong + 4


def test_buried_samples_are_noise_and_nothing_else(data, tmp_path):
    shown, buried = (_open(data, tmp_path, buried=share)[0] for share in (0.0, 1.0))
    stds = []
    for number in range(30):
        plain, noisy = shown[number], buried[number]
        # The map stays, and with it what is to be learnt: that anything is as likely as before.
        assert torch.equal(plain["radius_map"], noisy["radius_map"])
        residual = noisy["y"] - plain["y"].mean((1, 2), keepdim=True)
        centred = residual - residual.mean((1, 2), keepdim=True)
        stds.append(float(centred.std()))
        neighbours = (centred[..., 1:] * centred[..., :-1]).mean() / centred.square().mean()
        # White but for the little that is left of the photo: 4 deviations of the correlation of 700 pairs.
        assert abs(neighbours) < 0.25 or stds[-1] < 0.02
    assert min(stds) < 0.03 and max(stds) > 0.1


def test_what_is_out_of_focus_anywhere_is_not_sharp_throughout(rng):
    sharp = rng.integers(0, 256, (30, 40, 3)).repeat(6, 0).repeat(6, 1).astype(np.uint8)
    assert sharp_throughout(sharp, 2.0)
    blurred = np.rint(gaussian_filter(sharp.astype(float), (2, 2, 0))).astype(np.uint8)
    assert not sharp_throughout(blurred, 2.0)
    # A corner is enough, unless nothing is seen in it.
    partly, flat = sharp.copy(), sharp.copy()
    partly[:60, -60:] = blurred[:60, -60:]
    flat[:60, -60:] = 90
    assert not sharp_throughout(partly, 2.0) and sharp_throughout(flat, 2.0)
    assert sharp_throughout(sharp[:40, :30], 2.0)


def test_photos_that_are_not_sharp_throughout_are_drawn_again(data, tmp_path):
    asked = []
    captures, _ = _open(data, tmp_path, block_smoothness=1.5)

    def only_the_third(patch, limit):
        asked.append(limit)
        return len(asked) == 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.simulated_captures.sharp_throughout", only_the_third)
        captures.capture(0)
    assert asked == [1.5] * 3


def test_a_photo_smaller_than_a_capture_and_its_margin_is_left_out(data, tmp_path):
    needed = SimulationConfig(**SIMULATION).canvas()
    assert needed % 8 == 0 and needed >= 24 + 2 * Simulator(1.5).margin
    lines = []
    with pytest.raises(ValueError, match="expected photos of at least"):
        open_captures(data, SimulationConfig(side=64), 0, 4, tmp_path, report=lines.append)
    with pytest.raises(ValueError, match="simulation.side must be at least data.patch=16, got 16|at least data.patch"):
        open_captures(DataConfig(root=data.root, patch=32), SimulationConfig(**SIMULATION), 0, 4, tmp_path, print)


@pytest.mark.parametrize(
    "change",
    [
        {"side": 8}, {"captures": 0}, {"reuse": 0}, {"matched": 1.2}, {"faint": -0.1}, {"collage": 1.5},
        {"recoloured": -1}, {"buried": 2.0}, {"largest_radius": 40.0},
    ],
)  # fmt: skip
def test_impossible_settings_are_named(change):
    with pytest.raises(ValueError, match=f"simulation.{next(iter(change))} must be"):
        SimulationConfig(**SIMULATION | change)


def test_a_folder_may_move(data, tmp_path):
    first = _open(data, tmp_path / "a")[0]
    y = first.capture(0)[0]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert np.array_equal(_open(data, tmp_path / "b")[0].capture(0)[0], y)


def test_sharp_photos_belong_to_their_captures_and_change_nothing_else(data, tmp_path):
    plain, _ = _open(data, tmp_path, matched=1.0, faint=0.0)
    before = [plain[number] for number in range(6)]
    # In the same folder, beside the captures that are there.
    with_sharp, _ = open_captures(data, plain.simulation, 0, 4, tmp_path, report=print, with_sharp=True)
    for number, item in enumerate(before):
        again = with_sharp[number]
        assert all(torch.equal(again[key], item[key]) for key in ("y", "radius_map"))
        assert again["x"].shape == item["y"].shape
        # Blurred by the true map it is the capture, but for noise of 0.01 and rounding.
        operator = DefocusOperator(item["radius_map"][None, :, 4:-4, 4:-4])
        spare = 4 - operator.margin
        inner = again["x"][None, :, spare : 16 - spare, spare : 16 - spare]
        residual = item["y"][None, :, 4:-4, 4:-4] - operator(inner)
        assert residual.std() < 0.02
    # Drawn again it is the same.
    files = sorted((tmp_path / "training").glob("sharp_*.bin"))
    content = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    assert [with_sharp.sharp(int(file.stem[-6:])).tobytes() for file in files] == [one[:-4] for one in content]
    assert [file.read_bytes() for file in files] == content


@pytest.mark.parametrize("others", [{}, {"collage": 1.0, "outlined": 0.5, "recoloured": 0.5}])
def test_sharp_photos_are_those_of_the_simulation(data, tmp_path, others):
    captures, _ = _open(data, tmp_path / "drawn", matched=0.0, **others)
    kept, _ = open_captures(data, captures.simulation, 0, 4, tmp_path / "kept", report=print, with_sharp=True)
    sharpened = 0
    for number in range(10):
        photos, simulator, rng = captures._photos(number)
        assert len(photos) == (3 if others else 1)
        simulated = simulator(photos[0], rng, photos[1:])
        assert np.array_equal(captures.sharp(number), (simulated.x * 255).round().byte().numpy())
        assert np.array_equal(captures.capture(number)[0], (simulated.y * 255).round().byte().numpy())
        # Kept when its capture is made it is the same as drawn for itself.
        kept.capture(number)
        file = kept.folder / f"sharp_{number:06d}.bin"
        assert file.read_bytes()[:-4] == captures.sharp(number).tobytes()
        sharpened += simulated.camera.sharpening > 0
    assert sharpened
