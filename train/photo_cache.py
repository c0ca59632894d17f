"""Decoded photos, in memory or in a folder of memory-mapped files that processes and runs share.

The folder holds pairs `photos_N.bin`, the 8-bit pixels one photo after the other, and `photos_N.json`, which
photos they are. A photo is known by path, size and time of its file; a changed file is decoded anew. Files
appear whole: the pixels first, the index that makes them count last. A lock, which the system releases when a
process dies, lets one process at a time add photos. Pixels are read through the page cache: a set larger than
memory streams from the disk, and processes share what is in memory.
"""

import json
import multiprocessing
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from filelock import FileLock

from photos import PhotoError
from photos.files import decode, file_bytes, make_folder, replacing
from train.duplicates import fingerprint
from train.left_out import LeftOut

__all__ = ["CachedPhotos", "PhotosInMemory", "decode_rgb", "fill_cache", "read_rgb"]

_VERSION = 1
_SHARD_BYTES = 2**30


def read_rgb(file: Path) -> np.ndarray:
    """Reads a photo, upright, rounded to 8 bit: shape (H, W, 3), uint8.

    Raises:
        PhotoError: If the file is not a whole photo.
    """
    return decode_rgb(file, file_bytes(file))


def decode_rgb(file: Path, data: bytes) -> np.ndarray:
    """Decodes the content of a photo as `read_rgb` does; the file's name is for errors."""
    return np.rint(decode(file, data).pixels * 255).astype(np.uint8)


class PhotosInMemory:
    """Photos by their number, decoded at first use and kept as far as memory is granted.

    Args:
        files: Photos.
        gib: Memory for decoded photos.
        left_out: Takes note of photos that cannot be decoded.
    """

    def __init__(self, files: list[Path], gib: float, left_out: LeftOut | None = None) -> None:
        self.files = files
        self._left_out = left_out or LeftOut()
        self._kept: dict[int, np.ndarray] = {}
        self._budget = gib * 2**30
        self._broken: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        """A photo, shape (H, W, 3), uint8; raises `PhotoError` if it cannot be decoded."""
        if index in self._kept:
            return self._kept[index]
        if index in self._broken:
            raise PhotoError(self._broken[index])
        try:
            photo = read_rgb(self.files[index])
        except PhotoError as error:
            self._broken[index] = str(error)
            self._left_out.add(str(error))
            raise
        if photo.nbytes <= self._budget:
            self._budget -= photo.nbytes
            self._kept[index] = photo
        return photo


class CachedPhotos:
    """Photos by their number, read from a folder that `fill_cache` has filled.

    Args:
        files: Photos.
        folder: The folder.

    Raises:
        ValueError: If a photo is not in the folder.
    """

    def __init__(self, files: list[Path], folder: Path) -> None:
        self.files = files
        known = _index(folder)
        missing = [file for file in files if _key(file) not in known]
        if missing:
            raise ValueError(f"{folder}: expected {missing[0]} among the cached photos, got none of this name and time")
        self._entries = [known[_key(file)] for file in files]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> np.ndarray:
        """A photo, shape (H, W, 3), uint8, not to be written to; raises `PhotoError` if it could not be decoded."""
        entry = self._entries[index]
        if "error" in entry:
            raise PhotoError(entry["error"])
        start, shape = entry["offset"], (entry["height"], entry["width"], 3)
        return _mapped(entry["shard"])[start : start + shape[0] * shape[1] * 3].reshape(shape)

    def fingerprints(self) -> list[bytes | None]:
        """Fingerprint of each photo, None of those that could not be decoded."""
        return [bytes.fromhex(entry["fingerprint"]) if "error" not in entry else None for entry in self._entries]


