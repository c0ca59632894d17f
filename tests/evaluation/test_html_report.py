"""The page of a benchmark: whole, safe with any name, and, where there is a browser, alive."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from benchmark_results import METRICS, made_up_results, made_up_row
from PIL import Image

from evaluation.html_report import write_html_report

EVIL = "</script><script>alert('1')</script><!--<img src=x onerror=alert(2)>\"&amp;$title"


class Page(HTMLParser):
    """Collects what a browser would show."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        self.texts += [] if self._hidden else [data]


def _pictures(out, name, radius=4.0):
    """A 60 x 40 picture of one colour for each part, in files whose names need escapes in an address."""
    paths = {"largest_radius": radius}
    for number, part in enumerate(("input", "restored", "reblurred", "map", "reference")):
        paths[part] = f"pictures/{part}/{name} #1 100%2F ü?.png"
        (out / paths[part]).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if part == "map" else "RGB", (60, 40), number * 50).save(out / paths[part])
    return paths


@pytest.fixture
def results(tmp_path):
    rows = []
    for column, gain in (("identity", 0.0), ("tv", 1.0)):
        for index, name in enumerate(["a", "b", EVIL]):
            group = ("ramp", "step", "step")[index]
            rows.append(made_up_row(column, "set", group, name, 20.0 + gain * (3 * index - 1) + 0.001))
        rows.append(made_up_row(column, "other", "other", "c", 19.0, pictures=_pictures(tmp_path, column)))
    return made_up_results(rows, skipped=[{"method": "dps", "reason": f"no deepinv {EVIL}"}])


def _page(out, results):
    text = write_html_report(out, results).read_text("utf-8")
    return text, Page(text)


def _data(text):
    return json.loads(re.search(r'<script type="application/json" id="results">(.*?)</script>', text, re.DOTALL)[1])


def test_all_text_is_escaped(tmp_path, results):
    plain_text, plain = _page(tmp_path, made_up_results([row for row in results["rows"] if row["name"] != EVIL]))
    for row in results["rows"]:
        row["group"] = row["group"].replace("step", EVIL)
        row["column"] = row["column"].replace("tv", f"tv {EVIL}")
    evil = made_up_results(results["rows"], skipped=results["skipped"], device=EVIL, settings={"data": {EVIL: EVIL}})
    evil["protocol"] = {"name": EVIL, "description": EVIL}
    evil["metrics"] = METRICS | {"lpips_squeeze": METRICS["lpips_squeeze"] | {"reason": EVIL}}
    text, page = _page(tmp_path, evil)
    assert page.tags.count("script") == plain.tags.count("script") == 2
    assert page.tags.count("img") == plain.tags.count("img") == 2
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<!--" not in text and text.count("</script>") == 2
    # Title twice, description, skipped method, unmeasured metric, device, setting's name and value, protocol's name.
    shown = " ".join(page.texts)
    assert shown.count(EVIL) >= 9
    assert {row["name"] for row in _data(text)["rows"]} == {"a", "b", "c", EVIL}
    # What the embedded figures say of the plain page's rows is untouched by the others.
    assert len(_data(plain_text)["rows"]) == 6 and len(_data(text)["rows"]) == 8


def test_pictures_are_linked_relative_to_the_page(tmp_path, results):
    text, _ = _page(tmp_path, results)
    rows = [row for row in _data(text)["rows"] if row["name"] == "c"]
    assert len(rows) == 2
    for row in rows:
        assert set(row["pictures"]) == {"input", "restored", "reblurred", "map", "reference"}
        for address in row["pictures"].values():
            parts = urlparse(address)
            assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
            assert (tmp_path / unquote(parts.path)).is_file()
    results["rows"][0]["pictures"] = {"input": "javascript:alert(1)", "largest_radius": None}
    assert _data(_page(tmp_path, results)[0])["rows"][0]["pictures"] == {"input": "javascript%3Aalert%281%29"}


def test_the_page_needs_nothing_from_elsewhere(tmp_path, results):
    text, page = _page(tmp_path, results)
    assert not re.search(r"https?:|[\"'(]//", text) and "@import" not in text
    assert re.findall(r"url\([^)]*\)", text) == ['url(#colours-" + side + ")']
    assert not {"link", "iframe", "object", "base"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name in ("src", "href", "srcset", "action")]
    assert not list(tmp_path.glob(".*"))


