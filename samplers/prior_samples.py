"""Draws photos from the prior alone, without a capture, to see what a score network believes.

    python samplers/prior_samples.py -o FILE.png [PHOTO ...] [--weights DIR]

FILE.png is a table of pictures. A row is an SDE with a sampler: VE or VP, by the predictor-corrector sampler or by the
probability-flow ODE (DPM-Solver++ of order 3), all of the same number of evaluations. Its first columns are drawn
from noise of the largest level that the network knows, where photos are nearly forgotten; then, for each PHOTO, what
is drawn from its low frequencies: the photo out of focus by --blur pixels, with noise of the level --sigma-photo,
which buries what the blur left of the details. Above these stand the photo and its low frequencies.
A network of small reach that was trained on patches knows textures, edges and colours, and no whole scenes.

exit codes:
  0  the table is written
  2  the command line or the weights cannot be used
  3  a photo cannot be read, or the table cannot be written or exists already (see --overwrite)
  5  a sampler's result is not finite
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# What is slow to import is imported where it is used: --help and usage errors answer at once.
from samplers.command_line import Parser, radius, report_error, seed
from samplers.exit_codes import FILE, NOT_FINITE, USAGE
from samplers.standard_streams import run_command

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from diffusion import SDE, ScoreNetwork

ROWS = (("ve", "predictor-corrector"), ("ve", "ode"), ("vp", "predictor-corrector"), ("vp", "ode"))
_GAP, _MARGIN = 4, 190  # pixels: between pictures, and for the names of the rows


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the table; returns the exit code."""
    arguments = _parsed(argv)

    import torch

    from diffusion import VESDE, VPSDE
    from photos import PhotoError
    from samplers.grids import check_known
    from samplers.weights import load_score_network

    if arguments.output.exists() and not arguments.overwrite:
        there = f"{arguments.output}: expected no such file yet, got one (--overwrite replaces it)"
        return report_error("prior_samples.py", there, FILE)
    try:
        network = load_score_network(arguments.weights)
        largest = network.config.sigma_max
        for option, level in (("--sigma-noise", arguments.sigma_noise), ("--sigma-photo", arguments.sigma_photo)):
            check_known(option, level or largest, largest)
    except ValueError as error:
        return report_error("prior_samples.py", error, USAGE)
    try:
        photos = [_middle(file, arguments.side) for file in arguments.photos]
        blurred = [_blurred(x, arguments.blur) for x in photos]
        rows = [[None] * arguments.count + starts for starts in (photos, blurred)]
        for sde, solver in ROWS:
            generator = torch.Generator().manual_seed(arguments.seed)
            options = (network, VESDE(sigma_max=largest) if sde == "ve" else VPSDE(), solver, arguments.steps)
            grey = [torch.zeros(3, arguments.side, arguments.side)] * arguments.count
            starts = [(grey, arguments.sigma_noise or largest), (blurred, arguments.sigma_photo)]
            rows.append([
                x for pictures, sigma in starts if pictures
                for x in draw(*options, torch.stack(pictures), sigma, generator)
            ])  # fmt: skip
        _write(arguments.output, rows if photos else rows[2:], bool(photos))
    except FloatingPointError as error:
        return report_error("prior_samples.py", error, NOT_FINITE)
    except PhotoError as error:
        return report_error("prior_samples.py", error, FILE)
    print(arguments.output)
    return 0


