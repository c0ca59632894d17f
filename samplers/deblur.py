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
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

# What is slow to import is imported where it is used: --help and usage errors answer at once.
from photos import PHOTO_SUFFIXES
from samplers.command_line import Parser, grid, noise_std, radius, samples, seed, share, value_range
from samplers.exit_codes import INTERRUPTED, USAGE

METHODS = ("score", "swin-diff", "tv", "tv-bank")
PRESETS = ("fast", "balanced", "best")
PSFS = ("auto", "disk", "disk-gaussian", "gaussian")
MAP_ESTIMATORS = ("fused", "learned", "evidence", "edges")
LARGEST_RADIUS = 100.0


class UsageError(ValueError):
    """The options do not fit together; the message is for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and restores the photos; returns the exit code."""
    arguments = _parser().parse_intermixed_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")  # Names of files need not be text.
    if arguments.show_parameters:
        from samplers.record import print_parameters

        return print_parameters(arguments.photos, _report)
    if arguments.output is None:
        return _report("expected -o DIR, the folder of the results, got none (see --help)", USAGE)
    photos = [token for token in arguments.photos if not _is_override(token)]
    overrides = [token for token in arguments.photos if _is_override(token)]
    from samplers.batch import CollisionError, plan
    from samplers.batch_run import stoppable
    from samplers.weights import WeightsError

    try:
        _check_combination(arguments, photos, overrides)
        jobs, errors = plan(
            photos, arguments.output, with_report=not arguments.no_report,
            with_confidence=arguments.defocus_map is None, samples=arguments.samples or 0,
            with_trajectory=arguments.trajectory,
        )  # fmt: skip
        with stoppable():
            return _restore_all(arguments, overrides, jobs, errors)
    except (UsageError, CollisionError, WeightsError) as error:
        return _report(error, USAGE)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED)


def _parser() -> Parser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="deblur.py", description=__doc__, formatter_class=layout, allow_abbrev=False)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="photos or folders of photos, and key=value pairs")
    add("-o", "--output", metavar="DIR", help="folder of the results; made if needed")
    add("--method", choices=METHODS, default="score", help="diffusion sampler, latent prior, or total variation")
    add("--weights", metavar="DIR", help="folder of a saved pipeline (default: weights/small)")
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
    add("--light", choices=("auto", "srgb", "linear"), default="auto", help="what the blur mixes (default: auto)")
    add("--range", type=value_range, metavar="LOW,HIGH", help="stored values of black and white, or auto")
    add("--strip-metadata", action="store_true", help="write no metadata but the colour profile")
    add("--samples", type=samples, metavar="N", help="draw N samples: their mean, spread, and each of them as files")
    add("--trajectory", action="store_true", help="write the reverse process as animation and plot")
    add("--seed", type=seed, default=0, metavar="N", help="of the sampler's noise (default: 0)")
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


def _check_combination(arguments: argparse.Namespace, photos: list[str], overrides: list[str]) -> None:
    if not photos:
        raise UsageError("expected at least one photo or folder, got none")
    if arguments.map_estimator is not None and arguments.defocus_map is not None:
        raise UsageError("--map-estimator: expected only without --defocus-map, which is used as it is")
    if arguments.psf not in PSFS and not arguments.psf.endswith(".npy"):
        raise UsageError(f"--psf: expected {', '.join(PSFS)} or a NumPy file of PSFs, got {arguments.psf}")
    if arguments.psf_grid is not None and arguments.psf in PSFS:
        raise UsageError(f"--psf-grid: expected only with a file of measured PSFs, got --psf {arguments.psf}")
    if arguments.method == "tv-bank" and arguments.psf not in PSFS:
        raise UsageError(f"--psf: expected {', '.join(PSFS)} with --method tv-bank, got {arguments.psf}")
    if arguments.method != "score":
        got = f"expected {{}} with --method score, got --method {arguments.method}"
        alone = ("preset", "map_estimator", "latent_prior", "samples", "trajectory")
        alone += ("defocus_map",) if arguments.method == "swin-diff" else ("weights", "tile")
        for name in alone:
            if getattr(arguments, name) not in (None, False):
                raise UsageError(f"--{name.replace('_', '-')}: {got.format('only')}")
        if arguments.method == "swin-diff":
            for name in ("psf", "light"):
                if getattr(arguments, name) != "auto":
                    raise UsageError(f"--{name} {getattr(arguments, name)}: {got.format('only')}")
        if arguments.tile is not None and arguments.tile < 32:
            raise UsageError(f"--tile: expected at least 32, got {arguments.tile}")
        if overrides:
            raise UsageError(f"{overrides[0]}: {got.format('settings only')}")
        if arguments.light == "linear":
            raise UsageError(f"--light linear: {got.format('only')}")


