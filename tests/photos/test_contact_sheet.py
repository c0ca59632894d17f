"""The page of a folder of results: links that lead somewhere, whatever the names."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

from PIL import Image

from photos.contact_sheet import Card, write_contact_sheet

EVIL = "javascript:a\"><script>alert(1)<!-- #1 100% ü?.png"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_every_card_is_linked_and_escaped(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("deep/a b.jpg", EVIL.replace("/", "")):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    evil = EVIL.replace("/", "")
    cards = [
        Card("a b", "deep/a b.jpg", "deep/a b.jpg", "deep/a b.jpg", "done"), Card(evil, evil, evil, None, evil),
        Card("stack.tif", "stack.tif", "stack.tif", None, "done"), Card("bad", "bad.jpg", None, None, "failed: $title"),
    ]  # fmt: skip
    write_contact_sheet(tmp_path / "page.html", cards, evil)
    text = (tmp_path / "page.html").read_text("utf-8")
    page = Page(text)
    assert page.tags.count("li") == 4 and page.tags.count("script") == 1 and page.tags.count("img") == 5
    for address in page.addresses:
        parts = urlparse(address)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert (tmp_path / unquote(parts.path)).is_file() or address == "bad.jpg"
    assert page.texts.count(evil) == 4 and "failed: $title" in page.texts and not re.search("https?:|//[a-z]", text)