def draw(
    network: "ScoreNetwork", sde: "SDE", solver: str, evaluations: int, x: "Tensor", sigma: float,
    generator: "Generator",
) -> "Tensor":
    """Draws photos from the prior given what noise has left of other photos.

    Args:
        network: Estimates E[x_0 | x_0 + sigma z].
        sde: The diffusion whose reverse is integrated; it begins where its noise has the level sigma.
        solver: `predictor-corrector`, half of whose evaluations are corrections, or `ode`.
        evaluations: Network evaluations, odd and at least 5.
        x: Photos in [-1, 1] that are noised at the start, shape (B, 3, H, W); zeros know nothing.
        sigma: Noise level of the start, VE units.
        generator: Source of all noise.

    Returns:
        Photos in [-1, 1], shape (B, 3, H, W).

    Raises:
        FloatingPointError: If a value is undefined or infinite.
    """
    import torch

    from diffusion import ScoreDenoiser
    from samplers.correctors import LangevinCorrector
    from samplers.grids import karras_grid
    from samplers.ode_solvers import DPMSolver
    from samplers.predictor_corrector import PredictorCorrectorSampler, start_state

    if solver == "ode":
        sampler = DPMSolver(karras_grid(sigma, 0.01, evaluations), order=3)
    else:
        levels = karras_grid(sigma, 0.01, (evaluations + 1) // 2)
        sampler = PredictorCorrectorSampler(levels, corrector=LangevinCorrector())
    with torch.no_grad():
        start = start_state(sde, x, sampler.sigmas[0], generator)
        return sampler(ScoreDenoiser(network, sde), start, generator=generator).clamp(-1, 1)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="prior_samples.py", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="*", type=Path, metavar="PHOTO", help="photos whose low frequencies are started from")
    add("-o", "--output", type=Path, required=True, metavar="FILE.png", help="the table to write")
    add("--weights", default="weights/base", metavar="DIR", help="folder with a score_network/ (weights/base)")
    add("--count", type=int, default=4, metavar="N", help="columns that are drawn from noise (default: 4)")
    add("--side", type=int, default=128, metavar="N", help="side of a picture in pixels (default: 128)")
    add("--steps", type=int, default=79, metavar="N", help="network evaluations, odd (default: 79)")
    noisiest = "noise level where noise is the start (default: the network's largest)"
    add("--sigma-noise", type=float, metavar="S", help=noisiest)
    add("--sigma-photo", type=float, metavar="S", help="noise level on PHOTOs (default: 0.4)")
    add("--blur", type=radius, metavar="R", help="defocus of PHOTOs in pixels (default: 4)")
    add("--seed", type=seed, default=0, metavar="N", help="of all noise (default: 0)")
    add("--overwrite", action="store_true", help="replace an older table")
    arguments = parser.parse_args(argv)
    least = {"count": 0, "side": 16, "steps": 5}
    for name, bound in least.items():
        if getattr(arguments, name) < bound:
            parser.error(f"--{name}: expected at least {bound}, got {getattr(arguments, name)}")
    if arguments.steps % 2 == 0:
        parser.error(f"--steps: expected an odd number, so that steps and corrections pair up, got {arguments.steps}")
    if arguments.count == 0 and not arguments.photos:
        parser.error("--count: expected at least 1 where no PHOTO is given, got 0")
    if arguments.output.suffix.lower() != ".png":
        parser.error(f"--output: expected a name that ends in .png, got {arguments.output}")
    for name, default, used in (
        ("sigma_noise", None, arguments.count), ("sigma_photo", 0.4, arguments.photos), ("blur", 4.0, arguments.photos),
    ):  # fmt: skip
        option, value = f"--{name.replace('_', '-')}", getattr(arguments, name)
        if value is not None and not used:
            parser.error(f"{option}: expected only with {'--count' if name == 'sigma_noise' else 'a PHOTO'}, got none")
        setattr(arguments, name, default if value is None else value)
        if name != "blur" and value is not None and not 0.01 < value < float("inf"):
            parser.error(f"{option}: expected a finite level above 0.01, got {value:g}")
    if arguments.blur > arguments.side:
        parser.error(f"--blur: expected at most the side of a picture, {arguments.side}, got {arguments.blur:g}")
    return arguments


def _middle(file: Path, side: int) -> "Tensor":
    """The square in the middle of a photo, in [-1, 1], shape (3, side, side)."""
    import torch

    from photos import PhotoError, read

    pixels = read(file).pixels
    if min(pixels.shape[:2]) < side:
        height, width = pixels.shape[:2]
        raise PhotoError(f"{file}: expected a photo of at least {side} x {side} pixels, got {width} x {height}")
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return 2 * torch.from_numpy(pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1) - 1


def _blurred(x: "Tensor", radius: float) -> "Tensor":
    import torch

    from optics import DefocusOperator

    operator = DefocusOperator(torch.full((1, 1, *x.shape[1:]), radius))
    return operator(operator.extend(x[None]))[0]


def _write(file: Path, rows: list[list["Tensor | None"]], with_photos: bool) -> None:
    from PIL import Image, ImageDraw, ImageFont

    from photos.files import make_folder, replacing

    side = rows[-1][0].shape[-1]
    cell = side + _GAP
    sheet = Image.new("RGB", (_MARGIN + cell * len(rows[0]), cell * len(rows)), "white")
    text, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    names = ["photo", "its low frequencies"] if with_photos else []
    names += [f"{sde.upper()}, {'ODE' if solver == 'ode' else solver}" for sde, solver in ROWS]
    for row, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        text.text((6, row * cell + side // 2), name, "black", font, anchor="lm")
        for column, x in enumerate(pictures):
            if x is None:
                continue
            pixels = ((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (_MARGIN + column * cell, row * cell))
    make_folder(file.parent)
    with replacing(file) as temporary:
        sheet.save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    run_command(main)
