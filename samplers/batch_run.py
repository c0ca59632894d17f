"""A batch that may be interrupted and resumed: which photos are left to do, and what became of each."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from photos import PhotoError
from photos.contact_sheet import Card, write_contact_sheet
from samplers.batch import ExistingError, Job, check_outputs
from samplers.claims import BusyError, claimed, claimed_in_turn, left_behind
from samplers.exit_codes import FAILED, FILE, MEMORY, NOT_FINITE, SOME_FAILED, USAGE
from samplers.guidance import GuidanceError
from samplers.one_photo import MapError
from samplers.record import Record
from samplers.restoring import OutOfMemory, out_of_memory
from samplers.summary import NAME, Row, table, write_summary
from samplers.wishes import MaskError

__all__ = ["FAILURES", "BatchRun", "FinishedError", "stoppable"]

FAILURES = (GuidanceError, PhotoError, MaskError, OutOfMemory, MemoryError, RuntimeError, ValueError, ArithmeticError)
"""What may come of a photo, and stops no other."""


class FinishedError(Exception):
    """The photo is done already, by an earlier run or another process; `facts` is its summary."""

    def __init__(self, facts: dict) -> None:
        super().__init__("done already")
        self.facts = facts


class BatchRun:
    """The photos of one command.

    Args:
        jobs: Photos and their results.
        out: Folder of the results.
        record: What reproduces the results.
        overwrite: Whether existing results are replaced.
        resume: Whether results are kept that this run would make again: same photo by content, same parameters.
        quiet: Whether to print errors alone.
        report: Prints an error and returns its exit code.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        out: Path,
        record: Record,
        *,
        overwrite: bool,
        resume: bool,
        quiet: bool,
        report: Callable[[object, int], int],
    ) -> None:
        self.out, self.record, self.overwrite, self.resume = out, record, overwrite, resume
        self.quiet, self.report = quiet, report
        self.jobs = list(jobs)
        self.rows = {job.result: Row.of(job) for job in jobs}
        self.lost: list[Row] = []
        self.failures: list[int] = []

    @property
    def code(self) -> int:
        """Exit code of all that was done so far."""
        if not self.failures:
            return 0
        return self.failures[0] if len(self.rows) + len(self.lost) == 1 else SOME_FAILED

    def lose(self, error: str) -> None:
        """Notes a path that led to no photo."""
        self.lost.append(Row(error.partition(": expected")[0], "failed", code=FILE, error=error))
        self.failures.append(self.report(error, FILE))

    def left(self) -> list[Job]:
        """The jobs that are to be done; those that cannot be are noted and reported."""
        ready = []
        for job in self.jobs:
            try:
                if self.resume and left_behind(job.result):
                    with claimed(job.result):
                        pass  # Whatever a killed process left is put in place, or cleared away.
                self.check(job)
            except FinishedError as finished:
                self.row(job).finish(job, self.out, "kept", finished.facts)
            except BusyError as error:
                # By the time of its turn it may be free.
                ready.append(job) if self.resume else self._fail(job, error, FILE, "busy")
            except PhotoError as error:
                self.failed(job, error)
            else:
                ready.append(job)
        return ready

    def restore(
        self,
        jobs: Sequence[Job],
        restore: Callable[[Job, str | None, Callable[[], None]], dict],
        given: Mapping[str, str | None],
    ) -> None:
        """Restores photo after photo; one that fails stops no other.

        Args:
            jobs: The photos.
            restore: Restores one, given a label for its progress or None, and what to call when no other process can be
                at work on it; see `samplers.one_photo.restore_file`.
            given: Names of the `map` and the `mask` that were given, for errors.
        """
        for number, job in self.turns(jobs):
            label, start = f"{job.photo.name} ({number} of {len(jobs)})", time.perf_counter()
            try:
                done = restore(job, None if self.quiet else self.bar(label), partial(self.check, job))
            except FinishedError as finished:
                self.row(job).finish(job, self.out, "kept", finished.facts)
            except BusyError as error:
                self.row(job).fail("busy", 0, error) if self.resume else self._fail(job, error, FILE, "busy")
            except FAILURES as error:
                self.failed(job, error, given)
            else:
                seconds = time.perf_counter() - start
                self.row(job).finish(job, self.out, "done", done, seconds)
                if not self.quiet:
                    print(f"{label}: {done['evaluations']} network evaluations, {seconds:.1f} s", file=sys.stderr)
                print(*job.outputs, sep="\n", flush=True)
            self.settled(job)

    def turns(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Job]]:
        """The photos in the order of their restoration, numbered from 1."""
        return enumerate(jobs, 1)

    def bar(self, label: str) -> str | None:
        """What stands at the bar of progress of a photo; None for no bar."""
        return label

    def settled(self, job: Job) -> None:
        """Called when it is known what became of a photo."""

    def failed(self, job: Job, error: Exception, given: Mapping[str, str | None] = MappingProxyType({})) -> None:
        """Notes and reports one of `FAILURES`; names of the `map` and the `mask` as of `restore`."""
        match error:
            case MapError():
                self._fail(job, f"{given['map']}: {error}", USAGE)
            case MaskError():
                self._fail(job, f"{given['mask']}: {error}", USAGE)
            case GuidanceError():
                self._fail(job, error, USAGE)
            case PhotoError():
                status = "exists" if isinstance(error, ExistingError) else "failed"
                self._fail(job, error, FILE, status)
            case OutOfMemory():
                self._fail(job, f"{job.photo}: {error}, got too little memory", MEMORY)
            case _ if out_of_memory(error):
                self._fail(job, f"{job.photo}: expected a photo that fits into memory, got too little memory", MEMORY)
            case FloatingPointError():
                self._fail(job, f"{job.photo}: expected a finite result, but {error}", NOT_FINITE)
            case _:
                kind = type(error).__name__
                self._fail(job, f"{job.photo}: expected to restore it, got a {kind}: {error}", FAILED)

    def _fail(self, job: Job, error: object, code: int, status: str = "failed") -> None:
        self.row(job).fail(status, code, error)
        self.failures.append(self.report(error, code))

    def check(self, job: Job) -> None:
        """Finds out whether a job is to be done.

        Raises:
            FinishedError: If it was done by an earlier run.
            PhotoError: If its results may not be written.
        """
        if self.resume and (facts := self.record.finished(job)) is not None:
            raise FinishedError(facts)
        check_outputs(job, self.overwrite)

    def row(self, job: Job) -> Row:
        """What is noted of a job."""
        return self.rows[job.result]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Sums up, whatever happened."""
        if not self.out.is_dir():
            self.sum_up()  # Of what was not written no other process knows.
            return False
        try:
            with claimed_in_turn(self.out / NAME):
                self.sum_up()
        except PhotoError as problem:
            self.failures.append(self.report(problem, FILE))
        return False

    def sum_up(self) -> None:
        """Writes summary and contact sheet of a batch of several photos, and prints the summary as a table."""
        rows = [*self.rows.values(), *self.lost]
        if len(rows) < 2:
            return
        if not self.quiet:
            print(table(rows), file=sys.stderr)
        if all(row.status == "exists" for row in rows):
            return
        try:
            write_summary(self.out, rows, self.record.parameters)
            if self.out.is_dir() and any(job.with_report for job in self.jobs):
                cards = [self._card(job) for job in self.jobs]
                write_contact_sheet(self.out / "contact_sheet.html", cards, f"Results in {self.out.name}")
        except PhotoError as error:
            self.failures.append(self.report(error, FILE))

    def _card(self, job: Job) -> Card:
        def address(file: Path) -> str | None:
            return os.path.relpath(file, self.out) if file.is_file() else None

        row = self.row(job)
        note = row.status if row.error is None else f"{row.status}: {row.error}"
        before = os.path.relpath(job.photo, self.out)
        report = address(job.report) if job.with_report else None
        return Card(job.photo.name, before, address(job.result), report, note)


@contextmanager
def stoppable(once: bool = False) -> Iterator[None]:
    """Lets a request to end the process (SIGTERM) stop the work as Ctrl-C does, so that nothing is left behind.

    Args:
        once: Whether further requests are passed over: a launcher adds its own to that of the keyboard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    requests = (signal.SIGTERM, signal.SIGINT) if once else (signal.SIGTERM,)

    def stop(number: int, frame: object) -> None:
        for request in requests if once else ():
            signal.signal(request, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {request: signal.signal(request, stop) for request in requests}
    try:
        yield
    finally:
        for request, handler in before.items():
            signal.signal(request, handler)
