"""Writes the photo of `make demo`: a cat that is in focus at the eyes and defocused behind them.

    python samplers/demo_photo.py FOLDER

The photo is Chelsea by Stefan van der Walt, dedicated to the public domain (CC0). It comes with the
package scikit-image, so that nothing is downloaded here. Prints the path of the file.
"""

import sys
from pathlib import Path

from samplers.command_line import Parser


def main(argv: list[str] | None = None) -> int:
    """Writes FOLDER/chelsea.png without loss; returns the exit code."""
    parser = Parser(prog="demo_photo.py", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if needed")
    folder = parser.parse_args(argv).folder
    try:
        from skimage.data import chelsea
    except ImportError:
        print("demo_photo.py: expected scikit-image, got no such package: pip install -e '.[sample]'", file=sys.stderr)
        return 2
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "chelsea.png"
    Image.fromarray(chelsea()).save(file)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
