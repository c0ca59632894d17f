"""Which of several processes this one is, as launchers (`accelerate launch`, `torchrun`) tell in the environment.

The environment is all that is used of them: in a process group the others would hang, or be ended, when one dies.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Launch"]

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SPEAKING_SECONDS = 10.0


@dataclass(frozen=True)
class Launch:
    """One of the processes of a command.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        local_rank: Its number on this machine, from 0.
        local_world: How many there are on this machine.
        on_cpu: Whether the launcher was told to leave GPUs alone.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    on_cpu: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Launch":
        """What the environment says; a process that has not all of `RANK`, `WORLD_SIZE` and `LOCAL_RANK` is alone."""
        on_cpu = environment.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")
        told = [environment.get(name, "") for name in _NAMES]
        if not all(text.isdecimal() for text in told):
            return cls(on_cpu=on_cpu)
        rank, world, local_rank = map(int, told)
        if not max(rank, local_rank) < world:
            return cls(on_cpu=on_cpu)
        here = environment.get("LOCAL_WORLD_SIZE", "")
        return cls(rank, world, local_rank, max(1, int(here)) if here.isdecimal() else world, on_cpu)

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def device(self, gpus: int) -> str:
        """The device of this process where none is named, of so many GPUs on this machine."""
        if self.on_cpu or gpus == 0:
            return "cpu"
        return "cuda" if self.alone else f"cuda:{self.local_rank % gpus}"

    def let_the_first_speak(self) -> None:
        """Waits for what process 0 has to say of a command that no process can follow; it alone says it.

        Launchers end all processes as soon as one has failed, so that the others must not be quicker.
        """
        if self.rank:
            self._wait(_SPEAKING_SECONDS)

    def let_the_others_speak(self) -> None:
        """Waits for what another process has to say of its own end, which comes after `let_the_first_speak`."""
        if not self.alone:
            self._wait(1.5 * _SPEAKING_SECONDS)

    def _wait(self, seconds: float) -> None:
        with suppress(KeyboardInterrupt):
            time.sleep(seconds)
