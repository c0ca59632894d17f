"""The report of a restoration: one HTML file that shows before, after and the defocus map, and needs nothing else."""

import base64
import html
import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from photos.files import explained, replacing
from photos.maps import COLOURS, colour_maximum, map_picture
from photos.photo import Refused

__all__ = ["write_report"]

_LONGEST_SIDE = 1600
_SMALL = 200_000  # pixels; below, pictures are embedded without loss
_QUALITY = 92
_GAIN = 8
_RESIDUAL = """<section>
<h2>Residual</h2>
<div class="frame pan"><img src="{}" alt="What the result, blurred again, leaves unexplained" draggable="false"></div>
<p>The photo minus the restored picture blurred again, {} times as strong; grey where they agree.</p>
</section>"""


def write_report(
    path: str | Path,
    before: np.ndarray,
    after: np.ndarray,
    radius_map: np.ndarray,
    facts: Mapping[str, str | float],
    title: str,
    residual: np.ndarray | None = None,
    icc: bytes | None = None,
) -> None:
    """Writes a report as one HTML file; an old file is replaced when the new one is complete.

    Pictures with a side above 1600 pixels are shown smaller. All text is escaped.

    Args:
        path: The file to write.
        before: The capture, values in [0, 1], shape (H, W, 3).
        after: The restored picture, values in [0, 1], shape (H, W, 3).
        radius_map: Blur radius in pixels, shape (H, W).
        facts: What was done: settings, seed, evaluations, seconds; shown in this order.
        title: Heading of the report.
        residual: The capture minus the restored picture blurred again, shape (H, W, 3), in units of full range; None
            shows none.
        icc: Colour profile of both pictures, embedded so that browsers show their colours.

    Raises:
        PhotoError: If the pictures do not fit each other or are not finite, or the file cannot be written.
    """
    path = Path(path)
    before, after, radius_map = np.asarray(before), np.asarray(after), np.asarray(radius_map)
    with explained(path, "report"):
        _check(before, after, radius_map)
        if residual is not None and residual.shape != before.shape:
            raise Refused(f"expected a residual of shape {before.shape}, got {residual.shape}")
    maximum = colour_maximum(float(radius_map.max()))
    size = _shown_size(radius_map.shape)
    rows = [f"<tr><th>{_escaped(name)}</th><td>{_escaped(_shown(value))}</td></tr>" for name, value in facts.items()]
    height, width = radius_map.shape
    scaled = f"<p>Shown at {size[0]} × {size[1]} of {width} × {height} pixels.</p>" if size != (width, height) else ""
    page = Template(files("photos").joinpath("report.html").read_text("utf-8")).substitute(
        title=_escaped(title),
        width=size[0],
        height=size[1],
        # Small pictures are shown enlarged, tall ones no higher than the window.
        wide=f"max({size[0]}px, 40rem), {85 * size[0] / size[1]:.2f}vh",
        before=_embedded(_codes(before), size, icc),
        after=_embedded(_codes(after), size, icc),
        residual="" if residual is None else _RESIDUAL.format(_embedded(_codes(0.5 + _GAIN * residual), size), _GAIN),
        map=_embedded(map_picture(radius_map, maximum), size),
        colours=", ".join(f"rgb{colour}" for colour in COLOURS),
        maximum=_shown(maximum),
        ticks="".join(f"<span>{_shown(maximum * step / 4)}</span>" for step in range(5)),
        facts="\n".join(rows),
        note=scaled,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8", errors="replace")  # Names of files need not be text.


def _check(before: np.ndarray, after: np.ndarray, radius_map: np.ndarray) -> None:
    """Raises Refused where the three do not make one report."""
    if radius_map.ndim != 2 or radius_map.size == 0:
        raise Refused(f"expected a map of shape (H, W), got {radius_map.shape}")
    for name, picture in (("before", before), ("after", after)):
        if picture.shape != (*radius_map.shape, 3):
            raise Refused(f"expected {name} of shape {(*radius_map.shape, 3)} as the map has, got {picture.shape}")
    if not all(np.isfinite(values).all() for values in (before, after, radius_map)):
        raise Refused("expected finite pictures and radii, got NaN or infinity")


def _shown_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Width and height at which a picture of shape (H, W) is embedded."""
    factor = min(1.0, _LONGEST_SIDE / max(shape))
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


def _codes(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _embedded(codes: np.ndarray, size: tuple[int, int], icc: bytes | None = None) -> str:
    """A picture, uint8 (H, W, 3), as a data URI."""
    image = Image.fromarray(codes)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if size[0] * size[1] <= _SMALL:
        image.save(buffer, "PNG", optimize=True, icc_profile=icc)
    else:
        image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=icc)
    kind = "png" if size[0] * size[1] <= _SMALL else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _shown(value: object) -> str:
    """Numbers with four digits, all else as it prints."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def _escaped(text: object) -> str:
    return html.escape(str(text), quote=True)
