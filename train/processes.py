"""What the processes of a run do alike: an error of one ends all of them, and is told once.

A launcher ends all processes when the first one has ended. So who has most to tell speaks and ends first: the main
process of its own error at once, another of its own later, and at last who knows only that another has ended.
"""

from collections.abc import Callable
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from samplers.launch import Launch

__all__ = ["ToldElsewhere", "ends", "lost_peer", "on_main_process", "on_every_process"]

Result = TypeVar("Result")


class ToldElsewhere(RuntimeError):
    """The main process tells the error that ends this one."""


def on_every_process(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Does work on every process, and waits for all.

    Args:
        accelerator: Of this process.
        work: What is done.

    Returns:
        What the work returned here.

    Raises:
        OSError, ValueError: If it raised one of these anywhere, the first of them, on the main process.
        ToldElsewhere: On the others.
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


def ends(error: Exception) -> str:
    """Lets those speak first who know more of why the run ends.

    Args:
        error: What ends this process.

    Returns:
        What it has to say, nothing if another process says it.
    """
    launch = Launch.of()
    launch.let_the_first_speak()
    if isinstance(error, ToldElsewhere):
        return ""
    if isinstance(error, RuntimeError) and lost_peer(error):
        launch.let_the_others_speak()
        return "another process of this run has ended, and this one with it"
    return _of_worker(str(error))


def _of_worker(text: str) -> str:
    """An error's own words: PyTorch puts the whole traceback of a data worker around them."""
    if not (text.startswith("Caught ") and "DataLoader worker" in text.partition("\n")[0]):
        return text
    last = text.rstrip().splitlines()[-1]
    return last.partition(": ")[2] or last


def _raise_alike(accelerator: Accelerator, failures: list[Exception | None]) -> None:
    first = next((failure for failure in failures if failure is not None), None)
    if first is None:
        return
    if accelerator.is_main_process:
        raise first
    raise ToldElsewhere
