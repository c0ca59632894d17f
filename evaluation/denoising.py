"""Measures score networks as denoisers of Gaussian noise, which is what they are trained for.

    python evaluation/denoising.py PHOTOS -o DIR --weights weights/small,weights/base [--levels 15,30,50]

Every photo of the folder, in 8-bit sRGB, gets white Gaussian noise of each level, which is not clipped; the network
is told the level and sees the whole photo; its estimate is clipped and rounded to 8 bits. That is the protocol of
FFDNet and DRUNet for colour. PSNR is over pixels and channels, means are over photos, with 95 % bootstrap intervals;
infinite, null in the JSON, where a photo comes out exactly, as it may of faint noise.
The noise depends on seed, level and the photo's place alone: all networks see the same. A photo that cannot be read
is left out, and the exit code is 1.
Results are DIR/denoising.json and DIR/denoising.md; the table is printed.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion import ScoreNetwork

SCHEMA = 1
PROTOCOL = (
    "white Gaussian noise on 8-bit sRGB values, not clipped; estimate clipped and rounded to 8 bits; PSNR over RGB, "
    "whole photos"
)
SCORE_TENSORS = "score_network/diffusion_pytorch_model.safetensors"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = Parser(prog="evaluation/denoising.py", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="PHOTOS", help="folder of sharp photos, searched recursively")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results, replacing older")
    add("--weights", required=True, metavar="A,B", help="folders that hold a score_network/")
    add("--levels", default="15,30,50", metavar="A,B", help="standard deviations of the noise, of 255 (15,30,50)")
    add("--count", type=int, metavar="N", help="photos, the first by name (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="of the noise (default: 0)")
    arguments = parser.parse_args(argv)
    if arguments.count is not None and arguments.count < 1:
        parser.error(f"--count: expected at least 1, got {arguments.count}")
    if arguments.seed < 0:
        parser.error(f"--seed: expected 0 or more, got {arguments.seed}")
    try:
        levels = [float(text) for text in arguments.levels.split(",")]
        if not all(0 < level <= 255 for level in levels):
            raise ValueError
    except ValueError:
        parser.error(f"--levels: expected numbers above 0 and up to 255, as 15,30,50, got {arguments.levels}")
    # Only now the slow imports: --help and usage errors answer at once.
    from samplers.weights import WeightsError, load_score_network

    try:
        networks = {name: load_score_network(name) for name in arguments.weights.split(",")}
    except WeightsError as error:
        return report_error("evaluation/denoising.py", error, 2)
    try:
        results, code = _measure(arguments, levels, networks)
    except (ValueError, OSError) as error:
        return report_error("evaluation/denoising.py", error, 1)
    print(table(results))
    return code


def table(results: dict) -> str:
    """Markdown of results: a row for each network, a column for each noise level.

    Args:
        results: As written to `denoising.json`.
    """
    levels = results["settings"]["levels"]
    lines = [
        f"PSNR in dB of {results['settings']['photos']} photos, means with 95 % bootstrap intervals, by the standard "
        "deviation of the noise, of 255.", "",
        f"| network | parameters | {' | '.join(f'{level:g}' for level in levels)} | s a photo |",
        f"|---|---|{'---|' * len(levels)}---|",
    ]  # fmt: skip
    for network in results["networks"]:
        entries = [entry for entry in results["summary"] if entry["weights"] == network["weights"]]
        cells = [_cell(entry["mean"], entry["interval_95"]) for entry in entries]
        seconds = sum(entry["seconds"] for entry in entries) / len(entries)
        lines.append(
            f"| {network['weights']} | {network['parameters']:,} | {' | '.join(cells)} | {seconds:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _cell(mean: float | None, interval: tuple[float, float] | None) -> str:
    return "infinite" if mean is None else f"{mean:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def denoise(network: "ScoreNetwork", y: "Tensor", noise_std: float) -> "Tensor":
    """What a score network makes of a noisy photo, rounded to 8 bits.

    Args:
        network: Estimates E[x_0 | x_0 + sigma z] of photos in [-1, 1].
        y: Photo with noise, black 0 and white 1, not clipped, shape (1, 3, H, W).
        noise_std: Standard deviation of the noise, of full range.

    Returns:
        In [0, 1], shape (1, 3, H, W).
    """
    import torch

    with torch.no_grad():
        x = network(2 * y - 1, torch.tensor(2 * noise_std))
    return (((x + 1) / 2).clamp(0, 1) * 255).round() / 255


def _measure(
    arguments: argparse.Namespace, levels: list[float], networks: "dict[str, ScoreNetwork]"
) -> tuple[dict, int]:
    """Results and the exit code: a photo that cannot be read stops no other."""
    import numpy as np
    import torch

    from evaluation.metrics import bootstrap_interval, psnr
    from evaluation.output_folder import try_folder
    from evaluation.provenance import provenance
    from photos import PhotoError, find_photos, read
    from photos.files import replacing
    from samplers.weights import weights_folder

    files = find_photos(arguments.folder)[: arguments.count]
    rows, code = [], 0
    for index, file in enumerate(files):
        try:
            pixels = read(file).pixels
        except PhotoError as error:
            code = report_error("evaluation/denoising.py", error, 1)
            continue
        if not rows:
            try_folder(arguments.output, ("denoising.json", "denoising.md"))
        # Of photos of more bits what 8 bits hold.
        pixels = np.rint(pixels * 255).astype(np.float32) / np.float32(255)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        for level in levels:
            seeds = [arguments.seed, index, round(1000 * level)]
            noise = np.random.default_rng(seeds).standard_normal(x.shape, dtype=np.float32)
            y = x + level / 255 * torch.from_numpy(noise)
            for name, network in networks.items():
                start = time.perf_counter()
                restored = denoise(network, y, level / 255)
                seconds = time.perf_counter() - start
                decibels = psnr(restored, x)
                row = {
                    "photo": file.name, "level": level, "weights": name,
                    # Of a photo that is restored exactly it is infinite, which is no figure.
                    "psnr": decibels if math.isfinite(decibels) else None, "seconds": seconds,
                }  # fmt: skip
                rows.append(row)
        print(file.name, file=sys.stderr)
    if not rows:
        raise ValueError(f"{arguments.folder}: expected photos that can be read, got none")
    summary = []
    for name in networks:
        for level in levels:
            values, seconds = zip(
                *((row["psnr"], row["seconds"]) for row in rows if (row["weights"], row["level"]) == (name, level)),
                strict=True,
            )
            entry = {"weights": name, "level": level, "mean": None, "interval_95": None}
            if None not in values:
                entry |= {"mean": float(np.mean(values)), "interval_95": bootstrap_interval(values)}
            summary.append({**entry, "seconds": float(np.mean(seconds))})
    found = provenance(None, torch.device("cpu"))
    del found["weights_sha256"]
    about = [
        {
            "weights": name, "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "sha256": provenance(weights_folder(name), torch.device("cpu"))["weights_sha256"][SCORE_TENSORS],
        } for name, network in networks.items()
    ]  # fmt: skip
    results = {
        "schema_version": SCHEMA, "protocol": PROTOCOL,
        "settings": {
            "folder": str(arguments.folder), "photos": len(rows) // (len(levels) * len(networks)),
            "levels": levels, "seed": arguments.seed,
        }, **found, "networks": about, "summary": summary, "rows": rows,
    }  # fmt: skip
    for kind, text in (("json", json.dumps(results, indent=1, allow_nan=False)), ("md", table(results))):
        with replacing(arguments.output / f"denoising.{kind}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    return results, code


if __name__ == "__main__":
    run_command(main)
