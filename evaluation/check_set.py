"""Says what is there of a set of captures with references, and what is missing.

    python evaluation/check_set.py --list
    python evaluation/check_set.py dpdd DIR
    python evaluation/check_set.py realdof DIR --input-psnr

Names, numbers and the headers of all files are checked; pictures are decoded for --input-psnr alone, which measures the
captures as they are and compares the mean with the published one. Exits with 0 if all is well, with 1 if
something is missing or wrong, with 2 for an unknown set, split or folder.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence

from samplers.command_line import Parser, report_error
from samplers.standard_streams import run_command

_SHOWN = 20
_PSNR_TOLERANCE = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and checks; returns the exit code."""
    parser = Parser(prog="evaluation/check_set.py", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of a set, as --list gives it")
    parser.add_argument("root", nargs="?", metavar="DIR", help="folder of the set")
    parser.add_argument("--list", action="store_true", help="list the sets, where to get them, and their terms")
    parser.add_argument("--split", help="check this split alone")
    parser.add_argument("--input-psnr", action="store_true", help="measure the captures against the references")
    arguments = parser.parse_args(argv)
    if not arguments.list and (arguments.name is None or arguments.root is None):
        parser.error("expected NAME and DIR, or --list")

    # Only now the slow imports: --help and usage errors answer at once.
    from pathlib import Path

    from evaluation.paired_sets import PAIRED_SETS

    if arguments.list:
        try:
            _list(PAIRED_SETS.values())
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as head, has seen enough; what is left must not be tried again on the way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    name, root, split = arguments.name, Path(arguments.root), arguments.split
    if name not in PAIRED_SETS:
        return _refused(f"NAME must be one of {', '.join(PAIRED_SETS)}, got {name!r}")
    known = PAIRED_SETS[name]
    if not root.is_dir():
        return _refused(f"{root}: expected the folder of {name}, got no such folder")
    if split is not None and split not in known.splits:
        return _refused(f"--split must be one of {', '.join(known.splits)}, got {split!r}")
    try:
        return _check(known, root, split, arguments.input_psnr)
    except ValueError as error:
        return report_error("evaluation/check_set.py", error, 1)


def _refused(sentence: str) -> int:
    return report_error("evaluation/check_set.py", sentence, 2)


def _list(sets) -> None:
    for known in sets:
        print(f"{known.name}: {known.title}")
        for word, text in (("get it", known.source), ("licence", known.licence), ("layout", known.layout)):
            print(f"    {word}: {text}")
        print(f"    splits: {', '.join(known.splits)}")
        if known.note:
            print(f"    note: {known.note}")


def _check(known, root, split: str | None, input_psnr: bool) -> int:
    """Prints what is there of the wanted splits and what is wrong; returns the exit code."""
    there = known.splits_at(root)
    if not there:
        print(f"{root}: expected {known.name}, got another layout; expected {known.layout}")
        return 1
    wrong, seen = False, {}
    for name in known.splits if split is None else (split,):
        if name not in there:
            # Who measures needs no training split, and the other way round.
            print(f"{name}: not there")
            wrong |= split is not None
            continue
        pairs, problems = known.examine(root, name)
        captures = tuple(files.capture for files in pairs)
        if captures in seen:
            print(f"{name}: the same captures as {seen[captures]}")
            continue
        seen[captures] = name
        problems = problems + _check_split(known, name, pairs)
        if input_psnr and not problems:
            problems += _measure(known, root, name)
        for problem in problems[:_SHOWN]:
            print(f"  {problem}")
        if len(problems) > _SHOWN:
            print(f"  and {len(problems) - _SHOWN} more")
        wrong |= bool(problems)
    print("something is missing or wrong" if wrong else "all is well")
    return int(wrong)


def _check_split(known, split: str, pairs) -> list[str]:
    """Prints numbers, sizes and depths of a split; returns what is wrong with them."""
    headers, wrong_sizes = _headers(pairs)
    print(f"{split}: {len(pairs)} captures, {_parts(pairs)}")
    for words, numbers in (
        ("bits", Counter(header.bits for header in headers)),
        ("sizes", Counter(f"{header.width} x {header.height}" for header in headers)),
    ):
        shown = ", ".join(f"{value} ({number})" for value, number in numbers.most_common(3))
        print(f"  {words}: {shown}{', and others' if len(numbers) > 3 else ''}")
    return _miscounted(known, split, pairs) + wrong_sizes


def _parts(pairs) -> str:
    """How many captures have which companion."""
    parts = Counter(part for files in pairs for part in files.companions)
    parts["defocus map"] = sum(files.defocus_map is not None for files in pairs)
    return ", ".join(f"{number} with a {part}" for part, number in parts.items() if number) or "none with a reference"


def _miscounted(known, split: str, pairs) -> list[str]:
    """Prints the numbers of groups; returns those that differ from the published ones."""
    groups = Counter(files.group for files in pairs)
    if len(groups) > 1:
        print(f"  groups: {', '.join(f'{group} ({number})' for group, number in groups.items())}")
    problems = []
    for key, expected in known.counts.items():
        part, _, group = key.partition("/")
        if part != split:
            continue
        if group and group not in groups:
            print(f"  no figures of {group} alone: expected {expected} such captures, or labels, got none")
            continue
        got = groups[group] if group else len(pairs)
        if got != expected:
            problems.append(f"{key}: expected {expected} captures, got {got}")
    return problems


def _headers(pairs):
    """Headers of the captures, and a sentence for every file that is unreadable or of another size."""
    from evaluation.paired_sets.headers import picture_header

    headers, problems, seen = [], [], {}
    for files in pairs:
        try:
            capture = picture_header(files.capture)
            headers.append(capture)
            for part, file in files.companions.items():
                header = seen[file] = seen.get(file) or picture_header(file)
                if (header.height, header.width) != (capture.height, capture.width):
                    problems.append(
                        f"{file}: expected the {part} in the size {capture.width} x {capture.height} of "
                        f"{files.capture}, got {header.width} x {header.height}"
                    )
        except ValueError as error:
            problems.append(str(error))
    return headers, problems


def _measure(known, root, split: str) -> list[str]:
    """Prints the mean PSNR of the captures as they are; returns whether it is not the published one."""
    from evaluation.metrics import psnr

    values = []
    for files in known.pairs(root, split):
        if files.reference is None:
            print("  input PSNR: no references to measure against")
            return []
        capture = known.capture(files)
        edge = capture.border
        inside = (..., slice(edge, capture.y.shape[-2] - edge), slice(edge, capture.y.shape[-1] - edge))
        values.append(psnr(capture.y[inside], capture.x[inside]))
    mean, expected = sum(values) / len(values), known.input_psnr.get(split)
    published = "nothing published to compare it with" if expected is None else f"published {expected:.2f} dB"
    print(f"  input PSNR: {mean:.2f} dB, whole pictures, {published}")
    if expected is None or abs(mean - expected) <= _PSNR_TOLERANCE:
        return []
    return [f"{split}: expected an input PSNR of {expected:.2f} dB, got {mean:.2f}"]


if __name__ == "__main__":
    run_command(main)
