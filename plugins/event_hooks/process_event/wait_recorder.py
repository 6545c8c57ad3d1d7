"""Record what a wait reads from its hives: progress, stalls and outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from event_hooks import settings
from event_hooks.exceptions import LedgerValueRejected
from event_hooks.ledger.records import ProgressUpdate
from event_hooks.process_event import recording
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.reports.builder import ReportBuilder

if TYPE_CHECKING:
    from event_hooks.hive.reader import HiveChanges, JobProgress
    from event_hooks.hive.sql.outcomes import JobOutcome
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import RunEvents
    from event_hooks.reports.report import Report

PROGRESS_WRITE_SECONDS = 2.0
"""Seconds between two writes of the jobs' progress."""


class WaitRecorder:
    """
    Record the changes of the jobs of one process of a run in one hive.

    Each event of a batch is reported when its own job has finished.

    :param positions: ``{job id: position of its event}``.
    :param attempt: id of the task instance that waits.
    :param emits: types of the follow-up events of a success.
    """

    def __init__(
        self, run: RunEvents, process: str, positions: Mapping[int, int], attempt: str, emits: Sequence[str]
    ) -> None:
        self.run = run
        self.process = process
        self.positions = positions
        self.attempt = attempt
        self.emits = emits
        self._writes: list[asyncio.Future[None]] = []
        self._last_outcomes: asyncio.Future[None] | None = None
        self._progress: dict[int, JobProgress] = {}
        self._changed: dict[int, JobProgress] = {}
        self._progress_task: asyncio.Task[None] | None = None

    def record(self, changes: HiveChanges) -> None:
        """Record outcomes, each with its report, confirmed stalls, and the progress of unfinished jobs."""
        if changes.outcomes:
            outcomes = {self.positions[outcome.job_id]: outcome for outcome in changes.outcomes}
            arguments = (self.run, self.process, outcomes, self.attempt, self.emits)
            self._last_outcomes = self._write(partial(_record_outcomes, *arguments))
            for outcome in changes.outcomes:
                self._progress.pop(outcome.job_id, None)
                self._changed.pop(outcome.job_id, None)
        if changes.is_stall_check:
            self._record_stalls(changes)
        progress = {job.job_id: job for job in changes.progress}
        self._progress |= progress
        self._changed |= progress
        if progress and self._progress_task is None:
            self._progress_task = asyncio.create_task(self._record_progress())

    async def catch_up(self) -> None:
        """Wait until the last outcomes are stored, so that few results are in memory; errors are ignored."""
        if self._last_outcomes:
            await asyncio.wait([self._last_outcomes])

    async def flush(self) -> None:
        """
        Wait until everything is recorded, however long the ledger is unavailable.

        :raises LedgerRejected: the ledger cannot store a value.
        """
        self.close()
        await asyncio.gather(*self._writes)

    def close(self) -> None:
        """Stop recording progress; what was passed to the writer is recorded nevertheless."""
        if self._progress_task:
            self._progress_task.cancel()

    def _record_stalls(self, changes: HiveChanges) -> None:
        stalls: dict[int, dict[str, str]] = {}
        for stall in changes.stalls:
            for job_id in stall.stalled_jobs:
                stalls.setdefault(self.positions[job_id], {})[stall.key] = str(stall)
        jobs = {position: job_id for job_id, position in self.positions.items()}
        arguments = (self.run, self.process, jobs, stalls)
        self._write(lambda ledger: recording.record_stalls(ledger, *arguments))

    async def _record_progress(self) -> None:
        """Record changes every ``PROGRESS_WRITE_SECONDS``, and report them once per ``progress_interval``."""
        reported_at, is_unreported = time.monotonic(), False
        while True:
            changed, self._changed = self._changed, {}
            is_unreported = is_unreported or bool(changed)
            is_due = is_unreported and time.monotonic() - reported_at >= settings.progress_interval()
            if changed or is_due:
                report = self._build_progress_report() if is_due and self._progress else None
                updates = [self._to_update(job) for job in changed.values()]
                arguments = (self.run, self.process, updates, report)
                # The cancellation of this task would also cancel the write, for which flush waits.
                await asyncio.shield(self._write(partial(_record_progress, *arguments)))
            if is_due:
                reported_at, is_unreported = time.monotonic(), False
            await asyncio.sleep(PROGRESS_WRITE_SECONDS)

    def _write(self, operation: Callable[[Ledger], None]) -> asyncio.Future[None]:
        future = get_ledger_writer().write(operation, key=(self.run.run_id, self.process))
        self._writes = [write for write in self._writes if not write.done() or write.exception()]
        self._writes.append(future)
        return future

    def _to_update(self, job: JobProgress) -> ProgressUpdate:
        event_id = self.run.event_ids[self.positions[job.job_id]]
        return ProgressUpdate(event_id, job.done, job.total, job.failed, job.message, job.is_started)

    def _build_progress_report(self) -> Report:
        """Sum up the progress of all jobs, with the last message of them."""
        job_ids = sorted(self._progress, key=self.positions.__getitem__)
        jobs = self._progress.values()
        messages = [job.message for job in jobs if job.message]
        total = ProgressUpdate(
            0,
            done=sum(job.done for job in jobs),
            total=sum(job.total for job in jobs),
            failed=sum(job.failed for job in jobs),
            message=messages[-1] if messages else None,
        )
        positions = [self.positions[job_id] for job_id in job_ids]
        return ReportBuilder(self.run).progress(positions, self.process, job_ids[0], total)


def _record_outcomes(
    run: RunEvents,
    process: str,
    outcomes: Mapping[int, JobOutcome],
    attempt: str,
    emits: Sequence[str],
    ledger: Ledger,
) -> None:
    """
    Record outcomes; if the ledger cannot store one of them, record the others one by one.

    :raises LedgerValueRejected: the ledger cannot store an outcome.
    """
    try:
        recording.record_outcomes(ledger, run, process, outcomes, attempt, emits)
    except LedgerValueRejected:
        if len(outcomes) == 1:
            raise
    else:
        return
    errors = []
    for position, outcome in outcomes.items():
        try:
            recording.record_outcomes(ledger, run, process, {position: outcome}, attempt, emits)
        except LedgerValueRejected as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _record_progress(
    run: RunEvents, process: str, updates: Sequence[ProgressUpdate], report: Report | None, ledger: Ledger
) -> None:
    recording.record_progress(ledger, run, process, updates, report)
