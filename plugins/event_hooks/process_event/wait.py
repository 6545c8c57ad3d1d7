"""The task `wait`: wait for the jobs of a process; record their progress and outcomes, and report them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from event_hooks import settings
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.hive.trigger import HiveJobTrigger, parse_ids
from event_hooks.ledger.processes import reopen_processes, store_progress
from event_hooks.ledger.records import ProgressUpdate
from event_hooks.ledger.reports import store_reports
from event_hooks.process_event import links
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.process_event.links import LINKS
from event_hooks.process_event.recording import load_event_ids, record_outcomes
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.hive.reader import HiveChanges, JobProgress
    from event_hooks.hive.sql.diagnosis import Stall
    from event_hooks.hive.sql.outcomes import JobOutcome
    from event_hooks.ledger.database import Ledger
    from event_hooks.reports.report import Report

PROGRESS_WRITE_SECONDS = 2.0
"""Seconds between two writes of the jobs' progress."""


class EventJobSensor(HiveJobSensor):
    """
    A ``HiveJobSensor`` for jobs that belong to events of the run.

    :param process: its name, in reports.
    :param positions: a template of the positions of the jobs' events, from 0, in the order of ``job_ids``.
    :param emits: types of the follow-up events of a success.
    :param guihive: as in :class:`event_hooks.process_event.submit.EventSubmitOperator`.
    """

    operator_extra_links = LINKS
    template_fields: Sequence[str] = (*HiveJobSensor.template_fields, "positions")
    trigger_cls: ClassVar[str] = "event_hooks.process_event.wait.EventJobTrigger"

    def __init__(
        self,
        *,
        process: str,
        positions: str,
        emits: Sequence[str] = (),
        guihive: str | None = None,
        **kwargs: Any,
    ) -> None:
        trigger_kwargs = {
            "process": process,
            "positions": positions,
            "emits": list(emits),
            "guihive": guihive,
        }
        super().__init__(trigger_kwargs=trigger_kwargs, **kwargs)
        self.positions = positions
        self.guihive = guihive


