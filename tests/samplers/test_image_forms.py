"""The pipeline called as those of diffusers are: forms of pictures, lists, generators, callbacks, tiles, precision."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from samplers import DeblurOutput, DefocusDeblurPipeline, Restoration, SamplerSettings

FEW = SamplerSettings(steps=2, corrector=False, cg_iterations=2)


@pytest.fixture(scope="module")
def pipe(saved_pipeline):
    return DefocusDeblurPipeline.from_pretrained(saved_pipeline)


@pytest.fixture
def run(pipe):
    def run(image, **options):
        height, width = (image.size[::-1] if isinstance(image, Image.Image) else image.shape[:2])
        options = {"radius_map": torch.full((1, 1, height, width), 2.0)} | options
        return pipe(image, settings=FEW, noise_std=0.01, **options)

    return run


@pytest.fixture
def expected(pipe, codes):
    """What the tensor call gives, which knows nothing of forms."""
    image = torch.from_numpy(codes / np.float32(255)).permute(2, 0, 1)[None]
    result = pipe(image, radius_map=torch.full((1, 1, 40, 56), 2.0), settings=FEW, noise_std=0.01)
    assert isinstance(result, Restoration)
    return result.image


def test_every_form_gives_the_same_picture(run, codes, expected):
    forms = [codes, codes / np.float32(255), codes.astype(np.uint16) * 257, Image.fromarray(codes)]
    for form in forms:
        result = run(form, output_type="pt")
        assert isinstance(result, DeblurOutput) and torch.equal(result.images, expected)
    picture = run(Image.fromarray(codes)).images[0]
    assert isinstance(picture, Image.Image)
    array = run(Image.fromarray(codes), output_type="np").images
    assert array.shape == (1, 40, 56, 3) and array.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(picture), np.rint(array[0] * 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pil_images_are_turned_upright(run, codes, tmp_path, orientation):
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = orientation
    Image.fromarray(codes).save(tmp_path / "a.png", exif=tag)
    seen = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    assert seen.size == ((56, 40) if orientation < 5 else (40, 56))
    radius_map = torch.full((1, 1, *seen.size[::-1]), 2.0)
    result = run(Image.open(tmp_path / "a.png"), radius_map=radius_map).images[0]
    np.testing.assert_array_equal(result, run(np.asarray(seen)).images[0])
    assert ExifTags.Base.Orientation not in result.getexif()


def test_company_changes_no_result(pipe, codes):
    pictures = [Image.fromarray(codes), Image.fromarray(codes[:20, ::-1])]

    def restored(image, generator):
        options = {"settings": FEW, "noise_std": 0.01, "map_estimator": "edges", "output_type": "pt"}
        return pipe(image, generator=generator, **options)

    both = restored(pictures, torch.Generator().manual_seed(7))
    assert len(both.images) == len(both.restorations) == 2 and both.images[1].shape == (1, 3, 20, 56)
    for picture, image in zip(pictures, both.images, strict=True):
        assert torch.equal(restored(picture, torch.Generator().manual_seed(7)).images, image)
    seeds = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    apart = restored([pictures[0]] * 2, seeds)
    assert torch.equal(apart.images[0], both.images[0][0]) and not torch.equal(apart.images[0], apart.images[1])
    with pytest.raises(ValueError, match="list of 2"):
        restored(pictures, seeds[:1])


def test_a_callback_sees_every_step(pipe, run, codes):
    seen = []
    run(codes, callback_on_step_end=lambda *given: seen.append(given))
    assert [(given[0] is pipe, given[1]) for given in seen] == [(True, 0), (True, 1)]
    assert seen[0][2] > seen[1][2] and set(seen[0][3]) == {"latents", "estimate"}


def test_tiles_change_nothing(pipe, run, codes, expected):
    pipe.enable_tiling(32)
    try:
        tiled = run(codes, output_type="pt").images
    finally:
        pipe.disable_tiling()
    assert torch.allclose(tiled, expected, atol=1e-4)
    with pytest.raises(ValueError, match="at least 32"):
        pipe.enable_tiling(8)
    with pytest.raises(ValueError, match=r"tile must be a whole number, got 64\.5"):
        pipe.enable_tiling(64.5)


def test_half_precision(saved_pipeline, codes, expected):
    pipe = DefocusDeblurPipeline.from_pretrained(saved_pipeline).to("cpu", torch.bfloat16)
    assert pipe.dtype == torch.bfloat16
    map_ = torch.full((1, 1, 40, 56), 2.0)
    images = pipe(codes, radius_map=map_, settings=FEW, noise_std=0.01, output_type="pt").images
    # The state stays in single precision; the network's own digits are eight bits.
    assert images.dtype == torch.float32 and not torch.equal(images, expected)
    assert torch.allclose(images, expected, atol=0.02)


@pytest.mark.parametrize(
    ("image", "word"),
    [([], "none"), ("cat.jpg", "str"), (Image.new("CMYK", (4, 4)), "CMYK"), (np.zeros((4, 4, 2)), "(4, 4, 2)"),
     (np.zeros((4, 4, 3), np.int32), "int32"), (np.full((4, 4, 3), 2.0), "0, 1"), (None, "NoneType")],
)  # fmt: skip
def test_what_is_no_picture(pipe, image, word):
    with pytest.raises(ValueError) as caught:
        pipe(image, settings=FEW)
    assert word in str(caught.value)


def test_unknown_output_types_are_refused(run, codes):
    with pytest.raises(ValueError, match="pil, pt, np"):
        run(codes, output_type="jpg")


def test_the_examples_of_the_documentation_run(saved_pipeline, codes, tmp_path, monkeypatch, capsys):
    page = Path(__file__).resolve().parents[2] / "docs" / "files.md"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "small").symlink_to(saved_pipeline)
    Image.fromarray(codes).save(tmp_path / "photo.jpg", comment=b"mine")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(page), "exec"), {})
    assert Image.open("sharper.png").size == (56, 40)
    assert "comment" in Image.open("copy.jpg").info and "comment" not in Image.open("bare.jpg").info
    assert "(40, 56, 3) 8 False" in capsys.readouterr().out
