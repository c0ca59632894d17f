"""Contact sheets of a benchmark: what each column made of each capture, side by side.

A row of a sheet is one capture: input, restored picture, the restored picture blurred again by the method's own
map, that map, and the reference. Maps are in the colours of the photo reports; a colour means the same radius
on all sheets of a benchmark.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.cases import case_title, columns_of, ranked
from evaluation.results import gain
from photos.files import make_folder, replacing
from photos.maps import map_picture

__all__ = ["write_contact_sheets"]

_CELLS = {
    "input": ("input", "not saved"),
    "restored": ("restored", "not saved"),
    "reblurred": ("restored, blurred again", "uses no map"),
    "map": ("blur radius", "uses no map"),
    "reference": ("reference", "no reference"),
}
"""Title of each cell, and why it is empty where a row names no picture for it."""

_GAP, _LINE, _MARGIN = 8, 24, 16  # pixels
_PAPER, _INK, _QUIET, _EMPTY = (246, 246, 244), (29, 31, 33), (98, 102, 107), (228, 228, 224)

_Shown = Callable[[str, "float | None"], "Image.Image | str"]
"""What to show of a path: the fitted picture, or why there is none; a map comes with its largest radius."""


def write_contact_sheets(out: Path, results: dict, *, per_page: int = 6, cell: int = 272) -> list[Path]:
    """Writes the pages of every column, and a sheet of its worst and one of its best captures by gain in PSNR.

    Pictures larger than a cell are shrunk, smaller ones stay as they are; a picture that is missing leaves its cell
    empty, with the reason in it.

    Args:
        out: Folder of the results, which the paths of their pictures are relative to; the sheets come to lie in
            its folder `contact_sheets`, as `COLUMN-001.png`, `COLUMN-worst.png` and `COLUMN-best.png`.
        results: Results of a benchmark as `results.json` holds them.
        per_page: Captures on a page.
        cell: Largest width and height of a picture in pixels.

    Returns:
        The files, column by column: pages, worst, best.

    Raises:
        ValueError: If a page could hold no capture or no picture, or a file cannot be written.
    """
    if per_page < 1 or cell < 16:
        raise ValueError(f"expected at least 1 capture per page and cells of 16 pixels, got {per_page} and {cell}")
    out = Path(out)
    largest = max([(row["pictures"] or {}).get("largest_radius") or 0.0 for row in results["rows"]], default=0.0)

    # Input and reference of a capture are in every column's sheets.
    @lru_cache(maxsize=512)
    def shown(path: str, radius: float | None) -> Image.Image | str:
        picture = _fitted(out / path, cell, "RGB" if radius is None else "L")
        if radius is None or isinstance(picture, str):
            return picture
        return Image.fromarray(map_picture(np.asarray(picture) * (radius / 255), largest or 1.0))

    folder, files, names = out / "contact_sheets", [], set()
    make_folder(folder)
    for column in columns_of(results):
        rows = [row for row in results["rows"] if row["column"] == column]
        order = [row for _, row in ranked(rows)]
        parts = [rows[start : start + per_page] for start in range(0, len(rows), per_page)]
        pages = {f"{number:03d}": (f"page {number} of {len(parts)}", part) for number, part in enumerate(parts, 1)}
        if order:
            pages["worst"] = "smallest gains first", order[:per_page]
            pages["best"] = "largest gains first", order[: -per_page - 1 : -1]
        name = _file_name(column, names)
        for page, (title, listed) in pages.items():
            file = folder / f"{name}-{page}.png"
            sheet = _sheet(f"{column}, {title}", listed, shown, cell, largest)
            with replacing(file) as temporary:
                sheet.save(temporary, format="PNG", compress_level=1)
            files.append(file)
    return files


def _sheet(title: str, rows: Sequence[dict], shown: _Shown, cell: int, largest: float) -> Image.Image:
    """One page."""
    bands = [[_content(row, part, shown) for part in _CELLS] for row in rows]
    heights = [max([part.height for part in band if not isinstance(part, str)], default=2 * _LINE) for band in bands]
    width = 2 * _MARGIN + len(_CELLS) * cell + (len(_CELLS) - 1) * _GAP
    lefts = [_MARGIN + number * (cell + _GAP) for number in range(len(_CELLS))]
    sheet = Image.new("RGB", (width, 2 * _MARGIN + 3 * _LINE + sum(heights) + len(rows) * (_LINE + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), title, width - 2 * _MARGIN, 18, _INK)
    if largest:
        scale = f"Colours of the blur radius: 0 (dark) to {largest:.1f} pixels (bright) on every sheet."
        _write(draw, (_MARGIN, _MARGIN + _LINE), scale, width - 2 * _MARGIN, 14, _QUIET)
    for left, (heading, _) in zip(lefts, _CELLS.values(), strict=True):
        _write(draw, (left, _MARGIN + 2 * _LINE), heading, cell, 14, _QUIET)
    top = _MARGIN + 3 * _LINE
    for row, band, height in zip(rows, bands, heights, strict=True):
        _write(draw, (_MARGIN, top), _caption(row), 3 * cell + 2 * _GAP, 15, _INK)
        if (radius := (row["pictures"] or {}).get("largest_radius")) is not None:
            _write(draw, (lefts[3], top), f"largest: {radius:.1f} px", cell, 15, _INK)
        top += _LINE
        for left, part in zip(lefts, band, strict=True):
            if isinstance(part, str):
                draw.rectangle((left, top, left + cell - 1, top + height - 1), fill=_EMPTY)
                _write(draw, (left + _GAP, top + height // 2 - _LINE // 2), part, cell - 2 * _GAP, 14, _QUIET)
            else:
                sheet.paste(part, (left, top))
        top += height + _GAP
    return sheet


def _content(row: dict, part: str, shown: _Shown) -> Image.Image | str:
    """The picture of a cell, or why there is none."""
    if row["pictures"] is None:
        return "not saved"
    path = row["pictures"].get(part)
    radius = row["pictures"].get("largest_radius") if part == "map" else None
    return shown(path, radius) if path else _CELLS[part][1]


def _fitted(file: Path, cell: int, mode: str) -> Image.Image | str:
    """A picture that fits into a cell, or why there is none."""
    try:
        with Image.open(file) as opened:
            picture = opened.convert(mode)
    except FileNotFoundError:
        return "file is missing"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "file cannot be read"
    picture.thumbnail((cell, cell), Image.Resampling.LANCZOS, reducing_gap=None)
    return picture


def _caption(row: dict) -> str:
    before, after, more = row["input"].get("psnr"), row["metrics"].get("psnr"), gain(row)
    if before is None or after is None:
        figures = "equals the reference" if row["equal"] else "no PSNR"
    else:
        figures = f"PSNR {before:.2f} to {after:.2f} dB ({more:+.2f})"
    return f"{case_title(row)}   {figures}{'' if row['counted'] else ', not counted'}"


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, size: int, colour: tuple) -> None:
    """Text on one line, cut in its middle where it is too long."""
    font = _font(size)
    # Pillow's own font has ASCII letters alone: accents are dropped, letters of other scripts become question marks.
    text = unicodedata.normalize("NFKD", text)
    text = "".join(letter for letter in text if not unicodedata.combining(letter)).encode("ascii", "replace").decode()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    whole = text
    while len(text) > 5 and font.getlength(text) > width:
        kept = len(text) - 4
        text = f"{whole[: kept // 2]}...{whole[len(whole) - (kept - kept // 2) :]}"
    draw.text(at, text, fill=colour, font=font)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _file_name(column: str, taken: set[str]) -> str:
    """A name for the files of a column that any file system takes and no other column has."""
    name = first = re.sub(r"[^\w.=+-]+", "-", column).strip("-.")[:100] or "column"
    number = 1
    while name.lower() in taken:
        number += 1
        name = f"{first}-{number}"
    taken.add(name.lower())
    return name
