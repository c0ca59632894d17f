"""Makes defocused photos sharper.

    python samplers/deblur.py PHOTO... -o DIR [key=value ...]

PHOTO is a JPEG, PNG, TIFF, WebP, AVIF, HEIC or raw file, or a folder of them, whose tree is kept below
DIR; raw photos become NAME.SUFFIX.tif. Each photo gives
a photo of the same name, format, size and bit depth, its defocus map NAME.SUFFIX_defocus.tif (blur radii in
pixels, float32; edit it and feed it back with --defocus-map), how far an estimated map can be trusted
NAME.SUFFIX_confidence.tif (0 to 1, float32), and to look at NAME.SUFFIX_overlay.png (the radii in colours) and
NAME.SUFFIX_report.html (before and after). --samples and --trajectory write more beside them.
Blur that is meant to be can stay: --max-radius, --mask and --strength. Pixels kept so have the photo's own values.
key=value pairs override the preset, as in steps=10 corrector=false. The paths of the files that were
written go to the standard output, progress and errors to the standard error. Several photos give a
table there at the end, and DIR/summary.json.

A result holds what reproduces it: deblur.py --show-parameters RESULT prints the command. The command of a
batch that was interrupted, with --resume added, goes on where it stopped; several processes may share it.
A launcher of processes, such as accelerate launch, in place of python shares a batch among GPUs (docs/files.md).

exit codes:
  0  all photos are done
  1  the photo failed for a reason without a number of its own
  2  the command line, a setting, the weights, the given map or the mask cannot be used
  3  the photo cannot be read, or its results cannot be written or exist already
  4  memory does not suffice, even with the smallest tiles
  5  the result is not finite
  6  several photos were given and not all are done
  130  interrupted; what was finished stays
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

# What is slow to import is imported where it is used: --help and usage errors answer at once.
from photos import PHOTO_SUFFIXES
from samplers.chosen_method import MAP_ESTIMATORS, METHODS, PRESETS, PSFS, MethodChoice, UsageError, make_method
from samplers.command_line import Parser, grid, noise_std, radius, report_error, samples, seed, share, value_range
from samplers.exit_codes import FILE, INTERRUPTED, USAGE
from samplers.launch import Launch
from samplers.standard_streams import run_command

_report = partial(report_error, "deblur.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and restores the photos; returns the exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED)


def _main(argv: Sequence[str] | None) -> int:
    launch = Launch.of()
    arguments = _parsed(argv, launch)
    if launch.rank and (arguments.show_parameters or arguments.dry_run):
        return 0  # One process says it for all.
    if arguments.show_parameters:
        from samplers.record import print_parameters

        return print_parameters(arguments.photos, _report)
    if arguments.output is None:
        return _report_first(launch, "expected -o DIR, the folder of the results, got none (see --help)", USAGE)
    photos = [token for token in arguments.photos if not _is_override(token)]
    overrides = [token for token in arguments.photos if _is_override(token)]
    from photos import PhotoError
    from samplers.batch import CollisionError, plan
    from samplers.batch_run import stoppable
    from samplers.weights import WeightsError

    try:
        if not photos:
            raise UsageError("expected at least one photo or folder, got none")
        choice = _choice(arguments, overrides)
        choice.check()
        jobs, errors = plan(
            photos, arguments.output, with_report=not arguments.no_report,
            with_confidence=arguments.defocus_map is None, samples=arguments.samples or 0,
            with_trajectory=arguments.trajectory,
        )  # fmt: skip
        with stoppable(once=not launch.alone):
            return _restore_all(arguments, choice, jobs, errors, launch)
    except (UsageError, CollisionError, WeightsError) as error:
        return _report_first(launch, error, USAGE)
    except PhotoError as error:
        return _report_first(launch, error, FILE)


def command_parser() -> Parser:
    """The options, their defaults and their help."""
    parser = Parser(prog="deblur.py", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="photos or folders of photos, and key=value pairs")
    add("-o", "--output", metavar="DIR", help="folder of the results; made if needed")
    add("--method", choices=METHODS, default="score", help="diffusion sampler, latent prior, or total variation")
    add("--weights", metavar="DIR", help="folder of a saved pipeline (default: weights/base)")
    add("--preset", choices=PRESETS, help="settings in configs/deblur/ (default: balanced)")
    add("--defocus-map", metavar="FILE", help="blur radii in pixels for one photo (TIFF, PNG or .npy)")
    add("--map-estimator", choices=MAP_ESTIMATORS, help="how radii are estimated (default: the best in the weights)")
    add("--max-radius", type=radius, metavar="R", help="leave alone what is blurred by R pixels and more")
    add("--mask", metavar="FILE", help="picture of one photo's size: white is restored, black is kept, grey in part")
    mixing = "share of the restoration in the result, 0 to 1 (default: 1); the setting strength= is another thing"
    add("--strength", type=share, default=1.0, metavar="X", help=mixing)
    add("--latent-prior", choices=("on", "off"), help="whether it starts and guides (default: where weights have one)")
    add("--psf", default="auto", metavar="NAME|FILE", help=f"blur: {', '.join(PSFS)}, or measured (default: auto)")
    add("--psf-grid", type=grid, metavar="RxC", help="rows and columns of a FILE.npy of K PSFs, row by row")
    add("--noise-std", type=noise_std, metavar="X", help="noise of the photo, of full range (default: estimated)")
    light = "what the blur mixes (default: auto; by tv and tv-bank srgb, which is all they take)"
    add("--light", choices=("auto", "srgb", "linear"), default="auto", help=light)
    add("--range", type=value_range, metavar="LOW,HIGH", help="stored values of black and white, or auto")
    add("--strip-metadata", action="store_true", help="write no metadata but the colour profile")
    add("--samples", type=samples, metavar="N", help="draw N samples: their mean, spread, and each of them as files")
    add("--trajectory", action="store_true", help="write the reverse process as animation and plot")
    add("--seed", type=seed, metavar="N", help="of the sampler's noise (default: 0)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 ... (default: auto)")
    add("--tile", type=int, metavar="N", help="side of the network's tiles in pixels; less needs less memory")
    add("--resume", action="store_true", help="keep results of the same photos by the same parameters")
    add("--dry-run", action="store_true", help="write nothing; say what the photos would cost, from a probe")
    add("--show-parameters", action="store_true", help="print the command that made a result, from the result")
    add("--overwrite", action="store_true", help="replace existing results")
    add("--no-report", action="store_true", help="write neither report nor overlay")
    add("--quiet", action="store_true", help="no progress, errors only")
    return parser


def _is_override(token: str) -> bool:
    """Whether a token assigns to a setting; existing files and names of photos do not, whatever they contain."""
    looks_so = re.match(r"[A-Za-z_][\w.]*=", token) is not None
    return looks_so and Path(token).suffix.lower() not in PHOTO_SUFFIXES and not Path(token).exists()


def _choice(arguments: argparse.Namespace, overrides: list[str]) -> MethodChoice:
    """What the options say of the method."""
    shared = {field.name for field in fields(MethodChoice)} & vars(arguments).keys()
    options = {name: getattr(arguments, name) for name in shared}
    return MethodChoice(**options, overrides=tuple(overrides), map_given=arguments.defocus_map is not None)


def _restore_all(
    arguments: argparse.Namespace, choice: MethodChoice, jobs: list, errors: list[str], launch: Launch
) -> int:
    from samplers.batch_run import BatchRun
    from samplers.record import Record
    from samplers.shared_run import SharedRun

    total = len(jobs) + len(errors)
    for option, given in (("--defocus-map", arguments.defocus_map), ("--mask", arguments.mask)):
        if given is not None and total != 1:
            raise UsageError(f"{option}: expected one photo, got {total}")
    arguments.seed = arguments.seed or None  # The default, said or not.
    record = Record(command_parser(), arguments, choice.overrides)
    run = (BatchRun if launch.alone or arguments.dry_run else partial(SharedRun, launch))(
        jobs, Path(arguments.output), record, overwrite=arguments.overwrite, resume=arguments.resume,
        quiet=arguments.quiet, report=_report,
    )  # fmt: skip
    # Without a summary of what was not done.
    with nullcontext() if arguments.dry_run else run:
        for error in errors:
            run.lose(error)
        if ready := jobs if arguments.dry_run else run.left():
            _restore_ready(arguments, choice, ready, run)
    return run.code


def _restore_ready(arguments: argparse.Namespace, choice: MethodChoice, jobs: list, run: object) -> None:
    """Restores photo after photo, or says what that would cost."""
    from optics import MAX_RADIUS
    from photos import PhotoError, read_map, read_mask
    from samplers.config import ConfigError
    from samplers.dry_run import print_estimates
    from samplers.one_photo import FileOptions, restore_file
    from samplers.wishes import Wishes, facts_of_wishes

    try:
        radius_map = None if arguments.defocus_map is None else read_map(arguments.defocus_map)
        if radius_map is not None and radius_map.max() > MAX_RADIUS:
            raise UsageError(
                f"{arguments.defocus_map}: expected radii up to {MAX_RADIUS:g} pixels, got {radius_map.max():g}"
            )
        mask = None if arguments.mask is None else read_mask(arguments.mask)
        wishes = Wishes(mask, arguments.max_radius, arguments.strength)
        method, device, facts = make_method(choice)
        facts |= facts_of_wishes(arguments.mask, arguments.max_radius, arguments.strength)
    except (ConfigError, PhotoError) as error:
        raise UsageError(str(error)) from None

    given = {"map": arguments.defocus_map, "mask": arguments.mask}
    if arguments.dry_run:
        return print_estimates(jobs, method, device, arguments.range, run, radius_map, wishes, given)
    options = FileOptions(
        arguments.range, keep_metadata=not arguments.strip_metadata,
        profile_light=choice.profile_light, record=run.record,
    )  # fmt: skip

    def restore(job: object, label: str | None, check: object) -> dict:
        told = wishes if arguments.quiet else replace(wishes, warn=partial(_warn, job))
        return restore_file(job, method, device, radius_map, facts, label, told, options, check)

    run.restore(jobs, restore, given)


def _warn(job: object, text: str) -> None:
    print(f"deblur.py: warning: {job.photo}: {text}", file=sys.stderr)


def _parsed(argv: Sequence[str] | None, launch: Launch) -> argparse.Namespace:
    """The command line, of which the first process alone speaks."""
    argv = _plain(sys.argv[1:] if argv is None else argv)
    if launch.rank == 0:
        return command_parser().parse_intermixed_args(argv)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return command_parser().parse_intermixed_args(argv)
    except SystemExit as end:
        if end.code:
            launch.let_the_first_speak()
        raise


def _plain(argv: Sequence[str]) -> list[str]:
    """Words that argparse would misread: a range that begins with a minus, and names after `--`."""
    words = list(argv)
    if "--" in words:
        end = words.index("--")
        words[end:] = [f"./{word}" if word.startswith("-") else word for word in words[end + 1 :]]
    for index in reversed(range(len(words) - 1)):
        if words[index] == "--range" and re.match(r"-[\d.]", words[index + 1]):
            words[index : index + 2] = [f"--range={words[index + 1]}"]
    return words


def _report_first(launch: Launch, error: object, code: int) -> int:
    """Prints what every process finds out, once, and returns the code."""
    if launch.rank == 0:
        return _report(error, code)
    launch.let_the_first_speak()
    return code


if __name__ == "__main__":
    run_command(main)
