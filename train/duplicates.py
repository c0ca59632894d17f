"""Finds copies of test photos among training photos, also where they were re-encoded or resized.

A photo's fingerprint is its luminance on 16 x 17 cells. Two photos are copies if the fingerprints correlate
and if, in addition, most horizontal neighbours differ in the same direction (the bits of a difference hash);
skies over land correlate without being the same. Crops, turned and mirrored photos are not recognised.
"""

import numpy as np
from PIL import Image

__all__ = ["copies_among", "fingerprint"]

_ROWS, _COLUMNS = 16, 17
_CORRELATION = 0.975
_DIFFERENT_BITS = 50  # of 256


def fingerprint(photo: np.ndarray) -> bytes:
    """Luminance of a photo, shape (H, W, 3), 8-bit, averaged over 16 x 17 cells: one byte each, row by row."""
    grey = Image.fromarray(photo).convert("L")
    return np.asarray(grey.resize((_COLUMNS, _ROWS), Image.Resampling.BOX)).tobytes()


def copies_among(prints: list[bytes], others: list[bytes]) -> list[int | None]:
    """Looks for each of some photos among others.

    Args:
        prints: Fingerprints of N photos.
        others: Fingerprints of the photos they may be copies of.

    Returns:
        For each of the N the index of the other photo that it is a copy of, or None.
    """
    if not others:
        return [None] * len(prints)
    equal = {other: index for index, other in enumerate(others)}
    their_cells, their_bits = _described(others)
    found: list[int | None] = []
    for print_ in prints:
        cells, bits = _described([print_])
        correlation = their_cells @ cells[0]
        different = np.bitwise_count(their_bits ^ bits).sum(axis=1)
        match = np.flatnonzero((correlation >= _CORRELATION) & (different <= _DIFFERENT_BITS))
        # A flat photo correlates with nothing; only its equal is its copy.
        found.append(int(match[0]) if len(match) else equal.get(print_))
    return found


def _described(prints: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Cells of mean 0 and norm 1, (N, 272); the signs of horizontal differences, 256 bits packed, (N, 32)."""
    cells = np.frombuffer(b"".join(prints), dtype=np.uint8).astype(np.float32).reshape(len(prints), _ROWS, _COLUMNS)
    bits = np.packbits((np.diff(cells, axis=2) > 0).reshape(len(prints), -1), axis=1)
    cells = cells.reshape(len(prints), -1)
    cells = cells - cells.mean(axis=1, keepdims=True)
    return cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6), bits
