"""The shared layout, `blurred/NAME` and `sharp/NAME`, and the sets in it that need a treatment or a word of their own.

    SET/blurred/NAME.png       the capture
    SET/sharp/NAME.png         its reference; without this folder the set is one without references
    SET/blur_mask/NAME.png     optional, white where the picture is measured; `mask/` likewise
    SET/other_focus/NAME.jpg   optional, a second reference, in focus where the mask is
    SET/defocus_map/NAME.png   optional, kept as a file

Suffixes may differ, names may contain folders. An optional folder that is there must be complete. Figures are listed
under the folder's own name, and so the same treatment serves other captures of the same kind. What kind it is shows in
the files: 16-bit grey pictures beside `defocus_map/` or `calibration/` are linear light, and captures with a reference
for all of a stack, `sharp/STACK` for `blurred/STACK_FRAME`, are frames of a focal stack.
"""

from pathlib import Path

from evaluation.paired_sets.headers import picture_header
from evaluation.paired_sets.paired_set import PairedSet, PairFiles
from evaluation.paired_sets.pairing import by_key, pictures, unmatched
from evaluation.paired_sets.reading import read_linear_grey
from photos import PhotoError

__all__ = ["FOLDER", "FOLDER_SETS"]

_PIXEL4, _STACK = "pixel4_dp", "phone_stack"
# Read like any folder: their names alone tell them from one.
_PLAIN = ("lfsd_lytro", "multifocus_pairs", "cuhk_noref", "handheld_noref")


def _kind(root: Path) -> str | None:
    """Name of the set whose layout a folder has; None for none of these."""
    captures = pictures(root / "blurred", below=True)
    if not (root / "blurred").is_dir():
        return None
    if (root / "sharp").is_dir():
        beside = any((root / part).is_dir() for part in ("defocus_map", "calibration"))
        if (beside or root.resolve().name == _PIXEL4) and captures and _is_deep_grey(captures[0]):
            return _PIXEL4
        if _is_stack(root, captures):
            return _STACK
    name = root.resolve().name
    return name if name in _PLAIN else "folder"


def _is_deep_grey(file: Path) -> bool:
    try:
        head = picture_header(file)
    except PhotoError:
        return False  # Whoever reads it says why.
    return (head.channels, head.bits) == (1, 16)


def _is_stack(root: Path, captures: list[Path]) -> bool:
    names = {_name(file, root / "sharp") for file in pictures(root / "sharp", below=True)}
    own = [_name(file, root / "blurred") for file in captures]
    return bool(own) and not any(name in names for name in own) and any(_stack(name) in names for name in own)


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _stack(name: str) -> str:
    return name.rpartition("_")[0]


def _find(root: Path, split: str, problems: list[str]) -> list[PairFiles]:
    def named(part: str) -> dict[str, Path]:
        folder = root / part
        return by_key(pictures(folder, below=True), lambda file: _name(file, folder), problems)

    captures, references, stacked = named("blurred"), named("sharp"), _kind(root) == _STACK
    masks = "blur_mask" if (root / "blur_mask").is_dir() else "mask"
    extras = {"mask": (masks, named(masks)), **{part: (part, named(part)) for part in ("other_focus", "defocus_map")}}
    if (root / "sharp").is_dir():
        wanted = {_stack(name) if stacked else name: file for name, file in captures.items()}
        # A reference that no capture needs does no harm to figures.
        unmatched(wanted, references, "reference", root / "sharp", problems, spare=True)
    for part, found in extras.values():
        if (root / part).is_dir():
            unmatched(captures, found, "picture of the same name", root / part, problems, spare=True)
    set_name = root.resolve().name
    return [
        PairFiles(
            name=name, capture=file, reference=references.get(_stack(name) if stacked else name), set_name=set_name,
            group=set_name, scene=_stack(name) if stacked else name,
            **{field: found.get(name) for field, (_, found) in extras.items()},
        )
        for name, file in captures.items()
    ]  # fmt: skip


def _folder_set(name: str, splits: tuple[str, ...] = ("test",), **words: object) -> PairedSet:
    def splits_at(root: Path) -> tuple[str, ...]:
        return splits if _kind(root) == name else ()

    return PairedSet(name=name, splits=splits, splits_at=splits_at, find=_find, **words)


_LAYOUT = "blurred/NAME.png and sharp/NAME.png"

FOLDER = _folder_set(
    "folder",
    # Whoever takes a folder for training or for testing has split it already.
    splits=("test", "train"),
    title="any folder of captures and references of the same names",
    source="your own",
    licence="your own",
    layout=f"{_LAYOUT}; optional blur_mask/, other_focus/; without sharp/ a set without references",
)

FOLDER_SETS = (
    FOLDER,
    _folder_set(
        "lfsd_lytro",
        title="40 Lytro captures: the least sharp frame of a stack and a fusion of all (LFSD, Li et al., CVPR 2014)",
        source="github.com/Rohitth007/Depth-from-Focus, prepared",
        licence="learning and education, says the repository, which holds no copyright",
        layout=_LAYOUT,
        note="the references are fusions and keep halos at some depth edges",
    ),
    _folder_set(
        "multifocus_pairs",
        title="12 pairs of shots with different focus (Lytro of Nejati et al., MFFW of Xu et al., and others)",
        source="github.com/xingchenzhang/MFIFB and github.com/rpbaptista/Focus-Stacking, prepared",
        licence="no licence file; released for research",
        layout=f"{_LAYOUT}, blur_mask/NAME.png, other_focus/NAME.jpg",
        note="measured inside the mask, where the capture is the softer shot; sharp/ is a fusion, other_focus/ a photo",
    ),
    _folder_set(
        _PIXEL4,
        title="11 Pixel 4 captures in 16-bit linear grey (Xin et al., ICCV 2021)",
        source="github.com/cmu-ci-lab/dual_pixel_defocus_estimation_deblurring, prepared",
        licence="no licence file; its authors ask to be cited",
        layout=f"{_LAYOUT} in 16-bit grey, with defocus_map/ or calibration/ beside",
        note=(
            "measured at half size, divided by the 99.8th percentile of the reference, to the power 1 / 2.2, "
            "without a border of 20 pixels"
        ),
        read=read_linear_grey,
    ),
    _folder_set(
        _STACK,
        title="frames of mobile-phone focal stacks with one fusion for each stack (Suwajanakorn et al., CVPR 2015)",
        source="github.com/iSarmad/Depth-From-Defocus-Matlab, prepared",
        licence="no licence file",
        layout="blurred/STACK_FRAME.jpg and sharp/STACK.png",
        note="misaligned by 1 to 4 pixels: for looking, not for figures",
        for_looking=True,
    ),
    _folder_set(
        "cuhk_noref",
        title="40 photographs of the CUHK blur detection set with masks (Shi et al., CVPR 2014)",
        source="github.com/WANGPeisheng1997/DefocusBlurRemoving, chosen from",
        licence="photographs for research use",
        layout="blurred/NAME.jpg and mask/NAME.png, white where out of focus",
        note="no references",
    ),
    _folder_set(
        "handheld_noref",
        title="4 photographs of hand-held focus series, not aligned",
        source="github.com/rpbaptista/Focus-Stacking and github.com/hannahbergenroth/All-in-focus-image",
        licence="no licence files",
        layout="blurred/NAME.jpg",
        note="no references",
    ),
)
