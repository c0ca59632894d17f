import base64
import io
import os
import re
import shutil
import subprocess
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


def test_the_residual_is_shown_around_grey(tmp_path):
    picture = np.full((10, 12, 3), 0.5)
    residual = np.zeros((10, 12, 3))
    residual[:, :4], residual[:, 8:] = 1 / 32, -1 / 32
    write_report(tmp_path / "a.html", picture, picture, np.ones((10, 12)), {}, "t", residual)
    page = Page((tmp_path / "a.html").read_text("utf-8"))
    shown = np.asarray(page.pictures[-1])
    assert len(page.pictures) == 5
    np.testing.assert_array_equal(shown[0, [0, 5, 11], 0], [191, 128, 64])  # 0.5 + 8 / 32 and its opposite
    with pytest.raises(PhotoError, match="residual"):
        write_report(tmp_path / "b.html", picture, picture, np.ones((10, 12)), {}, "t", residual[:4])


def test_wide_colours_are_shown_with_their_profile(tmp_path, icc):
    picture = np.full((10, 12, 3), 0.5)
    for shape in ((10, 12), (500, 600)):
        picture = np.full((*shape, 3), 0.5)
        write_report(tmp_path / "a.html", picture, picture, np.ones(shape), {}, "t", icc=icc)
        after, before, *maps = Page((tmp_path / "a.html").read_text("utf-8")).pictures
        assert before.info["icc_profile"] == after.info["icc_profile"] == icc
        assert not any("icc_profile" in shown.info for shown in maps)


DRIVER = """
const log = (text) => document.body.setAttribute("data-log", (document.body.dataset.log || "") + text + "|");
const views = () => [...document.querySelectorAll(".frame img")].map((one) => getComputedStyle(one).transform);
const same = () => new Set(views()).size === 1;
log(views().length + " " + views()[0]);
document.getElementById("closer").click();
log(document.getElementById("zoom").textContent);
const scale = () => views().map((one) => one.split("(")[1].split(",")[0]).join();
log(scale());
const frame = document.querySelector(".frame.pan"), box = frame.getBoundingClientRect();
const wheel = (y) => frame.dispatchEvent(new WheelEvent("wheel", {deltaY: y, clientX: box.left, clientY: box.top,
  cancelable: true}));
log(wheel(-300));
log(document.getElementById("zoom").textContent);
frame.dispatchEvent(new PointerEvent("pointermove", {buttons: 1, movementX: 9999, movementY: 9999}));
log(main.style.getPropertyValue("--x") + main.style.getPropertyValue("--y"));
document.getElementById("whole").click();
log(scale() + main.style.getPropertyValue("--x"));
document.getElementById("show-map").click();
log(document.getElementById("overlay").classList.contains("shown"));
slider.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
log(slider.value + compare.style.getPropertyValue("--at"));
"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_zoom_is_the_same_in_all_pictures_in_a_browser(tmp_path):
    picture, path = np.random.default_rng(0).random((40, 60, 3)), tmp_path / "a.html"
    write_report(path, picture, picture, np.ones((40, 60)), {}, "t", np.zeros((40, 60, 3)))
    path.write_text(path.read_text("utf-8").replace("</body>", f"<script>{DRIVER}</script></body>"), "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    command += ["--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "data-log" not in done.stdout:
        pytest.skip(f"the browser does not run here: {done.stderr[-200:]}")
    log = re.search(r'data-log="(.*?)"', done.stdout, re.DOTALL)[1].split("|")
    assert log == [
        "5 matrix(1, 0, 0, 1, 0, 0)", "2x", "2,2,2,2,2",
        "false",  # The wheel is taken: the page itself does not scroll.
        f"{2 * np.e:.1f}x", "0%0%", "1,1,1,1,10%", "true", "5252%", "",
    ]  # fmt: skip
