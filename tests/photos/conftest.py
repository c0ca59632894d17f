import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def smooth():
    """A photo-like picture without noise, uint8, shape (48, 64, 3), that no turn or flip maps onto itself."""
    row, column = np.mgrid[0:48, 0:64] / 64
    return np.rint(255 * np.stack([column, row, (row * column)], axis=2)).astype(np.uint8)


@pytest.fixture(scope="session")
def icc():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def thumbnail():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def exif(thumbnail):
    """Builds a big-endian EXIF block by hand: tags, an EXIF directory with a maker note, GPS and a thumbnail."""

    def build(orientation=1, with_thumbnail=True, size=(64, 48)):
        order = ">"

        def directory(at, entries, following=0):
            table, values = struct.pack(order + "H", len(entries)), b""
            start = at + 2 + 12 * len(entries) + 4
            for tag, kind, count, value in entries:
                if len(value) > 4:
                    place = struct.pack(order + "I", start + len(values))
                    values, value = values + value + b"\0" * (len(value) % 2), place
                table += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
            return table + struct.pack(order + "I", following) + values

        short, long = (lambda n: struct.pack(order + "H", n)), (lambda n: struct.pack(order + "I", n))
        gps_entries = [(1, 2, 2, b"N\0"), (2, 5, 3, struct.pack(order + "6I", 48, 1, 8, 1, 30, 1))]
        detail_entries = [
            (33434, 5, 1, struct.pack(order + "II", 1, 250)), (37500, 7, 11, b"maker\xff\xd8note"),
            (40962, 4, 1, long(size[0])), (40963, 4, 1, long(size[1])),
        ]  # fmt: skip
        detail_at = 200
        gps_at, thumbnail_at = 400, 500

        def main(following):
            return directory(
                8,
                [
                    (271, 2, 6, b"Maker\0"),
                    (272, 2, 8, b"Model 1\0"),
                    (274, 3, 1, short(orientation)),
                    (34665, 4, 1, long(detail_at)),
                    (34853, 4, 1, long(gps_at)),
                ],  # fmt: skip
                following,
            )

        small = directory(thumbnail_at, [(513, 4, 1, long(600)), (514, 4, 1, long(len(thumbnail)))])
        block = b"MM\0*" + struct.pack(order + "I", 8) + main(thumbnail_at if with_thumbnail else 0)
        block = block.ljust(detail_at, b"\0") + directory(detail_at, detail_entries)
        block = block.ljust(gps_at, b"\0") + directory(gps_at, gps_entries)
        if with_thumbnail:
            block = (block.ljust(thumbnail_at, b"\0") + small).ljust(600, b"\0") + thumbnail
        return block

    return build
