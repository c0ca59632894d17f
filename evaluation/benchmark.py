"""Measures restoration methods on captures with references.

    python evaluation/benchmark.py configs/benchmark/simulated.yaml data.root=SHARP_PHOTOS out=results/simulated
    python evaluation/benchmark.py configs/benchmark/real.yaml data.root=SETS out=results/real
    python evaluation/benchmark.py configs/benchmark/smoke.yaml out=results/smoke

Settings are those of `evaluation/settings.py`: a YAML file of differences and any number of key=value
overrides, such as methods=[input,tv,score,folder:PATH]. The folder `out` then holds results.json, with
every picture's figures and what they were computed with, results.md, the means as tables, report.html and
contact sheets. The same command goes on with a run that was interrupted, and measures anew what was made from
files that have changed since; `accelerate launch --multi_gpu` or `torchrun --nproc_per_node N` in place of `python`
splits the pictures over processes.
"""

import sys
from collections.abc import Sequence
from datetime import timedelta

from samplers.command_line import Parser, report_error
from samplers.exit_codes import INTERRUPTED
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; returns the exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        message = "interrupted; the same command, without overwrite=true, goes on"
        return report_error("evaluation/benchmark.py", message, INTERRUPTED)


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="evaluation/benchmark.py", description=__doc__)
    parser.add_argument("config", nargs="?", help="YAML file of settings, as in configs/benchmark/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file")
    arguments = parser.parse_intermixed_args(argv)

    # Only now the slow imports: --help and usage errors answer at once.
    from evaluation.settings import BenchmarkConfig
    from samplers.batch_run import stoppable
    from samplers.config import ConfigError, file_and_overrides, load_config

    try:
        with stoppable():
            run(load_config(BenchmarkConfig, *file_and_overrides([arguments.config, *arguments.overrides])))
    except ConfigError as error:
        return report_error("evaluation/benchmark.py", error, 2)
    except (ValueError, OSError) as error:
        return report_error("evaluation/benchmark.py", error, 1)
    return 0


def run(config) -> dict | None:  # noqa: ANN001 - BenchmarkConfig, imported late
    """Measures what is not measured yet and writes the results; None in all processes but the first."""
    import os
    from dataclasses import asdict
    from pathlib import Path

    import torch

    from evaluation.contact_sheets import write_contact_sheets
    from evaluation.html_report import write_html_report
    from evaluation.methods import MethodUnavailable, column, make_method
    from evaluation.provenance import provenance
    from evaluation.results import SCHEMA_VERSION, summarise, table, write_results
    from evaluation.run_folder import RunFolder, row_key
    from evaluation.scoring import METRICS, Scoring
    from evaluation.sources import protocol, sources
    from samplers.claims import claimed
    from samplers.config import ConfigError
    from samplers.devices import tried_device

    processes = None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        # At the end all wait for the slowest: NCCL would give up after ten minutes.
        on_cpu = config.device == "cpu" or not torch.cuda.is_available()
        processes = PartialState(cpu=on_cpu, timeout=timedelta(days=1))
    rank, world = (processes.process_index, processes.num_processes) if processes else (0, 1)
    out = Path(config.out)
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = tried_device(automatic if config.device == "auto" else config.device)
    except ValueError as error:
        raise ConfigError(f"device={error}") from None
    if processes and device.type == "cuda":
        device = processes.device

    listed = sources(config.data, out / "scikit-image")
    methods, skipped = {}, []
    for name in config.methods:
        try:
            methods[name] = make_method(name, config, device)
        except MethodUnavailable as reason:
            skipped.append({"method": name, "reason": str(reason)})
            continue
        if hasattr(methods[name], "check"):
            methods[name].check([source.place for source in listed])
    scoring = Scoring(config.metrics, config.lpips)
    notices = [f"{item['method']} is not run: {item['reason']}" for item in skipped]
    notices += [f"{METRICS[name].title} is not measured: {reason}" for name, reason in scoring.reasons.items()]
    for notice in notices if rank == 0 else []:
        print(notice, file=sys.stderr)

    # At the start: the project may change while a long benchmark runs.
    settings = asdict(config)
    free = ("methods", "out", "overwrite", "pictures", "device")
    identity = {
        "settings": {key: value for key, value in settings.items() if key not in free},
        "provenance": provenance(_weights(config.weights), device),
        "unmeasured": scoring.reasons,
    }
    columns = {
        name: {column(name, source): source for source in (config.maps if method.takes_map else (None,))}
        for name, method in methods.items()
    }
    with claimed(out / f"rows-{rank:03d}.jsonl"):
        folder = RunFolder(out, _fixed(identity), overwrite=config.overwrite, rank=rank)
        if processes:
            processes.wait_for_everyone()
        done = {row_key(row) for row in folder.rows()}
        mine = listed[rank::world]
        made_from = _made_from(mine if rank else listed, methods)
        _measure(config, mine, methods, columns, scoring, folder, made_from, done, device, shows=rank == 0)
        if processes:
            processes.wait_for_everyone()
    if rank:
        return None

    measured = {row_key(row): row for row in folder.rows()}
    order = [
        (*source.place, title, *made_from[*source.place, name])
        for source in listed for name, named in columns.items() for title in named
    ]  # fmt: skip
    rows = [measured[key] for key in order]
    results = {
        "schema_version": SCHEMA_VERSION,
        "protocol": protocol(config.data, config.seed),
        "settings": settings,
        "seed": config.seed,
        **identity["provenance"],
        "metrics": {
            name: {
                "title": METRICS[name].title,
                "higher_is_better": METRICS[name].higher_is_better,
                "reason": scoring.reasons.get(name),
            }
            for name in config.metrics
        },
        "skipped": skipped,
        "summary": summarise(rows, config.metrics),
        "rows": rows,
    }
    write_results(out, results)
    if config.pictures:
        write_contact_sheets(out, results)
        write_html_report(out, results)
    print(table(results))
    return results


