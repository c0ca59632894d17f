"""Simulates defocused captures of sharp photos, with their maps, as a paired set.

    python train/simulate.py PHOTO... -o DIR [--count N]
    python train/simulate.py PHOTO -o DIR --depth DEPTH --focal-length 50 --f-number 1.8 --focus 2 --pixel-pitch 5

PHOTO is a JPEG, PNG or TIFF file, or a folder of them. Each capture NAME gives DIR/blurred/NAME.png,
DIR/sharp/NAME.png and DIR/defocus_map/NAME.tif (blur radii in pixels, float32); DIR/simulation.json says for
each with which lens and camera it was taken. A camera that sharpens or resamples does so to both pictures.
Without --depth scenes are random layers, and captures are smaller than their photos by a margin on every
side, which the blur reads. With --depth radii are those of a thin lens, and captures have the photo's size.
DEPTH has the photo's size; infinity is allowed. Where it is 0 or NaN, the distance is unknown and taken from
the nearest pixel that has one.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from samplers.command_line import Parser, report_error, seed
from samplers.standard_streams import run_command

LARGEST_RADIUS = 64.0
LENS = ("focal_length", "f_number", "focus", "pixel_pitch")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and simulates; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    given = [name for name in LENS if getattr(arguments, name) is not None]
    options = [f"--{name.replace('_', '-')}" for name in (given if arguments.depth is None else LENS)]
    if arguments.depth is None and given:
        parser.error(f"{options[0]}: expected only with --depth, got none")
    if arguments.depth is not None and len(given) < len(LENS):
        parser.error(f"--depth: expected {', '.join(options)} as well, got {len(given)} of {len(LENS)}")
    if arguments.depth is not None and arguments.largest_radius is not None:
        parser.error("--largest-radius: expected only without --depth, whose lens says how large radii are")
    if arguments.depth is not None and arguments.outlined:
        parser.error("--outlined: expected only without --depth, whose edges are those of layers")
    if arguments.depth is None and arguments.depth_unit is not None:
        parser.error("--depth-unit: expected only with --depth, got none")
    # Only now the slow imports: --help and usage errors answer at once.
    try:
        return _simulate(arguments)
    except ValueError as error:
        return report_error("train/simulate.py", error, 1)


def _parser() -> Parser:
    parser = Parser(prog="train/simulate.py", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="sharp photos or folders of them")
    add("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the set; nothing is overwritten")
    add("--count", type=_positive(int), default=1, metavar="N", help="captures of each photo (default: 1)")
    add("--seed", type=seed, default=0, metavar="N", help="of everything random (default: 0)")
    add("--scale", type=_shrinking, default=1.0, metavar="X", help="shrink photos first, at most 1 (default: 1)")
    add("--matched", action="store_true", help="disks, white noise of 0.01 and sRGB values instead of a random camera")
    add("--outlined", action="store_true", help="end layers at edges of the photo, as things do, and not anywhere")
    add("--largest-radius", type=_positive(float), metavar="R", help="of random scenes, in pixels (default: 8)")
    add("--depth", type=Path, metavar="FILE", help="distances of one photo's scene (TIFF, PNG or .npy), 0: unknown")
    add("--depth-unit", type=_positive(float), metavar="M", help="metres that a number 1 in it means (default: 1)")
    add("--focal-length", type=_positive(float), metavar="MM", help="of the lens, in millimetres")
    add("--f-number", type=_positive(float), metavar="N", help="of the lens")
    add("--focus", type=_positive(float), metavar="M", help="distance that is in focus, in metres")
    add("--pixel-pitch", type=_positive(float), metavar="UM", help="side of a pixel of the photo, in micrometres")
    return parser


def _positive(kind: type):  # noqa: ANN202 - what argparse takes for a type
    def convert(text: str) -> int | float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
        return value

    convert.__name__ = kind.__name__
    return convert


def _shrinking(text: str) -> float:
    value = _positive(float)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected at most 1, got {text}")
    return value


def _simulate(arguments: argparse.Namespace) -> int:
    """Simulates capture after capture; a photo that cannot be read stops no other. Returns the exit code."""
    from dataclasses import asdict

    import numpy as np

    from photos import PhotoError
    from photos.files import replacing

    targets, errors = _targets(arguments)
    code = max((report_error("train/simulate.py", error, 1) for error in errors), default=0)
    if arguments.depth is not None and len(targets) != arguments.count:
        raise ValueError(f"--depth: expected one photo, got {len(targets) // arguments.count}")
    note = arguments.output / "simulation.json"
    files = {name: [arguments.output / part for part in _parts(name)] for name, _, _ in targets}
    for file in [note, *(file for three in files.values() for file in three)]:
        if file.exists():
            raise ValueError(f"{file}: expected no such file yet, got one; choose another folder")
    captures, unreadable = {}, set()
    try:
        for name, photo, numbers in targets:
            if photo in unreadable:
                continue
            try:
                capture = _capture(arguments, photo, np.random.default_rng([arguments.seed, *numbers]))
            except PhotoError as error:
                code = report_error("train/simulate.py", error, 1)
                unreadable.add(photo)
                continue
            _write(capture, files[name])
            captures[name] = {
                "photo": str(photo), "aperture": asdict(capture.aperture), "camera": asdict(capture.camera),
            }  # fmt: skip
            print(files[name][0])
    finally:
        # Of what is there, whatever ended the work.
        if captures:
            options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
            content = json.dumps({"options": options, "captures": captures}, indent=1) + "\n"
            with replacing(note) as temporary:
                temporary.write_text(content, encoding="utf-8")
    return code


def _write(capture, files: list[Path]) -> None:  # noqa: ANN001 - SimulatedCapture, imported late
    """Writes capture, sharp photo and map: all of them or none."""
    import numpy as np
    from PIL import Image

    from photos import write_map
    from photos.files import make_folder, replacing

    blurred, sharp, map_ = files
    try:
        for file in files:
            make_folder(file.parent)
        for file, picture in ((blurred, capture.y), (sharp, capture.x)):
            codes = np.rint(255 * picture.permute(1, 2, 0).numpy()).astype(np.uint8)
            with replacing(file) as temporary:
                Image.fromarray(codes).save(temporary, format="PNG")
        write_map(map_, capture.radius_map[0].numpy())
    except BaseException:
        for file in files:
            with suppress(OSError):
                file.unlink()
        raise


def _parts(name: str) -> tuple[str, str, str]:
    return f"blurred/{name}.png", f"sharp/{name}.png", f"defocus_map/{name}.tif"


def _targets(arguments: argparse.Namespace) -> tuple[list[tuple[str, Path, tuple[int, int]]], list[str]]:
    """Name, photo and the numbers of photo and capture, which seed it, and what leads to no photo.

    Photos of one name are refused.
    """
    from samplers.batch import plan

    jobs, errors = plan(arguments.photos, arguments.output, with_report=False)
    photos: dict[str, Path] = {}
    for job in jobs:
        name = job.result.relative_to(arguments.output).with_suffix("").as_posix()
        if name in photos:
            raise ValueError(f"{job.photo}: expected a name of its own, got that of {photos[name]}")
        photos[name] = job.photo
    many = arguments.count > 1
    targets = [
        (f"{name}_{capture}" if many else name, photo, (number, capture))
        for number, (name, photo) in enumerate(photos.items())
        for capture in range(arguments.count)
    ]
    return targets, errors


def _capture(arguments: argparse.Namespace, file: Path, generator):  # noqa: ANN001, ANN202 - imported late
    """A `SimulatedCapture` of a photo."""
    import torch

    from optics.simulation import Simulator
    from photos import PhotoError, read

    whole = read(file).pixels
    photo = torch.from_numpy(_resized(whole, arguments.scale)).permute(2, 0, 1)
    if arguments.depth is not None:
        return _through_lens(arguments, _depth(arguments, file, whole.shape[:2]), photo, generator)
    simulator = Simulator(
        arguments.largest_radius or 8.0, matched=arguments.matched, outlined=float(arguments.outlined)
    )
    try:
        return simulator(photo, generator)
    except ValueError as error:
        raise PhotoError(f"{file}: {error}") from None


def _depth(arguments: argparse.Namespace, file: Path, size: tuple[int, int]):  # noqa: ANN202 - an array
    """Distances in metres, float64, of the photo's size (H, W) after it was shrunk; those of the whole photo before."""
    import numpy as np

    from optics.scenes import fill_unknown
    from photos import read_distances

    depth = read_distances(arguments.depth)
    shrunk = _shrunk(size, arguments.scale)
    if depth.shape not in (size, shrunk):
        also = "" if shrunk == size else f" (or {shrunk[1]} x {shrunk[0]}, its size by --scale)"
        raise ValueError(
            f"{arguments.depth}: expected distances of {size[1]} x {size[0]} pixels as {file} has{also}, "
            f"got {depth.shape[1]} x {depth.shape[0]}"
        )
    depth = fill_unknown(depth)
    if depth.shape != shrunk:
        depth = _resized(depth[..., None], arguments.scale, smooth=False)[..., 0]
    return depth.astype(np.float64) * (arguments.depth_unit or 1.0)