def _restore_all(arguments: argparse.Namespace, overrides: list[str], jobs: list, errors: list[str]) -> int:
    from samplers.batch_run import BatchRun
    from samplers.record import Record

    total = len(jobs) + len(errors)
    for option, given in (("--defocus-map", arguments.defocus_map), ("--mask", arguments.mask)):
        if given is not None and total != 1:
            raise UsageError(f"{option}: expected one photo, got {total}")
    record = Record(_parser(), arguments, overrides)
    run = BatchRun(
        jobs, Path(arguments.output), record, overwrite=arguments.overwrite, resume=arguments.resume,
        quiet=arguments.quiet, report=_report,
    )  # fmt: skip
    if arguments.dry_run:
        return _restore_ready(arguments, overrides, jobs, run) if jobs else run.code
    for error in errors:
        run.lose(error)
    ready = run.left()
    try:
        if ready:
            _restore_ready(arguments, overrides, ready, run)
    finally:
        run.close()
    return run.code


def _restore_ready(arguments: argparse.Namespace, overrides: list[str], jobs: list, run: object) -> int:
    """Restores photo after photo, or says what that would cost; returns the exit code of all."""
    from photos import PhotoError, read_map, read_mask
    from samplers.config import ConfigError
    from samplers.dry_run import print_estimates
    from samplers.one_photo import FileOptions, restore_file
    from samplers.wishes import Wishes

    try:
        radius_map = None if arguments.defocus_map is None else read_map(arguments.defocus_map)
        if radius_map is not None and radius_map.max() > LARGEST_RADIUS:
            raise UsageError(
                f"{arguments.defocus_map}: expected radii up to {LARGEST_RADIUS:g} pixels, got {radius_map.max():g}"
            )
        mask = None if arguments.mask is None else read_mask(arguments.mask)
        wishes = Wishes(mask, arguments.max_radius, arguments.strength)
        method, device, facts = _method(arguments, overrides)
        facts |= _kept(arguments)
    except (ConfigError, PhotoError) as error:
        raise UsageError(str(error)) from None

    if arguments.dry_run:
        return print_estimates(jobs, method, device, arguments.range)
    options = FileOptions(
        arguments.range, keep_metadata=not arguments.strip_metadata,
        profile_light=arguments.method == "score" and arguments.light != "srgb", record=run.record,
    )  # fmt: skip

    def restore(job: object, label: str | None, check: object) -> dict:
        told = wishes if arguments.quiet else replace(wishes, warn=partial(_warn, job))
        return restore_file(job, method, device, radius_map, facts, label, told, options, check)

    run.restore(jobs, restore, {"map": arguments.defocus_map, "mask": arguments.mask})
    return run.code


def _kept(arguments: argparse.Namespace) -> dict[str, str | float]:
    """What the report says of what was to stay as it was."""
    kept = {"largest radius restored": arguments.max_radius, "mask": arguments.mask}
    facts = {name: value for name, value in kept.items() if value is not None}
    return facts if arguments.strength == 1 else facts | {"share of the restoration": arguments.strength}


