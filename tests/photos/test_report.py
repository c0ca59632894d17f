import base64
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from photos import PhotoError, write_report


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def pictures(self):
        """The embedded pictures in the order of the page."""
        sources = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def report(path, shape=(24, 32), facts=None, title="A photo"):
    rng = np.random.default_rng(3)
    before, after = rng.random((2, *shape, 3))
    radius_map = 5 * rng.random(shape)
    write_report(path, before, after, radius_map, facts if facts is not None else {"Seed": 0, "Seconds": 1.5}, title)
    return Page(path.read_text("utf-8")), before, after


def test_the_report_needs_no_other_file(tmp_path):
    page, before, after = report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]+", "", text))
    assert not {"link", "iframe", "object", "base"} & set(page.tags) and "url(" not in text and "@import" not in text
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action"):
            assert value.startswith("data:image/"), (tag, name)
    assert os.listdir(tmp_path) == ["report.html"]
    assert "$" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)

    shown_after, shown_before, overlay, map_below = page.pictures
    np.testing.assert_array_equal(np.asarray(shown_before), np.rint(before * 255))
    np.testing.assert_array_equal(np.asarray(shown_after), np.rint(after * 255))
    assert overlay.size == map_below.size == (32, 24)


def test_all_that_is_inserted_is_escaped(tmp_path):
    evil = "</title><script>alert('1')</script>&amp;\"><img src=x onerror=alert(2)>$maximum"
    page, *_ = report(tmp_path / "a.html", facts={evil: evil}, title=evil)
    text = "".join(page.texts)
    # The title in two places, the fact's name and value: each is shown as it was given.
    assert text.count(evil) == 4
    assert page.tags.count("script") == 1 and page.tags.count("img") == 4
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_facts_and_scale_are_shown(tmp_path):
    page, *_ = report(
        tmp_path / "a.html", facts={"Seed": 7, "Seconds": 12.34567, "Light": "linear", "Pixels": 123456.0}
    )
    assert page.tags.count("tr") == 4
    for shown in ("7", "12.35", "linear", "123456"):
        assert shown in page.texts
    # The largest radius is just below 5; the scale ends at 6.
    assert [text for text in page.texts if re.fullmatch(r"[\d.]+", text)][:5] == ["0", "1.5", "3", "4.5", "6"]


def test_large_pictures_are_shown_smaller(tmp_path):
    page, *_ = report(tmp_path / "a.html", shape=(40, 3200))
    assert {picture.size for picture in page.pictures} == {(1600, 20)}
    assert "Shown at 1600 × 20 of 3200 × 40 pixels." in page.texts
    page, *_ = report(tmp_path / "b.html", shape=(500, 600))
    assert {picture.format for picture in page.pictures} == {"JPEG"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1)])
def test_thin_pictures(tmp_path, shape):
    page, *_ = report(tmp_path / "a.html", shape=shape)
    assert all(min(picture.size) == 1 and max(picture.size) <= 1600 for picture in page.pictures)


def test_pictures_that_do_not_fit_are_refused(tmp_path):
    picture, radius_map, path = np.zeros((4, 5, 3)), np.zeros((4, 5)), tmp_path / "a.html"
    for before, after, radii in (
        (picture[:3], picture, radius_map), (picture, picture[..., 0], radius_map), (picture, picture, picture),
        (picture, picture + np.nan, radius_map), (picture, picture, radius_map + np.inf),
    ):  # fmt: skip
        with pytest.raises(PhotoError, match=r"a\.html.*expected"):
            write_report(path, before, after, radii, {}, "t")
    with pytest.raises(PhotoError, match="missing"):
        write_report(tmp_path / "missing" / "a.html", picture, picture, radius_map, {}, "t")
    assert not os.listdir(tmp_path)
