"""Pictures of a file one by one, and stacks of them: TIFF files with several pages.

A stack of a microscope is as large as a film; one page of it is in memory at a time, besides the file itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from photos import tiff
from photos.directories import byte_order
from photos.files import decode, explained, file_bytes, format_of, replacing, strict_decoding
from photos.photo import Photo
from photos.raw import is_raw
from photos.tiff_writing import WIDE_BEYOND, TiffAppender
from photos.value_range import ValueRange

__all__ = ["Pages", "join", "open_pages"]


@dataclass(frozen=True, eq=False)
class Pages:
    """The pictures of a file; most have one.

    Attributes:
        path: The file.
        data: Its content.
        count: Number of pictures.
        value_range: The stored values that become 0 and 1, the same for all; None for those of the type.
    """

    path: Path
    data: bytes
    count: int
    value_range: ValueRange | None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Photo]:
        """Decodes one picture after the other.

        Raises:
            PhotoError: As `photos.read`.
        """
        for number in range(self.count):
            yield decode(self.path, self.data, self.value_range, number if self.count > 1 else None)


def open_pages(path: str | Path, value_range: ValueRange | None = None) -> Pages:
    """Opens a photo file of one or several pictures.

    Args:
        path: The file.
        value_range: The stored values that become 0 and 1; an open range is settled over all pictures, so that their
            brightness stays comparable.

    Raises:
        PhotoError: If the file is missing, unreadable or damaged.
    """
    path = Path(path)
    data = file_bytes(path)
    kind = format_of(data)
    count = 1
    if kind == "TIFF" and not is_raw(data, path.suffix.lower()):
        with explained(path, kind), strict_decoding():
            count = max(tiff.page_count(data), 1)
            if value_range is not None and count > 1:
                ends = [tiff.decode(data, number).ends for number in range(count)]
                value_range = value_range.settled(min(low for low, _ in ends), max(high for _, high in ends))
    return Pages(path, data, count, value_range)


def join(files: Sequence[Path], target: Path) -> None:
    """Makes one TIFF file of several that hold a picture each; beyond 4 GB it becomes a BigTIFF.

    Args:
        files: TIFF files that this project has written, of one byte order.
        target: The file to write.

    Raises:
        PhotoError: If the file cannot be written.
    """
    wide = sum(file.stat().st_size for file in files) > WIDE_BEYOND
    with replacing(target) as temporary, temporary.open("w+b") as stream:
        appender = None
        for file in files:
            data = file.read_bytes()
            appender = appender or TiffAppender(stream, byte_order(data), wide)
            appender.join(data)
