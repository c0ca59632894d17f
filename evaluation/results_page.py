"""Writes the tables of benchmarks into a page, between the marks that bear their names.

    python evaluation/results_page.py docs/results.md simulated=results/simulated/results.json

The page has, for each name, the lines `<!-- begin NAME -->` and `<!-- end NAME -->`; what stands between
them is replaced, the rest stays as it is.
"""

from collections.abc import Sequence
from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and rewrites the page; returns the exit code."""
    parser = Parser(prog="evaluation/results_page.py", description=__doc__)
    parser.add_argument("page", type=Path, help="Markdown file")
    parser.add_argument("results", nargs="+", metavar="NAME=FILE", help="results.json of a benchmark")
    arguments = parser.parse_args(argv)
    for assignment in arguments.results:
        if "=" not in assignment:
            parser.error(f"expected NAME=FILE, got {assignment!r}")

    from photos.files import replacing

    try:
        text = _read_page(arguments.page)
        for assignment in arguments.results:
            name, _, file = assignment.partition("=")
            text = replaced(text, name, section(_read_results(Path(file))), arguments.page)
        with replacing(arguments.page) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except (ValueError, OSError) as error:
        return report_error("evaluation/results_page.py", error, 1)
    return 0


def replaced(text: str, name: str, content: str, page: Path) -> str:
    """The page with the part between the marks of a name replaced, in lines that end as the first mark's does.

    Raises:
        ValueError: If a mark is missing or the last comes first.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    line_end = "\r\n" if f"{begin}\r\n" in text else "\n"
    start = text.find(begin + line_end)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        raise ValueError(f"{page}: expected the lines {begin!r} and {end!r}, in this order, got none")
    return text[: start + len(begin + line_end)] + content.replace("\n", line_end) + text[stop:]


def section(results: dict) -> str:
    """What a benchmark's part of the page says: command, protocol, a table for each set, origin."""
    from evaluation.results import origin, set_table

    sets = list(dict.fromkeys(summary["set"] for summary in results["summary"]))
    lines = ["```sh", command(results["settings"]), "```", "", results["protocol"]["description"], ""]
    for set_name in sets:
        lines += [f"**{set_name}**", "", *set_table(results, set_name), *_against_denoising(results, set_name), ""]
    lines += [f"Not run: `{skipped['method']}`: {skipped['reason']}." for skipped in results["skipped"]]
    return "\n".join([*lines, origin(results)]) + "\n"


def command(settings: dict) -> str:
    """The command line that measures with these settings: all that differ from the protocol's own.

    Folders of data are named by their last part: where they lie is the reader's affair.
    """
    from dataclasses import asdict, fields

    from evaluation.settings import BenchmarkConfig, DataConfig

    data = settings["data"]
    root = data["root"] if data["root"] == "scikit-image" else Path(data["root"]).name.upper()
    words = [f"configs/benchmark/{data['protocol']}.yaml", f"data.root={root}"]
    defaults = asdict(DataConfig(root=data["root"], protocol=data["protocol"]))
    if data["protocol"] == "real":
        defaults["count"] = None
    words += [f"data.{key}={_value(data[key])}" for key in defaults if key != "root" and data[key] != defaults[key]]
    usual = BenchmarkConfig(data=DataConfig(root="", protocol="simulated"), out="")
    for key in (field.name for field in fields(usual)):
        if key in ("data", "out", "overwrite", "pictures", "device"):
            continue
        if key == "lpips" and settings[key]:
            words.append("lpips=DIR")
        elif settings[key] != getattr(usual, key):
            words.append(f'"{key}={_value(settings[key])}"')
    return f"python evaluation/benchmark.py {' '.join(words)} out=results/{data['protocol']}"


def _read_page(page: Path) -> str:
    """The text of the page, its lines ending as they do in the file."""
    try:
        with page.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"{page}: expected a page of text, which cannot be read: {reason}") from None


def _read_results(file: Path) -> dict:
    """The results in a file, or ValueError where it does not hold what a page says."""
    from dataclasses import fields

    from evaluation.results import read_results
    from evaluation.results_form import fits
    from evaluation.scoring import METRICS
    from evaluation.settings import PROTOCOLS, BenchmarkConfig, DataConfig

    results = read_results(file)
    data = dict.fromkeys((field.name for field in fields(DataConfig)), object)
    data |= {"root": str, "protocol": lambda name: name in PROTOCOLS}
    settings = dict.fromkeys((field.name for field in fields(BenchmarkConfig)), object)
    if not fits(results, {"settings": settings | {"data": data}}):
        raise ValueError(f"{file}: expected settings as the benchmark writes them, got others")
    if unknown := results["metrics"].keys() - METRICS.keys():
        raise ValueError(f"{file}: expected metrics among {', '.join(METRICS)}, got {', '.join(sorted(unknown))}")
    return results


def _against_denoising(results: dict, set_name: str) -> list[str]:
    """Relative gains over plain denoising, the form in which the score-based predecessor reports its own."""
    from evaluation.results import relative_gain

    rows = [row for row in results["rows"] if row["set"] == set_name]
    lines = []
    for column in dict.fromkeys(row["column"] for row in rows if row["method"].startswith("score")):
        gains = {metric: relative_gain(rows, column, "denoise", metric) for metric in ("psnr", "ssim")}
        if all(gains.values()):
            said = [
                f"{metric.upper()} {mean:+.1f} % [{low:+.1f}, {high:+.1f}]"
                for metric, (mean, (low, high)) in gains.items()
            ]
            lines.append(f"- `{column}` over `denoise`, relative: {', '.join(said)}.")
    return ["", *lines] if lines else []


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return "null" if value is None else str(value)


if __name__ == "__main__":
    run_command(main)
