"""Compressions of TIFF that tifffile knows only with the package imagecodecs: Pillow's libtiff undoes them instead.

Pillow itself would cut samples of 16 bits to 8 and interpret a fourth channel, so that it is given their bytes.
"""

import io
import struct

import numpy as np
import tifffile
from PIL import Image

__all__ = ["PACKED", "unpacked"]

PACKED = frozenset({8, 32946, 5, 32773, 50000})
"""Numbers of the compressions: deflate (two), LZW, PackBits, Zstandard."""


def unpacked(data: bytes, page: tifffile.TiffPage) -> np.ndarray:
    """Samples of whole bytes whose strips or tiles libtiff can unpack as bytes, shape (H, W, C)."""
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    channels = page.samplesperpixel // planes
    samples = np.empty((page.imagelength, page.imagewidth, page.samplesperpixel), page.dtype)
    rows, columns = (
        (page.tilelength, page.tilewidth) if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    )  # fmt: skip
    down, across = -(-page.imagelength // rows), -(-page.imagewidth // columns)
    for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        plane, place = divmod(index, down * across)
        top, left = place // across * rows, place % across * columns
        # The last strip is short, a tile never is.
        height = rows if page.is_tiled else min(rows, page.imagelength - top)
        length = height * columns * channels * dtype.itemsize
        packed = data[offset : offset + count]
        block = np.frombuffer(_inflated(packed, int(page.compression), int(page.fillorder), length), dtype)
        block = block.reshape(height, columns, channels).astype(page.dtype)
        if page.predictor == 2:
            block = np.cumsum(block, axis=1, dtype=page.dtype)
        target = samples[top : top + rows, left : left + columns, plane * channels : (plane + 1) * channels]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return samples


def _inflated(packed: bytes, compression: int, fill_order: int, length: int) -> bytes:
    """Undoes a compression of bytes, by presenting them to libtiff as one row of 8-bit grey pixels."""
    tags = [
        (256, 4, length), (257, 4, 1), (258, 3, 8), (259, 3, compression), (262, 3, 1), (266, 3, fill_order),
        (273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(packed)),
    ]  # fmt: skip
    packed += b"\0" * (len(packed) % 2)
    table = b"".join(
        struct.pack("<HHIHH", tag, kind, 1, value, 0) if kind == 3 else struct.pack("<HHII", tag, kind, 1, value)
        for tag, kind, value in tags
    )
    file = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + table + bytes(4)
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return image.tobytes()