def _made_from(listed, methods) -> dict[tuple[str, str, str, str], list[str | int]]:  # noqa: ANN001
    """What the rows of a set, group, name and method are made from: digests of files, and what seeds the noise."""
    from functools import cache

    from evaluation.run_folder import file_digest

    digest = cache(file_digest)
    made_from = {}
    for source in listed:
        common = [digest(file) for file in source.files] + ([] if source.index is None else [source.index])
        for name, method in methods.items():
            results = [digest(method.find(*source.place))] if hasattr(method, "find") else []
            made_from[*source.place, name] = common + results
    return made_from


def _measure(config, listed, methods, columns, scoring, folder, made_from, done, device, *, shows) -> None:  # noqa: ANN001
    """Measures every column of every capture of this process that has no row yet."""
    import time
    from dataclasses import replace

    import torch
    from tqdm import tqdm

    from evaluation.pictures import Pictures
    from evaluation.provenance import PeakMemory
    from evaluation.scoring import SMALLEST_MASK
    from optics import DefocusOperator

    memory = PeakMemory(device)
    pictures = Pictures(folder.folder) if config.pictures else None
    for source in tqdm(listed, unit="picture", disable=None if shows else True):
        missing = [
            (name, title, map_source)
            for name, named in columns.items() for title, map_source in named.items()
            if (*source.place, title, *made_from[*source.place, name]) not in done
        ]  # fmt: skip
        if not missing:
            continue
        capture = source.load()
        stored = _rounded(capture.y, capture.bits)
        before = scoring(stored, capture.x, capture)
        other_before = scoring(stored, capture.other_focus, capture) if capture.other_focus is not None else None
        for name, title, map_source in missing:
            generator = torch.Generator().manual_seed(config.seed)
            given = capture.radius_map.to(device) if map_source == "true" else None
            memory.reset()
            start = time.perf_counter()
            restored = methods[name](replace(capture, y=capture.y.to(device)), given, generator)
            image = restored.image.float().cpu()
            seconds = time.perf_counter() - start
            peak = memory.mib()
            image = _rounded(image, capture.bits)
            radii = None if restored.radius_map is None else restored.radius_map.float().cpu()
            operator = None if radii is None else DefocusOperator(radii)
            reblurred = None if operator is None else operator(operator.extend(image))
            row = {
                "set": source.set_name, "group": source.group, "name": source.name, "scene": source.scene,
                "column": title, "method": name, "map": map_source,
                "made_from": made_from[*source.place, name],
                "counted": capture.mask is None or float(capture.mask.float().mean()) >= SMALLEST_MASK,
                "metrics": scoring(image, capture.x, capture, reblurred),
                "input": before,
                "other_focus": None if other_before is None else scoring(image, capture.other_focus, capture),
                "input_other_focus": other_before,
                # Their PSNR is infinite, which is no figure.
                "equal": _equal(image, capture.x), "input_equal": _equal(stored, capture.x),
                "evaluations": restored.evaluations, "seconds": seconds, "peak_memory_mib": peak,
                "pictures": pictures.write(title, capture, image, reblurred, radii) if pictures else None,
            }  # fmt: skip
            folder.add(row)


def _weights(name: str):  # noqa: ANN202 - Path, imported late
    """Folder of the weights, or None: not all methods need one, and those that do complain of it themselves."""
    from samplers.weights import WeightsError, weights_folder

    try:
        return weights_folder(name)
    except WeightsError:
        return None


def _rounded(picture, bits: int):  # noqa: ANN001, ANN202 - Tensor, imported late
    """A picture as a file of this bit depth holds it."""
    levels = 2**bits - 1
    return (levels * picture.clamp(0, 1)).round() / levels


def _equal(picture, reference) -> bool:  # noqa: ANN001 - Tensors, imported late
    return reference is not None and bool((picture == reference).all())


def _fixed(identity: dict) -> dict:
    """What must not change between the parts of a run; threads and device may, for they change times alone."""
    fixed = {key: value for key, value in identity["provenance"].items() if key not in ("threads", "device")}
    return {**identity, "provenance": fixed}


if __name__ == "__main__":
    run_command(main)
