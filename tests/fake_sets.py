"""Tiny pictures for trees that look like the public sets."""

import struct
import zlib

import numpy as np
from PIL import Image

SIZE = (12, 16)


def write_png(path, samples):
    """Writes codes of 8 or 16 bits, (H, W) or (H, W, 3); Pillow has no RGB of 16 bits."""
    height, width = samples.shape[:2]
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8 * samples.dtype.itemsize, 2 if samples.ndim == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def flat(path, code, size=SIZE, dtype=np.uint8):
    """Writes a picture of one code, so that what was paired with what shows in the values."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), code, np.uint8)).save(path, format="JPEG")
    else:
        write_png(path, np.full((*size, 3), code, dtype))


def code_of(picture, levels=255):
    """The code of a flat picture (1, 3, H, W) in [0, 1]."""
    return round(float(picture.mean()) * levels)
