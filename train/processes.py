"""What the processes of a run do alike: an error of one ends all of them, and is told once."""

from collections.abc import Callable
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

__all__ = ["lost_peer", "on_main_process", "on_every_process"]

Result = TypeVar("Result")


def on_every_process(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Does work on every process, and waits for all.

    Args:
        accelerator: Of this process.
        work: What is done.

    Returns:
        What the work returned here.

    Raises:
        OSError, ValueError: If it raised one of these anywhere, the first of them, on the main process.
        SystemExit: On the others, which then have nothing to tell.
    """
    result, failure = None, None
    try:
        result = work()
    except (OSError, ValueError) as error:
        failure = error
    _raise_alike(accelerator, gather_object([failure]))
    return result


def on_main_process(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Does work on the main process alone; every process gets what it returned, or ends as `on_every_process` says."""
    result = on_every_process(accelerator, work if accelerator.is_main_process else lambda: None)
    return broadcast_object_list([result])[0]


def lost_peer(error: RuntimeError) -> bool:
    """Whether an error of a collective operation says no more than that another process has ended."""
    # Gloo and NCCL raise what they can; only the store has a class of its own.
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    return type(error).__name__.startswith("Dist") or any(sign in str(error) for sign in signs)


def _raise_alike(accelerator: Accelerator, failures: list[Exception | None]) -> None:
    first = next((failure for failure in failures if failure is not None), None)
    if first is None:
        return
    if accelerator.is_main_process:
        raise first
    raise SystemExit(1)
