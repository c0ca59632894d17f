"""Measures how fast the network trains: our step beside that of a plain diffusers loop, in one run.

    python train/throughput.py configs/score/small.yaml --rounds 9 -o throughput.json

The two take turns, so that whatever else the machine does meets both; of each the median over the rounds counts. The
third to take its turn is the network's convolutions alone in bf16: their rate is what the machine gives, and the share
of it that the step reaches is printed. Patches lie in memory: loading photos is not measured.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = Parser(prog="train/throughput.py", description=__doc__)
    parser.add_argument("config", help="YAML file of settings, as in configs/score/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn (default: 4)")
    parser.add_argument("-o", "--out", metavar="FILE", help="JSON file to write")
    arguments = parser.parse_intermixed_args(argv)
    for name in ("rounds", "steps"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}")

    # Only now the slow imports: --help and usage errors answer at once.
    from photos.files import replacing
    from samplers.config import ConfigError
    from train.checked_settings import load_settings
    from train.config import ScoreConfig
    from train.initial_weights import with_network_of_init

    try:
        # No photo is read and nothing is written.
        given = ["data.root=unused", "run.dir=unused", *arguments.overrides]
        config = with_network_of_init(load_settings(ScoreConfig, arguments.config, given))
        if arguments.out:
            check_output(Path(arguments.out))
        report = measure(config, arguments.rounds, arguments.steps)
        print(table(report))
        if arguments.out:
            with replacing(Path(arguments.out)) as temporary:
                temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except ConfigError as error:
        return report_error("train/throughput.py", error, 2)
    except (ValueError, OSError, RuntimeError) as error:
        return report_error("train/throughput.py", error, 1)
    return 0


def check_output(file: Path) -> None:
    """Finds out before measuring whether a report can be written.

    Raises:
        ValueError: If the file is another than an earlier report, or its folder cannot be written to.
    """
    if file.exists():
        try:
            earlier = "patches_per_s" in json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError, TypeError):
            earlier = False
        if not earlier:
            raise ValueError(f"{file}: expected no file or an earlier report, got another file")
    if not os.access(file.parent, os.W_OK):
        raise ValueError(f"{file}: expected a folder that can be written to, got {file.parent}")


def measure(config, rounds: int, steps: int) -> dict:  # noqa: ANN001 - ScoreConfig, imported late
    """Times our step, the plain step and the convolutions in turn.

    Args:
        config: A `ScoreConfig`; patch size, batch, network and precision count.
        rounds: Turns of each.
        steps: Steps of a turn.

    Returns:
        The report, ready for JSON: patches per second, their ratio, operations, rates in GFLOP/s.
    """
    import platform
    from dataclasses import asdict
    from importlib.metadata import version
    from statistics import median

    import torch
    from accelerate import Accelerator

    from train.loop import run_precision
    from train.training_steps import convolution_pass, our_step, plain_step, step_flops

    torch.manual_seed(config.run.seed)
    precision = run_precision(config)
    accelerator = Accelerator(mixed_precision="bf16" if precision == "bf16" else "no")
    device = accelerator.device
    ours, _ = our_step(config, accelerator)
    plain, _ = plain_step(config, device)
    convolutions, convolution_flops = convolution_pass(config, device)
    arms = {"ours": ours, "plain": plain, "convolutions": convolutions}
    # First calls choose kernels and allocate memory.
    for step in arms.values():
        _seconds(step, 2, device)
    seconds = {name: [] for name in arms}
    for turn in range(rounds):
        # In the opposite order every other time: no arm always follows the same one.
        for name in list(arms)[:: -1 if turn % 2 else 1]:
            seconds[name].append(_seconds(arms[name], steps, device) / steps)

    batch = config.optim.batch
    speeds = {name: [batch / value for value in seconds[name]] for name in ("ours", "plain")}
    ratios = [plain / ours for ours, plain in zip(seconds["ours"], seconds["plain"], strict=True)]
    flops = step_flops(config)
    rate, convolution_rate = flops / median(seconds["ours"]), convolution_flops / median(seconds["convolutions"])
    return {
        "schema_version": 1,
        "settings": {
            "network": asdict(config.network), "patch": config.data.patch, "batch": batch,
            "precision": precision, "compile": config.run.compile,
            "gradient_checkpointing": config.run.gradient_checkpointing, "rounds": rounds, "steps": steps,
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "accelerate")},
        "patches_per_s": {name: {"median": median(values), "rounds": values} for name, values in speeds.items()},
        "speed_ratio": {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)},
        "gflop_per_patch": flops / batch / 1e9,
        "gflop_per_s": {"step": rate / 1e9, "bf16_convolutions": convolution_rate / 1e9},
        "share_of_convolution_rate": rate / convolution_rate,
    }  # fmt: skip


def table(report: dict) -> str:
    """The report as Markdown."""
    speeds, ratio, rates = report["patches_per_s"], report["speed_ratio"], report["gflop_per_s"]
    side, settings = report["settings"]["patch"], report["settings"]
    return "\n".join([
        f"{side} x {side} patches, batch {settings['batch']}, {report['device']}, {report['threads']} threads; medians "
        f"of {settings['rounds']} rounds of {settings['steps']} steps",
        "",
        "| | |",
        "|---|---|",
        f"| our step, {settings['precision']}, patches/s | {speeds['ours']['median']:.1f} |",
        f"| plain diffusers loop, fp32, patches/s | {speeds['plain']['median']:.1f} |",
        f"| ratio | {ratio['median']:.2f} (rounds: {ratio['lowest']:.2f} to {ratio['highest']:.2f}) |",
        f"| step, GFLOP per patch | {report['gflop_per_patch']:.3g} |",
        f"| step, GFLOP/s | {rates['step']:.4g} |",
        f"| its convolutions alone in bf16, GFLOP/s | {rates['bf16_convolutions']:.4g} |",
        f"| share of the convolution rate | {100 * report['share_of_convolution_rate']:.0f} % |",
    ])  # fmt: skip


def _seconds(step: Callable[[], object], count: int, device) -> float:  # noqa: ANN001 - torch is imported late
    import time

    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return time.perf_counter() - started


if __name__ == "__main__":
    run_command(main)
