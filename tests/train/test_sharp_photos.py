"""Training patches are pure functions of the seed and their number."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from photos import find_photos
from train.data_config import DataConfig
from train.patch_quality import accepted
from train.sharp_photos import SharpPatches, StepSampler, patch_loader, read_rgb, split_holdout


def _patches(photos, seed=0, batch=4, files=None, **options):
    config = DataConfig(root=str(photos), patch=16, **options)
    return SharpPatches(files or find_photos(photos), config, seed, batch)


def test_a_sample_depends_on_its_number_alone(photos):
    first, second = _patches(photos), _patches(photos, cache_gib=0.0)
    numbers = [7, 0, 3, 7, 12]
    drawn = [first[n] for n in numbers]
    again = {n: second[n] for n in reversed(numbers)}
    for n, sample in zip(numbers, drawn, strict=True):
        for key in ("x", "noise", "quantile"):
            assert torch.equal(sample[key], again[n][key])
    assert len({tuple(first[n]["noise"].flatten().tolist()) for n in range(12)}) == 12
    assert not torch.equal(_patches(photos, seed=1)[7]["x"], drawn[0]["x"])


def test_patches_and_noise_have_the_stated_ranges(photos):
    patches = _patches(photos)
    samples = [patches[n] for n in range(200)]
    x, noise = (torch.stack([sample[key] for sample in samples]) for key in ("x", "noise"))
    assert x.shape == noise.shape == (200, 3, 16, 16)
    assert x.dtype == noise.dtype == torch.float32
    assert x.min() >= -1 - 0.5 / 127.5 and x.max() <= 1 + 0.5 / 127.5
    assert x.std() > 0.3
    count = noise.numel()
    assert float(noise.mean()) == pytest.approx(0, abs=4 / count**0.5)
    assert float(noise.std()) == pytest.approx(1, abs=4 / (2 * count) ** 0.5)


def test_values_fill_the_interval_of_their_code(tmp_path):
    for index in range(2):
        Image.new("RGB", (32, 32), (100, 100, 100)).save(tmp_path / f"{index}.png")
    patches = _patches(tmp_path)
    codes = (torch.stack([patches[n]["x"] for n in range(20)]) + 1) * 127.5
    assert codes.min() >= 99.5 - 1e-3 and codes.max() <= 100.5 + 1e-3
    assert float(codes.std()) == pytest.approx(1 / 12**0.5, rel=0.02)


def test_quantiles_of_a_step_are_stratified(photos):
    patches = _patches(photos, batch=6)
    for step in range(5):
        quantiles = torch.stack([patches[n]["quantile"] for n in range(6 * step, 6 * (step + 1))])
        assert torch.equal((quantiles * 6).floor(), torch.arange(6.0))
        assert quantiles.min() > 0 and quantiles.max() < 1
    first = torch.stack([patches[6 * step]["quantile"] for step in range(300)]) * 6
    assert float(first.mean()) == pytest.approx(0.5, abs=4 / (12 * 300) ** 0.5)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("first_step", [0, 3])
def test_processes_share_each_step_exactly_once(photos, world, accumulate, first_step):
    batch, steps = 8, 6
    dealt = [list(StepSampler(first_step, steps, batch, rank, world)) for rank in range(world)]
    assert [len(numbers) for numbers in dealt] == [(steps - first_step) * batch // world] * world
    assert len(StepSampler(first_step, steps, batch, 0, world)) == len(dealt[0])
    share = batch // world
    for step in range(first_step, steps):
        here = [numbers[(step - first_step) * share : (step - first_step + 1) * share] for numbers in dealt]
        assert sorted(sum(here, [])) == list(range(step * batch, (step + 1) * batch))


def test_loader_batches_what_the_sampler_deals(photos):
    patches = _patches(photos, batch=8)
    loader = patch_loader(patches, first_step=2, steps=4, micro_batch=2, rank=1, world=2)
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    numbers = list(StepSampler(2, 4, 8, 1, 2))
    for index, batch in enumerate(batches):
        for place, n in enumerate(numbers[2 * index : 2 * index + 2]):
            assert torch.equal(batch["x"][place], patches[n]["x"])


def test_worker_processes_change_nothing(photos):
    options = {"first_step": 0, "steps": 1, "micro_batch": 4, "rank": 0, "world": 1}
    plain = next(iter(patch_loader(_patches(photos), **options)))
    forked = next(iter(patch_loader(_patches(photos, workers=1), **options)))
    assert all(torch.equal(plain[key], forked[key]) for key in plain)


def test_photos_between_patch_and_window_are_shrunk_less(tmp_path):
    for index in range(2):
        Image.new("RGB", (16, 60), (200, 0, 0)).save(tmp_path / f"{index}.png")
    patches = _patches(tmp_path, min_scale=0.5)
    for n in range(10):
        assert patches[n]["x"].shape == (3, 16, 16)
        torch.testing.assert_close(patches[n]["x"][0], torch.full((16, 16), 200 / 127.5 - 1), rtol=0, atol=0.005)


def _soft(files, folder, radius):
    """Copies of photos, some of them out of focus."""
    for index, file in enumerate(files):
        photo = Image.open(file)
        (photo.filter(ImageFilter.GaussianBlur(radius)) if index % 2 else photo).save(folder / file.name)


def test_patches_out_of_focus_are_drawn_less_often(photos, tmp_path):
    _soft(find_photos(photos), tmp_path, 2)
    options = {"full_size": 1.0, "min_contrast": 0.0}
    shares = []
    for keep in (0.0, 0.3, 1.0):
        patches = _patches(tmp_path, keep_rejected=keep, **options)
        drawn = [((patches[n]["x"] + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8) for n in range(300)]
        shares.append(np.mean([not accepted(patch, 0, 2.4) for patch in drawn]))
    # Of N sharp and M soft patches, N + keep M remain.
    soft = shares[2]
    assert soft > 0.4 and shares[0] == 0
    assert shares[1] == pytest.approx(0.3 * soft / (1 - 0.7 * soft), abs=0.08)


def test_flat_photos_alone_end_the_search(tmp_path):
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "flat.png")
    patches = _patches(tmp_path, keep_rejected=0.0)
    assert patches[3]["x"].std() < 0.01


def test_a_damaged_photo_is_replaced_by_another(photos, tmp_path):
    (tmp_path / "text.jpg").write_text("not a photo")
    files = [tmp_path / "text.jpg", *find_photos(photos)]
    first, second = _patches(photos, files=files), _patches(photos, files=files)
    for n in reversed(range(60)):
        second[n]
    assert all(torch.equal(first[n]["x"], second[n]["x"]) for n in range(60))


def test_full_size_patches_are_crops(photos):
    patches = _patches(photos, full_size=1.0)
    pictures = [read_rgb(file) for file in find_photos(photos)]
    for n in range(5):
        codes = ((patches[n]["x"] + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
        candidates = [np.rot90(c, turn) for c in (codes, codes[:, ::-1], codes[::-1]) for turn in range(4)]
        windows = [np.lib.stride_tricks.sliding_window_view(p, (16, 16, 3))[:, :, 0] for p in pictures]
        assert any((w == c).all((2, 3, 4)).any() for w in windows for c in candidates)


def test_photos_of_any_depth_are_read_as_they_look(tmp_path):
    import tifffile

    deep = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    read = read_rgb(tmp_path / "deep.tif")
    assert read.dtype == np.uint8 and read.shape == (6, 8, 3)
    np.testing.assert_allclose(read[..., 0], deep / 257, atol=0.51)


@pytest.mark.parametrize(("photo_count", "held"), [(2, 1), (3, 1), (10, 3), (100, 8), (9, 4)])
def test_held_out_photos_are_spread_and_kept_apart(photo_count, held):
    files = [f"{n:03}" for n in range(photo_count)]
    training, held_out = split_holdout(files, held)
    assert sorted(training + held_out) == files and not set(training) & set(held_out)
    assert len(held_out) == held
    places = [files.index(file) for file in held_out]
    gaps = np.diff([-places[0] - 1, *places, 2 * photo_count - places[-1] - 1])
    assert gaps.max() <= 2 * photo_count / held


def test_one_photo_is_not_enough():
    with pytest.raises(ValueError, match="at least 2 photos, got 1"):
        split_holdout(["a"], 1)
    assert len(split_holdout(["a", "b", "c"], 8)[1]) == 1