def test_the_summary_holds_every_mean(tmp_path, results):
    text, page = _page(tmp_path, results)
    shown = " ".join(page.texts)
    for one in results["summary"]:
        (low, high), (below, above) = one["interval_95"]["psnr"], one["gain_interval_95"]["psnr"]
        for words in (
            f"{one['mean']['psnr']:.2f}", f"{one['mean']['mae']:.4f}", f"[{low:.2f}, {high:.2f}]",
            f"{one['gain']['psnr']:+.2f} [{below:+.2f}, {above:+.2f}]", f"{one['worst']['gain_db']:+.2f} dB",
        ):  # fmt: skip
            assert words in shown
    assert "LPIPS (squeeze) was not measured: no weights." in shown
    # A worst case opens the row that it names.
    cases = [int(value) for tag, name, value in page.attributes if (tag, name) == ("button", "data-row")]
    named = [results["rows"][number] for number in cases]
    ends = [one[end] for one in results["summary"] for end in ("worst", "best")]
    keys = ("set", "group", "name", "column")
    assert sorted([row[key] for key in keys] for row in named) == sorted([end[key] for key in keys] for end in ends)
    assert "dirty" in shown and "0123456789ab" in shown and "settings.data.count" in shown


def test_results_without_pictures_figures_or_rows_make_a_page(tmp_path):
    _page(tmp_path, made_up_results([]))
    text, _ = _page(tmp_path, made_up_results([made_up_row("tv", "set", "set", "\udcff", None)]))
    assert _data(text)["rows"][0]["gain"] is None and _data(text)["start"] is None


DRIVER = """
const log = (text) => document.body.setAttribute("data-log", (document.body.dataset.log || "") + text + "|");
const picked = () => byId("captures").selectedOptions[0].textContent;
const change = (id, title) => {
  const option = [...byId(id).options].find((one) => one.textContent.endsWith(title));
  option.selected = true;
  byId(id).dispatchEvent(new Event("change"));
};
log("started");
log(picked());
log([...byId("captures").querySelectorAll("optgroup")].map((one) => one.children.length).join());
const titles = () => [...byId("captures").querySelectorAll("optgroup")].map((one) => one.label).join();
change("right", "identity");
log(titles());
change("right", "tv");
log(titles());
change("filter", "other");
log(picked() + byId("captures").querySelectorAll("optgroup:last-child option").length);
change("left", "tv, blur radius");
const before = document.querySelector(".before"), after = document.querySelector(".after");
log(before.style.filter + byId("scale").hidden);
byId("slider").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
log(byId("slider").value + byId("frame").style.getPropertyValue("--at"));
const psnr = [...document.querySelectorAll("thead button")].find((one) => one.textContent.startsWith("PSNR"));
const order = () => [...psnr.closest("table").tBodies[0].rows].map((row) => row.cells[3].dataset.value);
psnr.click();
log(order().every((value, index, all) => !index || Number(value) <= Number(all[index - 1])));
psnr.click();
log(order().every((value, index, all) => !index || Number(value) >= Number(all[index - 1])));
document.querySelector("[data-row='ROW']").click();
log(picked() + document.querySelector(".tag.right").textContent);
change("filter", "other");
change("left", "unrestored");
change("right", "tv");
setTimeout(() => {
  log([before, after].map((one) => one.naturalWidth + "x" + one.naturalHeight).join());
  log(byId("frame").style.getPropertyValue("--ratio"));
}, 500);
"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_the_viewer_in_a_browser(tmp_path, results):
    file = write_html_report(tmp_path, results)
    number = next(n for n, row in enumerate(results["rows"]) if (row["column"], row["name"]) == ("tv", "a"))
    driver = DRIVER.replace("ROW", str(number))
    file.write_text(file.read_text("utf-8").replace("</body>", f"<script>{driver}</script></body>"), "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "data-log" not in done.stdout:
        pytest.skip(f"the browser does not run here: {done.stderr[-200:]}")
    log = re.search(r'data-log="(.*?)"', done.stdout, re.DOTALL)[1].split("|")
    assert log == [
        "started",
        "-1.00 dB  other/c",  # The column with the largest gain, tv, gained -1.000 here and -0.999 on a.
        "4,4,4",
        "Smallest gains of identity,Largest gains of identity,All",
        "Smallest gains of tv,Largest gains of tv,All",
        "-1.00 dB  other/c1",
        'url(&quot;#colours-left&quot;)false',
        "5252%",
        "true", "true",
        "-1.00 dB  set/ramp/atv: not saved",
        "60x40,60x40", "1.5", "",
    ]  # fmt: skip


def test_maps_are_shown_in_the_colours_of_the_photo_reports(tmp_path, results):
    from photos.maps import map_picture

    data = _data(_page(tmp_path, results)[0])
    assert data["largest"] == 4.0
    ends = map_picture(np.array([[0.0, 4.0]]), 4.0)[0]
    np.testing.assert_array_equal(ends, [data["colours"][0], data["colours"][-1]])
