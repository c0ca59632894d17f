"""Content that is damaged at random, the same for the same seed."""

import os
import signal
from contextlib import contextmanager

CASES = int(os.environ.get("FUZZ_CASES", "0"))
"""Number of cases that `make fuzz` asks for; 0 for the small share that runs with all tests."""

SLOWEST = 60
"""Seconds for one case, on a machine with other work; what hangs takes forever."""


def mutated(data, draw):
    """Content with bytes changed, cut, doubled or put in; more often at its head, which decides more than pixels."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 30))):
        at = draw.randrange(max(min(len(data), draw.choice((32, 200, 1000, len(data)))), 1))
        kind = draw.randrange(7)
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            data[at : at + 4] = draw.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\1\0\0"))
        elif kind == 2 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 3:
            del data[at : at + draw.randrange(1, 60)]
        elif kind == 4:
            data[at:at] = data[at : at + draw.randrange(1, 60)]
        elif kind == 5:
            data[at:at] = draw.randbytes(draw.randrange(1, 20))
        elif kind == 6 and draw.random() < 0.3:
            del data[at:]
    return bytes(data) or b"\0"


@contextmanager
def without_hanging():
    """Raises TimeoutError if the block takes longer than a case may."""

    def late(number, frame):
        raise TimeoutError(f"a case took more than {SLOWEST} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SLOWEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
