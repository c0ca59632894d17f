import numpy as np
import pytest
from PIL import Image

from photos import PhotoError, map_picture, write_overlay
from photos.overlay import overlay_picture


def test_what_is_left_alone_is_grey_and_the_rest_is_in_colours(rng):
    picture = rng.random((400, 330, 3)).astype(np.float32)
    radii = np.zeros((400, 330), np.float32)
    radii[200:] = 3.0
    overlay = overlay_picture(picture, radii)
    assert overlay.shape[0] > 400 and overlay.shape[1:] == (330, 3)
    grey = picture @ [0.299, 0.587, 0.114] * 255
    np.testing.assert_allclose(overlay[:200], np.repeat(grey[:200, :, None], 3, 2), atol=1)
    # The scale ends at 4 px: the colour of 3 of 4, over the photo's grey.
    expected = 0.4 * grey[200:400, :, None] + 0.6 * map_picture(radii[200:], 4.0)
    np.testing.assert_allclose(overlay[200:400], expected, atol=1)


def test_the_bar_says_how_many_pixels_a_colour_is():
    picture = np.full((100, 400, 3), 0.5, np.float32)

    def bar(radius):
        return overlay_picture(picture, np.full((100, 400), radius, np.float32))[100:]

    # The same colours, of which each stands for another number of pixels; within one scale the same bar.
    assert np.array_equal(bar(3.0), bar(3.9)) and not np.array_equal(bar(3.0), bar(6.5))
    colours = bar(3.0)[10]
    row = colours[(colours != 255).any(1)]
    np.testing.assert_array_equal(row, map_picture(np.linspace(0, 4, len(row))[None], 4.0)[0])
    assert np.array_equal(bar(6.5)[10], bar(3.0)[10])


@pytest.mark.parametrize(("size", "shown"), [((1, 1), 320), ((1, 33), 330), ((3000, 40), 1600), ((90, 2000), 1600)])
def test_any_size_is_shown_at_a_size_to_look_at(tmp_path, size, shown):
    write_overlay(tmp_path / "o.png", np.zeros((*size, 3), np.float32), np.zeros(size, np.float32))
    with Image.open(tmp_path / "o.png") as overlay:
        assert overlay.width >= 320 and shown <= max(overlay.width, overlay.height) <= shown + 150


def test_another_size_is_refused(tmp_path):
    with pytest.raises(PhotoError, match=r"o\.png: expected a photo"):
        write_overlay(tmp_path / "o.png", np.zeros((4, 5, 3)), np.zeros((5, 4)))
    assert not (tmp_path / "o.png").exists()
