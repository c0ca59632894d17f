"""Which photos of a folder are trained on, settled at the start and the same on every process."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from photos import PhotoError, find_photos, read
from photos.files import strict_decoding
from train.data_config import DataConfig
from train.duplicates import copies_among, fingerprint
from train.photo_cache import CachedPhotos, fill_cache, read_rgb

__all__ = ["choose_photos", "excluded_prints", "split_holdout"]


def choose_photos(
    config: DataConfig, report: Callable[[str], None], needed: str | None = None
) -> tuple[list[Path], list[Path]]:
    """Finds the photos to train on and those to hold out, and fills the cache if there is to be one.

    Photos smaller than a patch, those that are seen not to be photos and copies of test photos are left out. A photo
    that turns out to be damaged when it is decoded stays in the list, so that the list does not depend on the
    cache; whoever draws it draws again.

    Args:
        config: Folder, patch size, test photos, cache.
        report: Told once what is left out, how many, and which is the first; each held-out photo that is damaged; and
            what is cached.
        needed: What photos may not be smaller than, in words; None for `data.patch`.

    Returns:
        Training photos and held-out photos, at least one of each.

    Raises:
        PhotoError: If the folder does not exist or holds no photo.
        ValueError: If too few photos remain.
    """
    files = find_photos(config.root)
    sizes, unreadable, small = {}, [], []
    for file in files:
        try:
            size = _size(file)
        except PhotoError as error:
            unreadable.append(str(error))
            continue
        if min(size) < config.patch:
            small.append(f"{file} ({size[1]} x {size[0]})")
        else:
            sizes[file] = size
    if unreadable:
        report(f"left out, {len(unreadable)} of {len(files)}: cannot be read, the first is {unreadable[0]}")
    if small:
        needed = needed or f"data.patch={config.patch}"
        report(f"left out, {len(small)} of {len(files)}: smaller than {needed}, the first is {small[0]}")
    if not sizes:
        raise ValueError(
            f"{config.root}: expected photos of at least {config.patch} x {config.patch} pixels, got none: "
            f"{len(small)} are smaller and {len(unreadable)} cannot be read"
        )
    if config.cache is not None:
        fill_cache(sizes, Path(config.cache), config.workers, report)
    chosen = _without_copies(list(sizes), config, report) if config.exclude else list(sizes)
    if len(chosen) < 2:
        raise ValueError(f"{config.root}: expected 2 photos at least, to train on and to hold out, got {len(chosen)}")
    training, held_out = split_holdout(chosen, config.holdout)
    if len(held_out) < config.holdout:
        report(f"held out, {len(held_out)} of {len(chosen)}: at most half of the photos, data.holdout={config.holdout}")
    if whole := _whole(held_out, report):
        return training, whole
    # None of them: the first training photo that can be decoded, for training ones are not read in advance.
    stand_in = next((file for file in training if _whole([file], lambda line: None)), None)
    if stand_in is None or len(training) == 1:
        raise ValueError(f"{config.root}: expected photos to train on and to hold out, got {len(chosen)} damaged ones")
    return [file for file in training if file != stand_in], [stand_in]


def split_holdout(files: list[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Splits photos into (training, held out); the latter are spread evenly over the list."""
    if len(files) < 2:
        raise ValueError(f"expected at least 2 photos, got {len(files)}")
    count = min(count, len(files) // 2)
    held = {round((index + 0.5) * len(files) / count) for index in range(count)}
    held = {min(index, len(files) - 1) for index in held}
    return [f for i, f in enumerate(files) if i not in held], [f for i, f in enumerate(files) if i in held]


def excluded_prints(folders: list[str]) -> tuple[list[bytes], list[Path]]:
    """Fingerprints of all test photos, and their files.

    Raises:
        PhotoError: If a folder holds no photo, or a photo cannot be decoded: what cannot be seen cannot be excluded.
    """
    files = [file for folder in folders for file in find_photos(folder)]
    return [fingerprint(read_rgb(file)) for file in files], files


def _without_copies(files: list[Path], config: DataConfig, report: Callable[[str], None]) -> list[Path]:
    if config.cache is not None:
        prints = CachedPhotos(files, Path(config.cache)).fingerprints()
    else:
        prints = [_fingerprint_of(file) for file in files]
    others, test_files = excluded_prints(config.exclude)
    known = [index for index, print_ in enumerate(prints) if print_ is not None]
    found = dict(zip(known, copies_among([prints[index] for index in known], others), strict=True))
    copies = [(files[index], test_files[match]) for index, match in found.items() if match is not None]
    first = f", the first is {copies[0][0]}, as {copies[0][1]}" if copies else ""
    report(f"left out, {len(copies)} of {len(files)}: copies of the {len(others)} test photos of data.exclude{first}")
    left_out = {copy for copy, _ in copies}
    return [file for file in files if file not in left_out]


def _size(file: Path) -> tuple[int, int]:
    """Height and width, in whichever order: the orientation is not applied."""
    try:
        with strict_decoding(), Image.open(file) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError):
        # Pillow does not know every kind of TIFF that the project reads; the decoder explains the others.
        return read(file).pixels.shape[:2]


def _whole(held_out: list[Path], report: Callable[[str], None]) -> list[Path]:
    """The held-out photos that can be decoded; what others lack is said of each."""
    whole = []
    for number, file in enumerate(held_out):
        try:
            read_rgb(file)
        except PhotoError as error:
            damaged = number + 1 - len(whole)
            report(f"left out, {damaged} so far of {len(held_out)} held-out photos: {error}")
        else:
            whole.append(file)
    return whole


def _fingerprint_of(file: Path) -> bytes | None:
    try:
        return fingerprint(read_rgb(file))
    except PhotoError:
        return None
