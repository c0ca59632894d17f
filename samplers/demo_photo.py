"""Writes the photo of `make demo`: a cat that is in focus at the eyes and defocused behind them.

    python samplers/demo_photo.py FOLDER

The photo is Chelsea by Stefan van der Walt, dedicated to the public domain (CC0). It comes with the
package scikit-image, so that nothing is downloaded here. Prints the path of the file.
"""

from pathlib import Path

from samplers.command_line import Parser, report_error
from samplers.exit_codes import FILE, USAGE
from samplers.standard_streams import run_command


def main(argv: list[str] | None = None) -> int:
    """Writes FOLDER/chelsea.png without loss; returns the exit code."""
    parser = Parser(prog="demo_photo.py", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if needed")
    folder = parser.parse_args(argv).folder
    try:
        from skimage.data import chelsea
    except ImportError:
        needed = "expected scikit-image, got no such package: pip install -e '.[sample]'"
        return report_error("demo_photo.py", needed, USAGE)
    from PIL import Image

    from photos import PhotoError
    from photos.files import make_folder, replacing

    file = folder / "chelsea.png"
    try:
        make_folder(folder)
        with replacing(file) as temporary:
            Image.fromarray(chelsea()).save(temporary, format="PNG")
    except PhotoError as error:
        return report_error("demo_photo.py", error, FILE)
    print(file)
    return 0


if __name__ == "__main__":
    run_command(main)
