"""What scripts share of their command lines: a parser, errors in one line, values of options."""

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence

from samplers.control_groups import heed_cpu_quota
from samplers.exit_codes import USAGE

__all__ = ["Parser", "grid", "noise_std", "port", "radius", "report_error", "samples", "seed", "share", "value_range"]

# A tenth of the time of a large photo went into memory that came in pages of 4 KiB. PyTorch asks for large ones if it
# is told to before its first tensor, and scripts import this module before it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
heed_cpu_quota()


class Parser(argparse.ArgumentParser):
    """Takes options by their full names alone, no empty values, and reports usage errors in one line.

    Args:
        prog: Name of the script, which errors begin with.
        description: Shown by --help as it is laid out.
    """

    def __init__(self, prog: str, description: str) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=layout, allow_abbrev=False)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="surrogateescape")  # Names of files need not be text.

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As of the base class, which all other ways to parse go through."""
        words = sys.argv[1:] if args is None else list(args)
        for before, word in zip(["", *words], words, strict=False):
            # As a path it would be the current folder; it is what a shell makes of a variable that is not set.
            if word == "" or re.fullmatch(r"--[\w-]+=", word):
                option = next((text.rstrip("=") for text in (word, before) if text.startswith("-")), "arguments")
                self.error(f"{option}: expected a value, got an empty one")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> None:
        """Prints the message and exits."""
        self.exit(USAGE, f"{self.prog}: {message} (see --help)\n")


def report_error(script: str, error: object, code: int) -> int:
    """Prints an error of a script in one line and returns the exit code."""
    print(f"{script}: {' '.join(str(error).splitlines())}", file=sys.stderr)
    return code


def noise_std(text: str) -> float:
    """A share of full range, above 0 and below 1."""
    value = _number(float, text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a share of full range, above 0 and below 1, got {text}")
    return value


def value_range(text: str) -> object:
    """A range of stored values; see `photos.ValueRange`."""
    from photos import ValueRange

    try:
        return ValueRange.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port(text: str) -> int:
    """The number of a port, from 1 to 65535."""
    value = _number(int, text)
    if not 0 < value < 65536:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text}")
    return value


def radius(text: str) -> float:
    """A radius in pixels, above 0."""
    value = _number(float, text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a radius in pixels above 0, got {text}")
    return value


def share(text: str) -> float:
    """A share from 0 to 1."""
    value = _number(float, text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return value


def grid(text: str) -> tuple[int, int]:
    """Rows and columns, as in 6x8."""
    if re.fullmatch(r"[1-9]\d*x[1-9]\d*", text) is None:
        raise argparse.ArgumentTypeError(f"expected rows and columns as in 6x8, got {text}")
    rows, columns = text.split("x")
    return int(rows), int(columns)


def samples(text: str) -> int:
    """A number of samples, from 2 to 1000."""
    value = _number(int, text)
    if not 2 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number of samples from 2 to 1000, got {text}")
    return value


def seed(text: str) -> int:
    """A number from 0 to 2^63 - 1."""
    value = _number(int, text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 2^63 - 1, got {text}")
    return value


def _number(kind: type, text: str) -> float:
    """The number, or NaN, which is in no interval, where it is none."""
    try:
        return kind(text)
    except ValueError:
        return math.nan
