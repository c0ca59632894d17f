"""What reproduces a result: the command line, the content of the files it names, the weights and the photo.

The record is written into the result's metadata, from which `deblur.py --show-parameters` prints the command again, and
into the defocus map, where it tells later runs that this photo is done (`--resume`).
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import tifffile

from photos import PhotoError, inscription_of, read
from samplers.batch import Job
from samplers.exit_codes import FILE
from samplers.weights import DEFAULT_WEIGHTS, WeightsError, weights_folder

__all__ = ["SOFTWARE", "Record", "print_parameters", "shown_parameters"]

# Options that change no pixel of a result.
_WITHOUT_EFFECT = frozenset(
    {"help", "photos", "output", "device", "tile", "overwrite", "no_report", "quiet", "resume", "dry_run"}
    | {"show_parameters"}
)


def _version() -> str:
    try:
        return metadata.version("scorefocus")
    except metadata.PackageNotFoundError:
        return "of an unknown version"


SOFTWARE = f"ScoreFocus {_version()}"


class Record:
    """Parameters of one run, and what they say of each photo.

    Args:
        parser: The parser of the command line, whose options are looked up.
        arguments: Its result.
        overrides: The assignments to settings.
    """

    def __init__(self, parser: object, arguments: object, overrides: Sequence[str]) -> None:
        words, files = [], {}
        for action in parser._actions:
            value = getattr(arguments, action.dest, None)
            if action.dest in _WITHOUT_EFFECT or value == action.default or value is None:
                continue
            option = action.option_strings[-1]
            if action.nargs == 0:
                words.append(option)
                continue
            text, digest = _spelled(value)
            # In one word where it would be taken for an option.
            words += [f"{option}={text}"] if text.startswith("-") else [option, text]
            files |= {option: digest} if digest else {}
        if getattr(arguments, "method", None) in ("score", "swin-diff"):
            files["--weights"] = _folder_digest(getattr(arguments, "weights", None) or DEFAULT_WEIGHTS)
        # Of several assignments to a key the last one counts; their order does not.
        settings = {override.partition("=")[0]: override for override in overrides}
        self.parameters = {
            "software": SOFTWARE, "arguments": words + sorted(settings.values()), "files": dict(sorted(files.items())),
        }  # fmt: skip

    def of(self, photo: Path, content: bytes) -> dict:
        """The record of one photo, without the folder it lies in."""
        return self.parameters | {"photo": photo.name, "sha256": hashlib.sha256(content).hexdigest()}

    def sign(self, job: Job, names: Mapping[Path, Path], entry: dict, facts: Mapping[str, float | int | str]) -> None:
        """Writes the record into the map of a photo whose results are all there.

        Args:
            job: The photo.
            names: Where each result lies for the time being.
            entry: What `of` gave.
            facts: What the summary says of the restoration.
        """
        text = json.dumps(entry | {"outputs": _digests(job, names), "summary": dict(facts)})
        tifffile.tiffcomment(names[job.defocus_map], text.encode("ascii"))

    def finished(self, job: Job) -> dict | None:
        """The summary of a photo's restoration if all its results are there, unchanged, and what this run would make.

        Returns:
            The facts that were signed, or None.
        """
        if not all(output.is_file() for output in job.outputs):
            return None
        try:
            signed = json.loads(tifffile.tiffcomment(job.defocus_map))
            expected = self.of(job.photo, job.photo.read_bytes())
            # The photo may have been renamed since; its content counts.
            same = all(signed[key] == expected[key] for key in expected if key != "photo")
            # Of an earlier run there may be more than this one would make.
            whole = _digests(job).items() <= signed["outputs"].items()
            return dict(signed["summary"]) if same and whole else None
        except Exception:
            # Whatever is wrong with a file that is not ours: the photo is not done.
            return None


def shown_parameters(path: Path) -> tuple[str, dict]:
    """The command that made a picture, from the picture itself.

    Args:
        path: A result, or the defocus map beside one.

    Returns:
        The command, with DIR for the folder of the results, and the whole record.

    Raises:
        PhotoError: If the file cannot be read or holds no record.
    """
    try:
        text = tifffile.tiffcomment(path)
        record = json.loads(text)
    except Exception:
        record = None
    if not isinstance(record, dict) or "arguments" not in record:
        text = inscription_of(_xmp(path))
        try:
            record = json.loads(text or "")
            words = [str(word) for word in record["arguments"]]
        except (ValueError, KeyError, TypeError):
            raise PhotoError(f"{path}: expected a picture with the parameters of its making, got none") from None
    words = [str(word) for word in record["arguments"]]
    photo = str(record.get("photo", "PHOTO"))
    photo = f"./{photo}" if photo.startswith("-") else photo
    command = ["python", "samplers/deblur.py", photo, "-o", "DIR", *words]
    return shlex.join(command), record


def print_parameters(paths: Sequence[str], report: Callable[[object, int], int]) -> int:
    """Prints the command that made each picture to the standard output, and all of its record to the other.

    Args:
        paths: Results.
        report: Prints an error and returns the exit code.
    """
    code = 0
    for path in paths:
        try:
            command, record = shown_parameters(Path(path))
        except PhotoError as error:
            code = report(error, FILE)
        else:
            print(command)
            print(json.dumps(record, indent=1), file=sys.stderr)
    return code


def _xmp(path: Path) -> bytes | None:
    """XMP packet of a picture, of which the pixels are of no interest."""
    try:
        with tifffile.TiffFile(path) as file:
            return bytes(file.pages[0].tags[700].value)
    except Exception:
        # No TIFF, or a damaged one, which the reader explains.
        return read(path).details.xmp


def _spelled(value: object) -> tuple[str, str | None]:
    """A value as on the command line, and the digest of the file or folder it names, if it does."""
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    path = Path(text)
    # A folder of the photographer's computer is nobody's business.
    if isinstance(value, str) and path.is_file():
        return path.name, hashlib.sha256(path.read_bytes()).hexdigest()
    return path.name if path.is_absolute() else text, None


def _digests(job: Job, names: Mapping[Path, Path] | None = None) -> dict[str, str]:
    """Digests of all that is made of a photo, by what follows its name; of the map those of its radii alone.

    Args:
        job: The photo.
        names: Where each output lies for the time being; None where it belongs.
    """
    digests = {}
    for output in job.outputs:
        file = output if names is None else names[output]
        # The map will hold these digests.
        content = tifffile.imread(file).tobytes() if output == job.defocus_map else file.read_bytes()
        digests[output.name.removeprefix(job.result.name)] = hashlib.sha256(content).hexdigest()
    return digests


def _folder_digest(name: str) -> str | None:
    try:
        folder = weights_folder(name)
    except WeightsError:
        return None
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".json", ".safetensors"):
            digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
