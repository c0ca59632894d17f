"""Photo files: finding them, reading them, and writing them whole or not at all."""

import logging
import os
import secrets
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from photos import PHOTO_SUFFIXES, avif, heic, jpeg, png, raw, tiff, tiff_writing, webp
from photos.photo import Photo, PhotoError, Refused
from photos.value_range import ValueRange

__all__ = [
    "decode", "encode", "explained", "file_bytes", "find_photos", "format_of", "read", "replacing", "strict_decoding",
    "write",
]  # fmt: skip

_CODECS = {"JPEG": jpeg, "PNG": png, "TIFF": tiff_writing, "WebP": webp, "AVIF": avif, "HEIC": heic}
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff"), "WebP": (".webp",), "AVIF": (".avif",),
    "HEIC": (".heic", ".heif"),
}  # fmt: skip
_KNOWN = "JPEG, PNG, TIFF, WebP, AVIF, HEIC or raw photo"
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG", png.SIGNATURE: "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
    b"MM\0+": "TIFF", b"GIF8": "GIF", b"BM": "BMP", b"8BPS": "PSD", b"%PDF": "PDF", b"\x76\x2f\x31\x01": "OpenEXR",
    b"\x93NUMPY": "NumPy", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL": "JPEG XL", b"\0\0\0\x0cjP": "JPEG 2000",
}  # fmt: skip
_lock = threading.RLock()


