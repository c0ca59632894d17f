"""Standard streams that may close before a command has said all, as by `| head -1` or on a full disk.

Results matter more than the lines that name them: a command goes on without.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

from samplers.command_line import report_error
from samplers.exit_codes import INTERRUPTED

__all__ = ["StandardStream", "run_command"]


class StandardStream:
    """What a stream is, but for errors of writing: after the first one all that is written is dropped.

    Args:
        stream: Standard output or error output.

    Attributes:
        error: Why nothing can be written any more; None while it can.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.error = stream, None

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, if that is possible, and returns its length."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, if that is possible."""
        self._try(self._stream.flush)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            self.error = error
            # What is left in its buffer, too, is to go somewhere when the process ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Ends the process by a command.

    Whoever closes a pipe has seen enough, and nothing is said of it. Any other error of the standard output is
    reported, and makes the exit code 1 where it would have been 0.

    Args:
        main: Returns the exit code.
    """
    # A stream that was closed from the start is None, and what is printed there goes nowhere.
    sys.stdout, sys.stderr = (stream and StandardStream(stream) for stream in (sys.stdout, sys.stderr))
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        # While a command's imports take their seconds; later it says more itself.
        code = report_error(Path(sys.argv[0]).name, "interrupted", INTERRUPTED)
    if sys.stdout is not None:
        sys.stdout.flush()
        error = sys.stdout.error
        if error is not None and not isinstance(error, BrokenPipeError):
            message = f"standard output: expected to write to it, got: {error.strerror}"
            print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
            code = code or 1
    sys.exit(code)
