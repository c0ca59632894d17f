"""A batch whose photos several processes share: every photo once, every sentence once, one summary of all."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from photos import PhotoError
from samplers.batch import Job
from samplers.batch_run import BatchRun, FinishedError
from samplers.chosen_method import UsageError
from samplers.crew import Crew
from samplers.exit_codes import FILE, INTERRUPTED, USAGE
from samplers.launch import Launch
from samplers.record import Record
from samplers.summary import Row
from samplers.weights import WeightsError

__all__ = ["SharedRun"]


class SharedRun(BatchRun):
    """The photos of one command that a launcher has started as several processes.

    Photos are checked and restored by the process that takes them. All processes end together, with the same exit code
    but for those that were interrupted or could not begin: a launcher ends all as soon as one has failed.

    Args:
        launch: Which process this one is.
        jobs: Photos and their results, the same in all processes.
        out: Folder of the results.
        record: What reproduces the results.
        overwrite: See `BatchRun`, as for the other arguments.
        resume: Whether results are kept that this run would make again.
        quiet: Whether to print errors alone.
        report: Prints an error and returns its exit code.

    Raises:
        PhotoError: If the folder of the results cannot be written, or another command is at work in it.
    """

    def __init__(
        self,
        launch: Launch,
        jobs: Sequence[Job],
        out: Path,
        record: Record,
        *,
        overwrite: bool,
        resume: bool,
        quiet: bool,
        report: Callable[[object, int], int],
    ) -> None:
        super().__init__(jobs, out, record, overwrite=overwrite, resume=resume, quiet=quiet, report=self._report_once)
        self.prints = report
        self.stopped: int | None = None
        self.crew = Crew(launch, out)

    @property
    def code(self) -> int:
        """Exit code of this process."""
        return super().code if self.stopped is None else self.stopped

    def left(self) -> list[Job]:
        """All jobs: who takes one checks it."""
        return self.jobs

    def turns(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Job]]:
        """The photos that fall to this process, numbered among all."""
        numbered = {job.result: (number, job) for number, job in enumerate(jobs, 1)}
        for result in self.crew.shares(list(numbered)):
            yield numbered[result]

    def bar(self, label: str) -> None:
        """No progress within a photo: the bars of several processes would overwrite one another."""

    def settled(self, job: Job) -> None:
        """Tells the other processes what became of a photo."""
        self.crew.note(job.result, asdict(self.row(job)))

    def check(self, job: Job) -> None:
        """As `BatchRun.check`; what a process has finished that died before it could say so, is done as well."""
        if self.crew.inherited(job.result) and (facts := self.record.finished(job)) is not None:
            raise FinishedError(facts)
        super().check(job)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Waits for the other processes, unless interrupted, and sums up, or lets another one do so.

        Returns:
            Whether the error was reported: those are that end this process but not the others.
        """
        try:
            if isinstance(error, UsageError | WeightsError | PhotoError):
                self.stopped = self.report(error, FILE if isinstance(error, PhotoError) else USAGE)
            if not isinstance(error, KeyboardInterrupt):
                self.crew.wait()
        except KeyboardInterrupt as interruption:
            error = interruption
        if isinstance(error, KeyboardInterrupt):
            self._settle_all()
            self.stopped = self.report("interrupted", INTERRUPTED)
        with self.crew.leaving() as sums_up:
            self._gather()
            if sums_up and self._left_something():
                self.sum_up()
        return self.stopped is not None

    def _settle_all(self) -> None:
        """Tells the others what this process has finished: the interrupt may have come before it could say so."""
        with suppress(PhotoError):
            for job in self.jobs:
                if self.row(job).status != "open":
                    self.settled(job)

    def _gather(self) -> None:
        """Takes over what the other processes noted."""
        for job in self.jobs:
            if self.row(job).status == "open" and (noted := self.crew.row(job.result)) is not None:
                row = self.rows[job.result] = Row(**noted)
                self.failures += [row.code] if row.code else []

    def _left_something(self) -> bool:
        """Whether the folder was there before, or holds something; else it goes again: one process would make none."""
        return not self.crew.made or any(not name.startswith(".") for name in os.listdir(self.out))

    def _report_once(self, error: object, code: int) -> int:
        return self.prints(error, code) if self.crew.says_first(str(error)) else code