def _method(arguments: argparse.Namespace, overrides: list[str]) -> tuple:
    """The method, its device, and what the report says of it."""
    from dataclasses import asdict

    from samplers.config import load_config
    from samplers.map_estimators import best_estimator
    from samplers.pipeline import DefocusDeblurPipeline
    from samplers.posterior_samples import SamplesMethod
    from samplers.restoring import ScoreMethod, SwinDiffMethod, TVBankMethod, TVMethod
    from samplers.settings import SamplerSettings, preset_file
    from samplers.weights import load_latent_prior

    lens, noise_std = _lens(arguments), arguments.noise_std
    facts = {"method": arguments.method, "psf": arguments.psf, "light": arguments.light}
    if arguments.method == "swin-diff":
        weights, device = arguments.weights or "weights/small", _device(arguments.device)
        network = load_latent_prior(weights).to(device)
        facts = {"method": arguments.method, "weights": weights, "seed": arguments.seed}
        method = SwinDiffMethod(network, tile=arguments.tile or 1024, noise_std=noise_std, seed=arguments.seed)
        return method, device, facts
    if arguments.method != "score":
        classical = {"tv": TVMethod, "tv-bank": TVBankMethod}[arguments.method]
        return classical(lens=lens, noise_std=noise_std), _device(arguments.device), facts

    preset, weights = arguments.preset or "balanced", arguments.weights or "weights/small"
    tile = [] if arguments.tile is None else [f"tile={arguments.tile}"]
    output = [] if arguments.samples is None else ["output=sample"]
    prior = [] if arguments.latent_prior is None else [f"latent_prior={arguments.latent_prior}"]
    settings = load_config(SamplerSettings, preset_file(preset), [*output, *overrides, *tile, *prior])
    if arguments.samples is not None and settings.output != "sample":
        raise UsageError(f"--samples {arguments.samples}: expected output=sample, got output={settings.output}")
    device = _device(arguments.device)
    pipeline = DefocusDeblurPipeline.from_pretrained(weights).to(device)
    if settings.latent_prior == "on" and pipeline.latent_prior is None:
        raise UsageError(f"--latent-prior on: expected weights with a latent_prior, got {weights} without")
    try:
        settings.check(pipeline.sde, "linear" if arguments.light == "linear" else "srgb")
    except ValueError as error:
        raise UsageError(str(error)) from None
    estimator = arguments.map_estimator or best_estimator(pipeline.defocus_map)
    if estimator in ("fused", "learned") and pipeline.defocus_map is None:
        raise UsageError(f"--map-estimator {estimator}: expected weights with a defocus_map, got {weights} without")
    if arguments.defocus_map is None:
        facts["map estimator"] = estimator
    facts |= {"weights": weights, "preset": preset, "seed": arguments.seed, **asdict(settings)}
    method = ScoreMethod(
        pipeline, settings, lens=lens, noise_std=noise_std, seed=arguments.seed, map_estimator=estimator
    )
    if arguments.samples is not None:
        facts["samples"] = arguments.samples
        method = SamplesMethod(method, arguments.samples)
    return method, device, facts


def _lens(arguments: argparse.Namespace) -> object:
    from dataclasses import replace

    from optics import DISK, PSF_SOFTNESS, UnknownLens, read_measured_psf

    psf = None
    if arguments.psf not in PSFS:
        try:
            psf = read_measured_psf(arguments.psf, arguments.psf_grid)
        except ValueError as error:
            raise UsageError(f"--psf: {error}") from None
    softness = PSF_SOFTNESS.get(arguments.psf)
    if arguments.method == "score":
        return UnknownLens(softness, psf, None if arguments.light == "auto" else arguments.light)
    # The classical methods blur code values, by disks where nothing else is said.
    return replace(DISK, softness=softness or 0.0, psf=psf)


def _device(name: str) -> object:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"--device {name}: expected a device of this machine, got an error: {reason}") from None


def _warn(job: object, text: str) -> None:
    print(f"deblur.py: warning: {job.photo}: {text}", file=sys.stderr)


def _report(error: object, code: int) -> int:
    """Prints one line and returns the code."""
    print(f"deblur.py: {' '.join(str(error).splitlines())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
