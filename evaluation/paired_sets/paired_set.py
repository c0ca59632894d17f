"""What a set of captures with references is, and the files that belong to one of its captures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from evaluation.captures import Capture
from evaluation.paired_sets.reading import read_capture

__all__ = ["Examined", "PairFiles", "PairedSet"]


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """The files of one capture; nothing of them has been read.

    Attributes:
        name: Name, unique in its group; may contain slashes.
        capture: The defocused picture; of dual-pixel captures the centre view.
        reference: The sharp picture; None in sets without references.
        set_name: Name that figures are listed under: the set's, or that of the folder in the shared layout.
        group: Part of the set that gets figures of its own, as indoor or ap1; else `set_name`.
        scene: What captures of the same scene have in common; equals `name` where each has its own.
        left: Left dual-pixel view.
        right: Right dual-pixel view.
        other_focus: Second reference, a shot that is in focus where the mask is.
        mask: Grey picture, white where the picture is measured.
        defocus_map: Defocus map in units of the set's own.
    """

    name: str
    capture: Path
    reference: Path | None
    set_name: str
    group: str
    scene: str
    left: Path | None = None
    right: Path | None = None
    other_focus: Path | None = None
    mask: Path | None = None
    defocus_map: Path | None = None

    @property
    def companions(self) -> dict[str, Path]:
        """The files that must have the capture's size, by what they are."""
        names = {
            "reference": self.reference, "left view": self.left, "right view": self.right,
            "shot of other focus": self.other_focus, "mask": self.mask,
        }  # fmt: skip
        return {name: file for name, file in names.items() if file is not None}

    @property
    def measured(self) -> tuple[Path, ...]:
        """The files that figures depend on."""
        files = (self.capture, self.reference, self.mask, self.other_focus)
        return tuple(file for file in files if file is not None)


class Examined(NamedTuple):
    """The pairs of a split that could be made, and a sentence for everything that is wrong."""

    pairs: list[PairFiles]
    problems: list[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedSet:
    """A set of captures: where it comes from, how its files are laid out and joined.

    Attributes:
        name: Name on the command line.
        title: What it is and who published it.
        source: Where a user gets it.
        licence: Its terms.
        layout: Its files, for people.
        splits: Splits it has.
        splits_at: Splits whose files lie at a root; none if this is not the set's layout.
        find: Pairs of a split at a root; appends a sentence to its last argument for everything that is wrong.
        read: Capture and border of files, where they need more than being read.
        counts: Published number of pairs of `split`, or of `split/group`.
        input_psnr: Published mean PSNR in dB of the unrestored captures of a split, a test of loader and metric.
        note: What to know before figures of this set are quoted.
        for_looking: Whether its references are too unlike the captures for figures.
    """

    name: str
    title: str
    source: str
    licence: str
    layout: str
    splits: tuple[str, ...]
    splits_at: Callable[[Path], tuple[str, ...]]
    find: Callable[[Path, str, list[str]], list[PairFiles]]
    read: Callable[[PairFiles], Capture] = read_capture
    counts: Mapping[str, int] = field(default_factory=dict)
    input_psnr: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    for_looking: bool = False

    def examine(self, root: str | Path, split: str = "test") -> Examined:
        """Finds the pairs of a split and everything that is wrong with them, from names alone.

        Raises:
            ValueError: If the set has no such split, or the root does not hold it.
        """
        root = Path(root)
        if split not in self.splits:
            raise ValueError(f"{self.name}: expected a split among {', '.join(self.splits)}, got {split!r}")
        if not root.is_dir():
            raise ValueError(f"{root}: expected the folder of {self.name}, got no such folder")
        there = self.splits_at(root)
        if split not in there:
            found = f"its split {', '.join(there)} alone" if there else "another layout"
            raise ValueError(f"{root}: expected the split {split} of {self.name}, got {found}; layout: {self.layout}")
        problems: list[str] = []
        pairs = self.find(root, split, problems)
        if not pairs and not problems:
            problems.append(f"{root}: expected captures of the split {split} of {self.name}, got none")
        return Examined(pairs, problems)

    def pairs(self, root: str | Path, split: str = "test") -> list[PairFiles]:
        """The pairs of a split, from names alone, always in the same order.

        Args:
            root: Folder with the set's layout.
            split: One of `splits`.

        Raises:
            ValueError: If the set has no such split, the root does not hold it, or a file is missing or unpaired;
                the first such file is named.
        """
        pairs, problems = self.examine(root, split)
        if problems:
            more = f" ({len(problems) - 1} more such problems)" if len(problems) > 1 else ""
            raise ValueError(problems[0] + more)
        return pairs

    def capture(self, files: PairFiles) -> Capture:
        """Reads one capture with all that it is measured by.

        Raises:
            ValueError: If a file cannot be read, or the sizes differ.
        """
        return self.read(files)
