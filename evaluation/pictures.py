"""The pictures of a benchmark's folder: what was restored, from what, and what it should have been."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image
from torch import Tensor

from evaluation.captures import Capture
from photos.files import make_folder, replacing

__all__ = ["Pictures"]


class Pictures:
    """Writes PNG files below `pictures/` of a folder; names of captures may hold anything.

    Args:
        folder: Folder of the benchmark's results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()

    def write(
        self, column: str, capture: Capture, image: Tensor, reblurred: Tensor | None, radius_map: Tensor | None
    ) -> dict[str, object]:
        """Writes the pictures of a row, of shape (1, 3, H, W), map (1, 1, H, W).

        Returns:
            Their paths relative to the results' folder, None for what there is not, and the largest radius in
            pixels, which is white in the picture of the map.
        """
        place = f"{_safe(capture.set_name)}/{_safe(capture.group)}/{_safe(capture.name)}.png"
        largest = None if radius_map is None else float(radius_map.max())
        return {
            "input": self._save(f"input/{place}", capture.y),
            "reference": None if capture.x is None else self._save(f"reference/{place}", capture.x),
            "restored": self._save(f"restored/{column}/{place}", image),
            "reblurred": None if reblurred is None else self._save(f"reblurred/{column}/{place}", reblurred),
            "map": None if largest is None else self._save(f"map/{column}/{place}", radius_map / max(largest, 1e-6)),
            "largest_radius": largest,
        }

    def _save(self, path: str, picture: Tensor) -> str:
        path = f"pictures/{path}"
        file = self._folder / path
        # Columns share their input and reference; a file of an earlier run may be of another capture.
        if path not in self._written:
            self._written.add(path)
            make_folder(file.parent)
            codes = np.rint(255 * picture[0].clamp(0, 1).permute(1, 2, 0).numpy()).astype(np.uint8)
            with replacing(file) as temporary:
                Image.fromarray(codes.squeeze()).save(temporary, format="PNG")
        return path


def _safe(name: str) -> str:
    """A name as one path component: slashes and the like are percent-encoded."""
    return quote(name, safe=" ()+,=@!~") if name.strip(".") else quote(name).replace(".", "%2E")