def fill_cache(sizes: dict[Path, tuple[int, int]], folder: Path, workers: int, report: Callable[[str], None]) -> None:
    """Decodes photos into a folder, those that are not there yet; other processes wait meanwhile.

    Args:
        sizes: Photos with height and width in pixels.
        folder: The folder; it is made if there is none.
        workers: Processes that decode; 0 decodes in this one.
        report: Told what is done and which photos could not be decoded, once each.

    Raises:
        OSError: If the folder cannot be made or written.
        ValueError: If the disk has too little space.
    """
    known = _index(folder)
    if all(_key(file) in known for file in sizes):
        # Without the lock, so that a complete folder may be read-only.
        return
    make_folder(folder)
    with FileLock(folder / ".lock"):
        known = _index(folder)
        missing = [file for file in sizes if _key(file) not in known]
        if not missing:
            return
        for stale in folder.glob(".*.part"):
            stale.unlink()
        needed, free = sum(3 * sizes[file][0] * sizes[file][1] for file in missing), shutil.disk_usage(folder).free
        if needed > free:
            raise ValueError(
                f"{folder}: expected {needed / 2**20:.0f} MiB for decoded photos, got {free / 2**20:.0f} MiB of free "
                "space; choose another data.cache, or null"
            )
        report(f"decoding {len(missing)} photos ({needed / 2**30:.2f} GiB) into {folder}")
        broken = _write_shards(missing, folder, workers)
        if broken:
            report(f"left out, {len(broken)} of {len(missing)}: cannot be decoded, the first is {broken[0]}")


def _write_shards(files: list[Path], folder: Path, workers: int) -> list[str]:
    """Appends photos to the folder; returns why those failed that did."""
    number = 1 + max((int(path.stem.removeprefix("photos_")) for path in _indices(folder)), default=-1)
    decoded, errors = _decoded(files, workers), []
    photo = next(decoded, None)
    while photo is not None:
        entries, shard = [], folder / f"photos_{number:06d}.bin"
        with replacing(shard) as temporary, temporary.open("wb") as out:
            while photo is not None and out.tell() < _SHARD_BYTES:
                file, pixels = photo
                entry = {"key": _key(file)}
                if isinstance(pixels, str):
                    entry["error"] = pixels
                    errors.append(pixels)
                else:
                    entry |= {"offset": out.tell(), "height": pixels.shape[0], "width": pixels.shape[1]}
                    entry["fingerprint"] = fingerprint(pixels).hex()
                    out.write(np.ascontiguousarray(pixels).data)
                entries.append(entry)
                photo = next(decoded, None)
            size = out.tell()
        with replacing(shard.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({"version": _VERSION, "bytes": size, "photos": entries}))
        number += 1
    return errors


def _decoded(files: list[Path], workers: int) -> Iterator[tuple[Path, np.ndarray | str]]:
    if workers == 0:
        yield from ((file, _pixels_or_error(file)) for file in files)
        return
    # Spawned, not forked: the training process may hold a GPU and threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        # A few at a time: what is decoded but not written yet takes memory.
        for start in range(0, len(files), 8 * workers):
            some = files[start : start + 8 * workers]
            yield from zip(some, pool.map(_pixels_or_error, some), strict=True)


def _pixels_or_error(file: Path) -> np.ndarray | str:
    try:
        return read_rgb(file)
    except PhotoError as error:
        return str(error)


def _key(file: Path) -> str:
    status = file.stat()
    return f"{file.absolute()}|{status.st_size}|{status.st_mtime_ns}"


def _index(folder: Path) -> dict[str, dict]:
    """Entries of all photos in the folder by their keys; a shard that is not whole does not count."""
    entries = {}
    for path in _indices(folder):
        shard = path.with_suffix(".bin")
        try:
            index = json.loads(path.read_text())
            if index["version"] == _VERSION and shard.stat().st_size == index["bytes"]:
                entries |= {entry["key"]: entry | {"shard": str(shard)} for entry in index["photos"]}
        except (OSError, ValueError, TypeError, KeyError):
            # Damaged: its photos are decoded anew.
            continue
    return entries


def _indices(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("photos_*.json") if re.fullmatch(r"photos_\d+", path.stem))


@cache
def _mapped(shard: str) -> np.ndarray:
    # The plain view: indexing numpy's memmap class costs more than the patch.
    return np.asarray(np.memmap(shard, dtype=np.uint8, mode="r"))
