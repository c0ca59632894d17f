"""Captures with references: what the public sets and any folder of pairs consist of, found, joined and read.

A family of sets is one module that knows its layout, its splits and its traps. Every set is a `PairedSet`:
`pairs` joins files by name or position without reading them, `capture` reads one.
"""

from evaluation.paired_sets.finding import PAIRED_SETS, captures, find_sets, list_captures
from evaluation.paired_sets.paired_set import PairedSet, PairFiles

__all__ = ["PAIRED_SETS", "PairFiles", "PairedSet", "captures", "find_sets", "list_captures"]
