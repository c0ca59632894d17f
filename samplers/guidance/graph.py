"""Products captured in CUDA graphs: what costs many small kernels is sent to the device at once.

The steps are those of "CUDA Graphs" in PyTorch's documentation: a first product on a side stream, in which libraries
prepare what they need, such as plans of transforms; the capture there, which computes nothing; replays, which read one
array and write another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["CapturedMap"]


class CapturedMap:
    """A map between arrays of fixed shapes, captured once.

    What it reads beside its argument must stay where it is, and may not change. It must copy nothing to the device and
    read nothing back, as `optics.DefocusOperator`, whose blocks are computed in batches there.

    Args:
        apply: The map.
        like: An array of the shape, type and device of its arguments.

    Raises:
        ValueError: If the device is not CUDA's.
    """

    def __init__(self, apply: Callable[[Tensor], Tensor], like: Tensor) -> None:
        if like.device.type != "cuda":
            raise ValueError(f"a graph must be captured on a CUDA device, got {like.device}")
        # The graph knows addresses alone; what it reads lives as long as the map that refers to it.
        self._apply = apply
        self._x = like.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(like.device):
            stream, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(stream)
            with torch.cuda.stream(side):
                apply(self._x)
            stream.wait_stream(side)
            with torch.cuda.graph(self._graph, stream=side):
                self._image = apply(self._x)

    def __call__(self, x: Tensor) -> Tensor:
        """The map of x; overwritten by the next call."""
        self._x.copy_(x)
        # On the stream and device of its argument.
        with torch.cuda.device(x.device):
            self._graph.replay()
        return self._image