def _through_lens(arguments: argparse.Namespace, depth, photo, generator):  # noqa: ANN001, ANN202
    """A capture through a thin lens, from the photo (3, H, W) and its distances in metres (H, W)."""
    import numpy as np
    import torch

    from optics.scenes import depth_layers, thin_lens_radius
    from optics.simulation import SimulatedCapture, Simulator, compose, visible_radius

    signed = thin_lens_radius(
        depth, arguments.focus, arguments.focal_length * 1e-3, arguments.f_number, arguments.pixel_pitch * 1e-6
    )
    if np.abs(signed).max() > LARGEST_RADIUS:
        raise ValueError(
            f"{arguments.depth}: expected blur radii up to {LARGEST_RADIUS:g} pixels through this lens, "
            f"got {np.abs(signed).max():.1f}"
        )
    aperture, camera = Simulator(matched=arguments.matched).equipment(generator)
    layers = depth_layers(signed)
    sharp = photo.permute(1, 2, 0).double().numpy()
    y = camera.develop(compose(camera.light(sharp), layers, aperture), generator)
    x, y = (
        torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32)) for picture in (camera.in_focus(sharp), y)
    )
    radius = visible_radius(layers).astype(np.float32)
    return SimulatedCapture(y, x, torch.from_numpy(radius)[None], aperture, camera)


def _resized(pixels, scale: float, smooth: bool = True):  # noqa: ANN001, ANN202 - arrays, NumPy is imported late
    """Shrinks a picture (H, W, C): by averages, or, of distances, by choosing pixels."""
    import torch
    from torch.nn import functional as F

    if scale == 1:
        return pixels.copy()
    size = _shrunk(pixels.shape[:2], scale)
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    if smooth:
        picture = F.interpolate(picture, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    else:
        picture = F.interpolate(picture, size=size, mode="nearest-exact")
    return picture[0].permute(1, 2, 0).numpy()


def _shrunk(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return tuple(max(round(scale * side), 1) for side in size)


if __name__ == "__main__":
    run_command(main)
