"""A result holds what reproduces it, and what is not blurred comes back as it was."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from command_line import fails
from PIL import Image

from photos import inscription_of, read, write_map
from photos.profile import curves_of
from photos.raw import ADOBE_RGB
from samplers.deblur import main
from samplers.one_photo import _in_stored_values
from samplers.posterior_samples import SampledRestoration
from samplers.profile_light import ProfileLight


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_a_result_is_made_again_by_its_command(
    deblur, codes, tmp_path, out, suffix, capfd, monkeypatch, saved_pipeline
):
    photo = tmp_path / f"a cat{suffix}"
    Image.fromarray(codes).save(photo)
    assert deblur(photo, "--seed", 5, "--psf", "gaussian", "--no-report", "steps=2", "rho=2")[0] == 0
    first = out / photo.name
    assert main(["--show-parameters", str(first)]) == 0
    command, record = capfd.readouterr()
    words = shlex.split(command)
    assert words[:5] == ["python", "samplers/deblur.py", photo.name, "-o", "DIR"]
    assert json.loads(record)["photo"] == photo.name
    assert {"--weights", "tiny", "--seed", "5", "--psf", "gaussian", "steps=2", "rho=2"} <= set(words)
    assert not {"--quiet", "--device", "--no-report"} & set(words) and str(tmp_path) not in command
    # In the folders of the photo and of the weights the command runs as it stands.
    weights = next(word for word in words if word == "tiny")
    monkeypatch.chdir(tmp_path)
    (tmp_path / weights).symlink_to(saved_pipeline)
    assert main([*words[2:4], "again", *words[5:], "--quiet"]) == 0
    capfd.readouterr()
    with Image.open(first) as one, Image.open(tmp_path / "again" / photo.name) as other:
        assert one.tobytes() == other.tobytes()
    # The map tells the same.
    assert main(["--show-parameters", f"{first}_defocus.tif"]) == 0
    assert capfd.readouterr()[0] == command


def test_commands_of_stacks_ranges_and_odd_names(deblur, codes, tmp_path, out, monkeypatch, capfd):
    """What argparse and the range of floats would make of them does not matter to who asks for the command."""
    monkeypatch.chdir(tmp_path)
    stack = codes.transpose(2, 0, 1).astype(np.float32) / 100 - 1
    tifffile.imwrite("-stack.tif", stack, photometric="minisblack", metadata=None)
    # Values beyond the range are kept, so that the result is none that can be read without it.
    assert deblur("--method", "tv", "--range", "-0.5,1", "--", "-stack.tif")[0] == 0
    for result in ("-stack.tif", "-stack.tif_defocus.tif"):
        code, (command,), _ = deblur("--show-parameters", "--method", "tv", f"./out/{result}")
        words = shlex.split(command)
        assert code == 0 and words[2] == "./-stack.tif" and "--range=-0.5,1" in words
        again = str(tmp_path / f"again{result}")
        assert main([*words[2:4], again, *words[5:], "--quiet"]) == 0
        assert (Path(again) / "-stack.tif").read_bytes() == (out / "-stack.tif").read_bytes()
        capfd.readouterr()


@pytest.mark.parametrize("option", ["--weights", "--mask", "--defocus-map", "--psf"])
def test_an_empty_name_is_no_default(deblur, photo, option):
    fails(deblur(photo, f"{option}="), 2, option, "empty")


def test_without_metadata_the_picture_says_nothing(deblur, codes, tmp_path, out):
    Image.fromarray(codes).save(tmp_path / "a.jpg", comment=b"mine", icc_profile=ADOBE_RGB)
    assert deblur(tmp_path / "a.jpg", "--method", "tv", "--strip-metadata")[0] == 0
    written = read(out / "a.jpg")
    assert written.icc == ADOBE_RGB and inscription_of(written.details.xmp) is None
    assert b"ScoreFocus" not in (out / "a.jpg").read_bytes() and b"mine" not in (out / "a.jpg").read_bytes()
    fails(deblur("--show-parameters", out / "a.jpg", "--method", "tv"), 3, out / "a.jpg", "parameters")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0\xff\xff\0\0")
    fails(deblur("--show-parameters", tmp_path / "damaged.tif", "--method", "tv"), 3, tmp_path / "damaged.tif")


def test_files_that_are_named_are_known_by_content_not_by_place(deblur, photo, tmp_path, out, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    write_map(tmp_path / "map.tif", np.full((40, 56), 2.0))
    # Not even of a relative path.
    assert deblur(photo, "--method", "tv", "--defocus-map", f"{tmp_path.name}/map.tif")[0] == 0
    record = json.loads(inscription_of(read(out / "cat.png").details.xmp))
    assert record["arguments"] == ["--method", "tv", "--defocus-map", "map.tif"]
    before = record["files"]["--defocus-map"]
    write_map(tmp_path / "map.tif", np.full((40, 56), 3.0))
    assert deblur(photo, "--method", "tv", "--defocus-map", tmp_path / "map.tif", "--overwrite")[0] == 0
    assert json.loads(inscription_of(read(out / "cat.png").details.xmp))["files"]["--defocus-map"] != before


@pytest.mark.parametrize("light", ["srgb", "linear"])
@pytest.mark.parametrize("kind", ["png", "deep.tif", "float.tif", "grey.tif", "jpg"])
def test_what_is_not_blurred_comes_back_as_it_was(deblur, codes, tmp_path, out, kind, light):
    from skimage.data import chelsea

    rng, path = np.random.default_rng(0), tmp_path / f"a.{kind}"
    samples = {
        "png": codes, "jpg": chelsea()[100:140, 120:176].copy(), "float.tif": rng.random(codes.shape, np.float32),
        "deep.tif": rng.integers(0, 65536, codes.shape).astype(np.uint16),
        "grey.tif": rng.integers(0, 4096, (40, 56)).astype(np.uint16),
    }[kind]  # fmt: skip
    if kind in ("png", "jpg"):
        Image.fromarray(samples).save(path, icc_profile=ADOBE_RGB)
    else:
        photometric = "rgb" if samples.ndim == 3 else "minisblack"
        tifffile.imwrite(path, samples, photometric=photometric, metadata=None, iccprofile=ADOBE_RGB)
    write_map(tmp_path / "map.tif", np.zeros((40, 56)))
    more = ("--range", "100,3000") if kind == "grey.tif" else ()
    assert deblur(path, "--defocus-map", tmp_path / "map.tif", "--light", light, *more)[0] == 0
    if kind == "jpg":
        from skimage.color import deltaE_ciede2000, rgb2lab

        before, after = (rgb2lab(read(file).pixels) for file in (path, out / path.name))
        assert deltaE_ciede2000(before, after).mean() < 0.5
    else:
        reader = Image.open if kind == "png" else tifffile.imread
        np.testing.assert_array_equal(np.asarray(reader(out / path.name)), samples)


def gamma_profile(value):
    """A profile with another exponent in the place of Adobe RGB's."""
    return ADOBE_RGB.replace((563).to_bytes(2, "big"), round(value * 256).to_bytes(2, "big"))