class EventJobTrigger(HiveJobTrigger):
    """
    A ``HiveJobTrigger`` that records and reports progress and outcomes as it reads them.

    Each event of a batch is reported when its own job has finished. Each stall is reported once, as WARN.

    :param process: as in :class:`EventJobSensor`.
    :param positions: a list, or the text of a list.
    """

    def __init__(
        self,
        process: str,
        positions: Sequence[int] | str,
        emits: Sequence[str] = (),
        guihive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.process = process
        self.emits = emits
        self.guihive = guihive
        self.positions = positions
        self._last_write: asyncio.Future[None] | None = None
        self._progress: dict[int, JobProgress] = {}
        self._changed: dict[int, JobProgress] = {}
        self._progress_task: asyncio.Task[None] | None = None
        self._event_ids: dict[int, int] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        _, arguments = super().serialize()
        names = ("process", "positions", "emits", "guihive")
        own_arguments = {name: getattr(self, name) for name in names}
        return "event_hooks.process_event.wait.EventJobTrigger", {**arguments, **own_arguments}

    @cached_property
    def builder(self) -> ReportBuilder:
        """Builder of the reports about the run's events."""
        if self.task_instance is None:
            raise RuntimeError("a trigger without its task has no events")
        run = self.task_instance.get_template_context()["dag_run"]
        return ReportBuilder(run.conf, run.run_id)

    @cached_property
    def positions_by_job(self) -> dict[int, int]:
        """``{job_id: position of its event}``."""
        return dict(zip(parse_ids(self.job_ids), parse_ids(self.positions), strict=True))

    def extra_xcoms(self) -> dict[str, Any]:
        """Return the links of the task's page."""
        return links.build_link_xcoms(self.builder.run_id, self.guihive)

    async def report_stall(self, stall: Stall) -> bool:
        """Add one report of a stall for all events with a stalled job."""
        stalled_jobs = [job_id for job_id in self.positions_by_job if job_id in stall.stalled_jobs]
        positions = [self.positions_by_job[job_id] for job_id in stalled_jobs]
        report = self.builder.stalled(
            positions, self.process, stalled_jobs[0], stall.kind, str(stall), stall.key
        )
        await self._write(partial(self._add_report, report))
        return True

    def record_reopened(self) -> None:
        """Reopen the processes in the ledger, because the task was cleared."""
        self._write(self._reopen_processes)

    def record_changes(self, changes: HiveChanges) -> None:
        """Record outcomes, each with its report, and the progress of unfinished jobs."""
        if changes.outcomes:
            self._write(partial(self._record_outcomes, changes.outcomes))
            for outcome in changes.outcomes:
                self._progress.pop(outcome.job_id, None)
                self._changed.pop(outcome.job_id, None)
        progress = {job.job_id: job for job in changes.progress}
        self._progress |= progress
        self._changed |= progress
        if progress and self._progress_task is None:
            self._progress_task = asyncio.create_task(self._record_progress())

    async def flush_records(self) -> None:
        """Wait for the last write, at most ``ledger_timeout``; ``report`` stores missing outcomes."""
        if self._progress_task:
            self._progress_task.cancel()
        if self._last_write:
            await asyncio.wait([self._last_write], timeout=settings.ledger_timeout())

    async def cleanup(self) -> None:
        """Cancel the recording of progress."""
        if self._progress_task:
            self._progress_task.cancel()
        await super().cleanup()

    async def _record_progress(self) -> None:
        """Record changes every ``PROGRESS_WRITE_SECONDS``, and report them once per ``progress_interval``."""
        reported_at, is_unreported = time.monotonic(), False
        while True:
            changed, self._changed = self._changed, {}
            is_unreported = is_unreported or bool(changed)
            is_due = is_unreported and time.monotonic() - reported_at >= settings.progress_interval()
            if changed or is_due:
                reported = dict(self._progress) if is_due else {}
                await self._write(partial(self._store_progress, changed, reported))
            if is_due:
                reported_at, is_unreported = time.monotonic(), False
            await asyncio.sleep(PROGRESS_WRITE_SECONDS)

    def _write(self, operation: Callable[[Ledger], object]) -> asyncio.Future[None]:
        self._last_write = get_ledger_writer().write(operation)
        return self._last_write

    def _load_event_ids(self, ledger: Ledger) -> dict[int, int]:
        if not self._event_ids:
            self._event_ids = load_event_ids(ledger, self.builder.run_id)
        return self._event_ids

    def _add_report(self, report: Report, ledger: Ledger) -> None:
        event_ids = self._load_event_ids(ledger)
        store_reports(ledger, to_pending([report], self.builder.run_id, event_ids))

    def _reopen_processes(self, ledger: Ledger) -> None:
        event_ids = self._load_event_ids(ledger)
        positions = self.positions_by_job.values()
        reopen_processes(ledger, self.process, [event_ids[position] for position in positions])

    def _record_outcomes(self, outcomes: Sequence[JobOutcome], ledger: Ledger) -> None:
        outcomes_by_position = {
            self.positions_by_job[outcome.job_id]: outcome.as_dict() for outcome in outcomes
        }
        record_outcomes(
            ledger,
            self.builder,
            self.process,
            self._load_event_ids(ledger),
            outcomes_by_position,
            self.task_instance_id or "",
            self.emits,
        )

    def _store_progress(
        self, changed: Mapping[int, JobProgress], reported: Mapping[int, JobProgress], ledger: Ledger
    ) -> None:
        event_ids = self._load_event_ids(ledger)
        updates = [
            ProgressUpdate(
                event_ids[self.positions_by_job[job_id]],
                job.done,
                job.total,
                job.failed,
                job.message,
                job.is_started,
            )
            for job_id, job in changed.items()
        ]
        reports = [self._build_progress_report(reported)] if reported else []
        store_progress(ledger, self.process, updates, to_pending(reports, self.builder.run_id, event_ids))

    def _build_progress_report(self, progress: Mapping[int, JobProgress]) -> Report:
        """Sum up the progress of all jobs, with the last message of them."""
        job_ids = sorted(progress, key=self.positions_by_job.__getitem__)
        jobs = progress.values()
        messages = [job.message for job in jobs if job.message]
        total = ProgressUpdate(
            0,
            done=sum(job.done for job in jobs),
            total=sum(job.total for job in jobs),
            failed=sum(job.failed for job in jobs),
            message=messages[-1] if messages else None,
        )
        positions = [self.positions_by_job[job_id] for job_id in job_ids]
        return self.builder.progress(positions, self.process, job_ids[0], total)
