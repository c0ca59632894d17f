"""A page for a folder of results: every photo before and after, with a link to its report."""

import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote

from photos.files import replacing

__all__ = ["Card", "write_contact_sheet"]

# What browsers show; of other formats the page tells the name.
_SHOWN = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif"})


class Card(NamedTuple):
    """One photo of a contact sheet.

    Attributes:
        name: What is written below.
        before: The photo, relative to the page.
        after: The result, relative to the page; None where there is none.
        report: Its report, relative to the page; None where there is none.
        note: What became of it.
    """

    name: str
    before: str
    after: str | None
    report: str | None
    note: str


def write_contact_sheet(path: str | Path, cards: Sequence[Card], title: str) -> None:
    """Writes the page; pictures are linked, not embedded, so that a page of thousands stays small.

    Args:
        path: The file to write.
        cards: The photos in order.
        title: Heading.

    Raises:
        PhotoError: If the file cannot be written.
    """
    page = Template(files("photos").joinpath("contact_sheet.html").read_text("utf-8")).substitute(
        title=html.escape(title), count=len(cards), cards="\n".join(map(_card, cards))
    )
    with replacing(Path(path)) as temporary:
        temporary.write_text(page, "utf-8", errors="replace")


def _card(card: Card) -> str:
    text = f"<strong>{html.escape(card.name)}</strong><span>{html.escape(card.note)}</span>"
    shown = [
        f'<img class="{kind}" src="{_address(file)}" alt="{kind}" loading="lazy">'
        for kind, file in (("after", card.after), ("before", card.before))
        if file is not None and Path(file).suffix.lower() in _SHOWN
    ]
    tag, link = ("a", f' href="{_address(card.report)}"') if card.report else ("div", "")
    return f'<li><{tag}{link}><div class="pictures">{"".join(shown)}</div>{text}</{tag}></li>'


def _address(file: str) -> str:
    """A relative address, whatever is in the name; a colon would name a protocol."""
    return html.escape(quote(file.encode("utf-8", "surrogateescape"), safe="/"))