def photo_with(icc, pixels, path):
    tifffile.imwrite(
        path, np.rint(pixels * 65535).astype(np.uint16), photometric="rgb", metadata=None, iccprofile=icc
    )
    return read(path)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 563 / 256])
def test_linear_light_is_that_of_the_profile(tmp_path, gamma):
    pixels = np.random.default_rng(0).random((20, 30, 3))
    photo = photo_with(gamma_profile(gamma), pixels, tmp_path / "a.tif")
    codes = ProfileLight.of(photo).to_codes(photo.pixels)
    light = photo.pixels.astype(float) ** (round(gamma * 256) / 256)
    # The definition of the sRGB encoding, IEC 61966-2-1.
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(codes, expected, atol=2e-4)
    # Half of the light everywhere, said in sRGB codes, is half of the light in the photo's own values.
    half = np.where(light / 2 <= 0.0031308, 12.92 * light / 2, 1.055 * (light / 2) ** (1 / 2.4) - 0.055)
    light_back = ProfileLight.of(photo).restored(photo.pixels, codes, half.astype(np.float32)).astype(float)
    np.testing.assert_allclose(light_back ** (round(gamma * 256) / 256), light / 2, atol=5e-4)
    assert np.array_equal(ProfileLight.of(photo).restored(photo.pixels, codes, codes), photo.pixels)


def test_mean_and_spread_of_samples_are_those_of_their_stored_values(tmp_path):
    photo = photo_with(gamma_profile(1.0), np.full((8, 9, 3), 0.02), tmp_path / "a.tif")
    codes, generator = ProfileLight.of(photo).to_codes(photo.pixels), torch.Generator().manual_seed(0)
    base = torch.from_numpy(codes).permute(2, 0, 1)[None]
    samples = [(base + 0.03 * torch.randn(base.shape, generator=generator)).clamp(0, 1) for _ in range(4)]
    drawn = SampledRestoration(base, torch.ones(1, 1, 8, 9), None, 0.01, 0).of(samples)
    stored = _in_stored_values(photo, codes, drawn)
    again = torch.cat(stored.samples)
    assert not torch.allclose(again, torch.cat(samples), atol=0.02)
    torch.testing.assert_close(stored.image, again.mean(0, keepdim=True))
    torch.testing.assert_close(stored.spread, again.var(0, keepdim=True).mean(1, keepdim=True).sqrt())


def test_srgb_photos_are_left_alone(tmp_path):
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, None, b"no profile at all", ADOBE_RGB[:200]):
        assert ProfileLight.of(photo_with(profile, np.full((4, 4, 3), 0.5), tmp_path / "a.tif")) is None
    x = np.linspace(0, 1, 50)
    expected = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(curves_of(srgb)[1](x), expected, atol=1e-3)


def test_the_record_names_no_folder(deblur, photo, out, saved_pipeline):
    assert deblur(photo)[0] == 0
    content = b"".join(file.read_bytes() for file in out.iterdir() if file.suffix != ".html")
    assert str(Path(saved_pipeline).parent).encode() not in content and str(photo.parent).encode() not in content
