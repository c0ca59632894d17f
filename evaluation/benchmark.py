"""Measures restoration methods on captures with references.

    python evaluation/benchmark.py configs/benchmark/simulated.yaml data.root=SHARP_PHOTOS out=results
    python evaluation/benchmark.py configs/benchmark/real.yaml data.root=SETS out=results

Settings are those of `evaluation/settings.py`: a YAML file of differences and any number of key=value
overrides, such as methods=[input,tv,score]. The folder `out` then holds results.json, with every
picture's figures and what they were computed with, and results.md, the means as a table.
"""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation/benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="YAML file of settings, as in configs/benchmark/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file")
    arguments = parser.parse_args(argv)
    file, overrides = arguments.config, list(arguments.overrides)
    if file is not None and "=" in file:
        file, overrides = None, [file, *overrides]

    # Only now the slow imports: --help and usage errors answer at once.
    from evaluation.settings import BenchmarkConfig
    from samplers.config import ConfigError, load_config

    try:
        measure(load_config(BenchmarkConfig, file, overrides))
    except ConfigError as error:
        print(f"evaluation/benchmark.py: {error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"evaluation/benchmark.py: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config) -> dict:
    """Runs every method on every capture, writes the results to `out` and returns them."""
    import time
    from dataclasses import asdict
    from pathlib import Path

    import torch
    from tqdm import tqdm

    from evaluation.methods import METHODS
    from evaluation.metrics import LPIPS
    from evaluation.results import SCHEMA_VERSION, peak_memory, provenance, summarise, table, write_results
    from samplers.weights import weights_folder

    out = Path(config.out)
    if (out / "results.json").exists() and not config.overwrite:
        raise ValueError(f"{out / 'results.json'} exists; give overwrite=true to replace it")
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    weights = weights_folder(config.weights) if any(name.startswith("score") for name in config.methods) else None
    lpips = LPIPS("squeeze", config.lpips)
    if lpips.reason:
        print(f"LPIPS is not measured: {lpips.reason}", file=sys.stderr)
    methods = {name: METHODS[name](config, device) for name in config.methods}

    # At the start: the project may change while a long benchmark runs.
    origin = provenance(weights, device)
    rows, pictures = [], 0
    progress = tqdm(_captures(config.data), total=_total(config.data), unit="picture")
    for name, set_name, group, x, y, true_map, mask in progress:
        pictures += 1
        before = _score(y, x, mask, lpips)
        for method, restore in methods.items():
            for source in config.maps if method != "input" else (None,):
                generator = torch.Generator().manual_seed(config.seed)
                given = true_map.to(device) if source == "true" else None
                start = time.perf_counter()
                restored = restore(y.to(device), given, generator)
                image = restored.image.cpu()
                seconds = time.perf_counter() - start
                image = (255 * image).round() / 255
                rows.append(
                    {
                        "name": name, "set": set_name, "group": group, "method": method, "map": source,
                        "counted": mask is None or float(mask.float().mean()) >= 0.05,
                        **_score(image, x, mask, lpips),
                        "seconds": seconds, "evaluations": restored.evaluations, "input": before,
                    }
                )  # fmt: skip
                if config.save_pictures:
                    folder = out / "pictures" / (f"{method}-{source}-map" if source else method) / group
                    _save_strip(folder / f"{name}.png", y, image, x, restored.radius_map)

    results = {
        "schema_version": SCHEMA_VERSION,
        "protocol": _protocol(config),
        "settings": asdict(config),
        "seed": config.seed,
        **origin,
        "lpips": {"net": lpips.net, "reason": lpips.reason},
        "peak_memory": peak_memory(device),
        "pictures": pictures,
        "summary": summarise(rows),
        "rows": rows,
    }
    write_results(out, results)
    print(table(results))
    return results


def _captures(data):
    """Yields name, set, group, reference, capture, true map or None, mask or None."""
    from pathlib import Path

    from evaluation.paired import paired_captures
    from evaluation.simulated import protocol_captures

    if data.protocol == "simulated":
        for capture in protocol_captures(data.root, data.count, data.stride):
            name = Path(data.root).resolve().name
            yield capture.name, name, capture.map_name, capture.x, capture.y, capture.radius_map, None
    else:
        for capture in paired_captures(data.root, data.count):
            yield capture.name, capture.set_name, capture.set_name, capture.x, capture.y, None, capture.mask


def _total(data) -> int | None:
    from evaluation.simulated import RADIUS_MAPS
    from photos import find_photos

    if data.protocol != "simulated":
        return None
    return len(RADIUS_MAPS) * len(find_photos(data.root)[:: data.stride][: data.count])


def _score(image, x, mask, lpips) -> dict[str, float | None]:
    """Every metric; inside a mask if there is one. PSNR is None for equal pictures."""
    import math

    import torch

    from evaluation.metrics import mae, psnr, ssim

    share = 1.0
    if mask is not None:
        # Outside the mask the reference stands in both pictures: no error, spread over fewer pixels.
        image = torch.where(mask, image, x)
        share = float(mask.float().mean())
    decibels = psnr(image, x) + (10 * math.log10(share) if share > 0 else 0)
    return {
        "psnr": decibels if math.isfinite(decibels) else None,
        "ssim": ssim(image, x),
        "lpips": lpips(image, x),
        "mae": mae(image, x) / share if share > 0 else None,
    }


def _protocol(config) -> dict[str, object]:
    """What was measured, in words and numbers."""
    from evaluation.simulated import CROP, NOISE_STD, RADIUS_MAPS

    scoring = (
        "Restored pictures are rounded to 8 bits. PSNR over all pixels and channels of [0, 1] sRGB values; SSIM with "
        "a Gaussian window of 11 pixels and std 1.5, K1 0.01, K2 0.03, population covariance, mean over channels; "
        "LPIPS of SqueezeNet on [-1, 1]."
    )
    which = f"the first {config.data.count}" if config.data.count else "all"
    if config.data.stride > 1:
        which += f" of every {config.data.stride}th"
    if config.data.protocol == "simulated":
        description = (
            f"Simulated defocus of sharp photos, {which} by name: {CROP} x {CROP} centre crops, "
            "each pixel blurred by a disk of its own radius, 16x supersampled, sRGB values as stored; noise std "
            f"{NOISE_STD}, 8 bits. Radius maps: {', '.join(RADIUS_MAPS)} (see evaluation/simulated.py)."
        )
        numbers = {"crop": CROP, "noise_std": NOISE_STD, "radius_maps": list(RADIUS_MAPS)}
    else:
        description = (
            f"Real captures with references, {which} by name in each set, whole pictures, no true map. Where a set has "
            "a mask: PSNR and MAE inside it, SSIM and LPIPS with the reference outside it in both pictures; masks "
            "under 5 % do not count."
        )
        numbers = {"smallest_mask": 0.05}
    return {
        "name": config.data.protocol,
        "description": f"{description} {scoring}",
        "count": config.data.count,
        "stride": config.data.stride,
        "bits": 8,
        **numbers,
    }


def _save_strip(file, y, image, x, radius_map) -> None:
    """Saves input, restored picture, reference and map (black 0, white its largest radius) side by side."""
    import torch
    from PIL import Image

    parts = [y, image, x]
    if radius_map is not None:
        radius_map = radius_map.cpu()
        parts.append((radius_map / radius_map.max().clamp_min(1e-6)).expand(-1, 3, -1, -1))
    strip = (255 * torch.cat(parts, 3)[0]).round().byte().permute(1, 2, 0).numpy()
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(strip).save(file)


if __name__ == "__main__":
    sys.exit(main())
