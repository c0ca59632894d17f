"""Opens a page in the browser that makes defocused photos sharper, for trying ScoreFocus out.

    python samplers/demo.py [--port N] [--weights DIR] [--device NAME]

Needs the package gradio: pip install -e '.[demo]'. The page is on this machine alone unless --host says
otherwise, and nothing is fetched from or sent to the network. Photos and results lie in a temporary folder
that is removed at the end (Ctrl-C).

exit codes:
  0  the page was closed
  2  the command line, the weights, the device or the port cannot be used, or gradio is missing
"""

import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

# What is slow to import is imported where it is used: --help and usage errors answer at once.
from samplers.command_line import Parser, port, report_error
from samplers.exit_codes import USAGE
from samplers.standard_streams import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and serves the page until it is interrupted; returns the exit code."""
    parser = Parser(prog="demo.py", description=__doc__)
    parser.add_argument("--port", type=port, metavar="N", help="of the page (default: the first free one from 7860)")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="who can open it (default: 127.0.0.1)")
    parser.add_argument("--weights", metavar="DIR", help="folder of a saved pipeline (default: weights/base)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1 ... (default: auto)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="scorefocus-", ignore_cleanup_errors=True) as room:
        # Read when Gradio is imported or starts: no telemetry, and uploads go where they are removed at the end.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(Path(room) / "cache")}
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            needed = f"expected the package gradio, got an error: {error}: pip install -e '.[demo]'"
            return report_error("demo.py", needed, USAGE)
        return _serve(arguments.host, arguments.port, Path(room), arguments.weights, arguments.device)


def _serve(host: str, number: int | None, room: Path, weights: str | None, device: str) -> int:
    from samplers.batch_run import stoppable
    from samplers.chosen_method import MethodChoice, UsageError, make_method
    from samplers.config import ConfigError
    from samplers.demo_page import Desk, serve
    from samplers.weights import WeightsError

    desk = Desk(room, weights, device)
    try:
        with stoppable():
            _try_address(host, number)
            make_method(MethodChoice(weights=weights, device=device))
            _, address = serve(desk, host, number)
            print(f"{address} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()
    except (UsageError, ConfigError, WeightsError) as error:
        return report_error("demo.py", error, USAGE)
    except (OSError, UnicodeError) as error:
        option = f"--host {host}" if number is None else f"--host {host} --port {number}"
        reason = f"{option}: expected an address to serve the page at, got: {getattr(error, 'strerror', None) or error}"
        return report_error("demo.py", reason, USAGE)
    except KeyboardInterrupt:
        return 0
    finally:
        desk.close()


def _try_address(host: str, number: int | None) -> None:
    """Raises an OSError where nothing can be served: Gradio would try a hundred ports and talk about each."""
    family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
    socket.create_server((host, number or 0), family=family).close()


if __name__ == "__main__":
    run_command(main)