def find_photos(path: str | Path) -> list[Path]:
    """All photos at a path: the file itself, or those below a folder.

    Hidden files and folders are passed over, and so are other kinds of files.

    Args:
        path: A file or a folder.

    Returns:
        At least one path, sorted.

    Raises:
        PhotoError: If there is no such path, or the folder cannot be read or holds no photo.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PhotoError(f"{path}: expected a photo or a folder of photos, got no such file or folder")
    if not os.access(path, os.R_OK | os.X_OK):
        raise PhotoError(f"{path}: expected a folder that can be read, got no permission to read it")
    found = sorted(
        file for file in path.rglob("*")
        if file.suffix.lower() in PHOTO_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        # A link that leads nowhere is no photo that may be passed over: reading it says so.
        and (file.is_file() or file.is_symlink() and not file.exists())
    )  # fmt: skip
    if not found:
        raise PhotoError(f"{path}: expected photos ({', '.join(sorted(PHOTO_SUFFIXES))}) in this folder, got none")
    return found


def read(path: str | Path, value_range: ValueRange | None = None) -> Photo:
    """Reads a JPEG, PNG, TIFF, WebP, AVIF, HEIC or raw file, upright, without loss of bit depth.

    The format is recognised by the file's content, not by its name; raw files that look like TIFF need their suffix.

    Args:
        path: The file.
        value_range: The stored values that become 0 and 1, see `photos.value_range`; None for those of the type.

    Returns:
        The photo; its pixels are in [0, 1] as stored.

    Raises:
        PhotoError: If the file is missing, unreadable, cut short, damaged, or not a photo of a supported kind.
    """
    path = Path(path)
    return decode(path, file_bytes(path), value_range)


def decode(path: Path, data: bytes, value_range: ValueRange | None = None, page: int | None = None) -> Photo:
    """Decodes the content of a photo file, as `read` does.

    Args:
        path: Name of the file, for the photo and for errors; it need not exist.
        data: Its content.
        value_range: The stored values that become 0 and 1; None for those of the type.
        page: Which picture of a TIFF with several; None for the only one.

    Returns:
        The photo; its pixels are in [0, 1] as stored.

    Raises:
        PhotoError: If this is not a whole photo of a supported kind.
    """
    kind = "raw photo" if raw.is_raw(data, path.suffix.lower()) else format_of(data)
    with explained(path, kind):
        if kind != "raw photo" and kind not in _CODECS:
            raise Refused(f"expected a {_KNOWN}, got {kind}")
        with strict_decoding():
            if kind == "raw photo":
                kind, decoded = "TIFF", raw.decode(data)
            elif kind == "TIFF":
                decoded = tiff.decode(data, page)
            else:
                decoded = _CODECS[kind].decode(data)
            if value_range is not None:
                value_range = value_range.settled(*decoded.ends)
            return Photo.of(path, kind, decoded, value_range)


def write(path: str | Path, pixels: np.ndarray, *, like: Photo) -> None:
    """Writes pixels in the format, bit depth and layout of a photo, with its alpha and metadata.

    A file at the path is replaced when, and only when, the new one is complete.

    Args:
        path: The file to write. Its suffix must be one of the photo's format, or the one the photo had.
        pixels: Upright values in [0, 1], floating-point, shape (H, W, 3); values outside are clipped. Of another size
            than the photo, enlarged for instance, only without alpha and range of values.
        like: The photo they belong to.

    Raises:
        PhotoError: If the suffix names another format, or the pixels or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*_SUFFIXES[like.format], like.path.suffix.lower()):
        expected = " or ".join(_SUFFIXES[like.format])
        raise PhotoError(f"{path}: expected a name that ends in {expected} for a {like.format} photo, got {suffix!r}")
    data = encode(path, pixels, like=like)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def encode(path: Path, pixels: np.ndarray, *, like: Photo) -> bytes:
    """The content of the file that `write` writes.

    Args:
        path: Name of the file, for errors.
        pixels: Upright values in [0, 1], shape (H, W, 3).
        like: The photo they belong to.

    Raises:
        PhotoError: If the pixels cannot be written.
    """
    try:
        with strict_decoding():
            return _CODECS[like.format].encode(pixels, like)
    except (ValueError, OSError, struct.error) as error:
        raise PhotoError(f"{path}: the picture cannot be written as {like.format}: {error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name in the folder of a file; the file takes its place if no error occurs.

    Raises:
        PhotoError: If the file cannot be written.
    """
    # Hidden and without a photo's suffix: neither a folder's listing nor a second run takes it for a photo.
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}.part"
    try:
        if path.is_dir():
            raise PhotoError(f"{path}: expected the name of a file to write, got a folder")
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise PhotoError(f"{path}: the file cannot be written: {error.strerror or error}") from error
    finally:
        # Nor is there one to remove where a folder turns out to be a file.
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, unless it is there.

    Raises:
        PhotoError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), folder)
        raise PhotoError(f"{file}: expected a folder or nothing there, got a file") from error
    except OSError as error:
        raise PhotoError(f"{folder}: the folder cannot be made: {error.strerror or error}") from error


def file_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        PhotoError: If there is no such file, or it is empty or cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: expected a file, got no such file") from error
    except IsADirectoryError as error:
        raise PhotoError(f"{path}: expected a file, got a folder") from error
    except PermissionError as error:
        raise PhotoError(f"{path}: expected a file that can be read, got no permission to read it") from error
    except OSError as error:
        raise PhotoError(f"{path}: expected a file that can be read, got an error: {error.strerror}") from error
    if not data:
        raise PhotoError(f"{path}: expected a picture, got an empty file")
    return data


def format_of(data: bytes) -> str:
    """Name of a file's format, judged by its first bytes."""
    for beginning, name in _BEGINNINGS.items():
        if data.startswith(beginning):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        if data[8:11] == b"avi" or b"avif" in data[16:64]:
            return "AVIF"
        return "HEIC" if data[8:12] in _HEIC_BRANDS else "a film or another kind of file"
    return "another kind of file"


@contextmanager
def explained(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever a decoder raises into a PhotoError that names the file."""
    try:
        yield
    except PhotoError:
        raise
    except Refused as reason:
        raise PhotoError(f"{path}: {_printable(reason)}") from reason
    except MemoryError as error:
        raise PhotoError(f"{path}: expected a picture that fits into memory, got a larger one") from error
    except Exception as error:
        # A damaged file can make a decoder fail in any way, with any exception.
        reason = _printable(error)
        raise PhotoError(f"{path}: expected a whole {kind} file, got a damaged or incomplete one ({reason})") from error


def _printable(reason: object) -> str:
    """One line of text, though it may quote what a damaged file says; not too long."""
    return "".join(character if character.isprintable() else " " for character in str(reason)[:400])


@contextmanager
def strict_decoding() -> Iterator[None]:
    """Lets the decoders fail instead of guessing, without warnings and below our own limit of size alone."""
    logger = logging.getLogger("tifffile")
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, logger.disabled
        # The decoders compare sizes with photos.MAX_PIXELS themselves, before they take memory.
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, logger.disabled = None, False, True
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, logger.disabled = before
