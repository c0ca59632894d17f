"""Curves of ICC colour profiles: from stored values to light, channel by channel.

References:
    ICC.1:2022 (profile version 4.4), sections 7 (header and tags), 8.3 (matrix and curves), 10.6 (curveType) and 10.18
    (parametricCurveType).
"""

import struct
from collections.abc import Callable

import numpy as np

__all__ = ["Curve", "curves_of"]

Curve = Callable[[np.ndarray], np.ndarray]
"""Stored values in [0, 1] to light in [0, 1], elementwise."""


def curves_of(icc: bytes | None) -> tuple[Curve, Curve, Curve] | None:
    """The curves of a profile that consists of curves and a matrix, as those of cameras and working spaces do.

    Args:
        icc: The profile.

    Returns:
        Curves of red, green and blue, three times the same for a grey profile; None where there is no profile, or it
        is damaged or of another kind.
    """
    try:
        tags = _tags(icc or b"")
        if b"kTRC" in tags:
            return (_curve(tags[b"kTRC"]),) * 3
        # Where a table of colours stands beside the curves, it has precedence, and the curves are no curves of light.
        if b"A2B0" in tags or not {b"rTRC", b"gTRC", b"bTRC"} <= tags.keys():
            return None
        return tuple(_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except (ValueError, struct.error):
        return None


def _tags(icc: bytes) -> dict[bytes, bytes]:
    if icc[36:40] != b"acsp":
        raise ValueError("expected an ICC profile")
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 200:
        raise ValueError("expected an ICC profile")
    entries = [struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(count)]
    return {name: icc[offset : offset + size] for name, offset, size in entries}


def _curve(tag: bytes) -> Curve:
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        numbers = struct.unpack_from(f">{count}H", tag, 12)
        if count == 0:
            return lambda x: x
        if count == 1:
            return lambda x: x ** (numbers[0] / 256)
        table = np.array(numbers) / 65535
        return lambda x: np.interp(x, np.linspace(0, 1, count), table)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        if kind > 4:
            raise ValueError(f"expected parametric curves from 0 to 4, got {kind}")
        values = [value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
        return _parametric(kind, values)
    raise ValueError(f"expected a curve, got {tag[:4]!r}")


def _parametric(kind: int, values: list[float]) -> Curve:
    """Y = (aX + b)^g + e from d on, and cX + f below, in the notation of the specification."""
    g, a, b, c, d, e, f = values[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind in (1, 2):
        a, b = values[1:3]
        if a == 0:
            raise ValueError("expected a curve that rises")
        e = f = values[3] if kind == 2 else 0.0
        d = -b / a
    elif kind >= 3:
        a, b, c, d = values[1:5]
        e, f = values[5:7] if kind == 4 else (0.0, 0.0)

    def curve(x: np.ndarray) -> np.ndarray:
        return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)

    return curve
