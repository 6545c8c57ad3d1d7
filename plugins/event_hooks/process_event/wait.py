"""Submit the jobs of a run's events and wait for them; write down what becomes of them, and report it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from event_hooks import settings
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.hive.trigger import HiveJobTrigger, parse_ids
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import reopen_processes, store_progress
from event_hooks.ledger.records import Progress
from event_hooks.ledger.reports import add_reports
from event_hooks.process_event import links
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.process_event.links import LINKS
from event_hooks.process_event.recording import load_event_ids, record_outcomes
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.hive.reader import HiveChanges
    from event_hooks.hive.reader import Progress as HiveProgress
    from event_hooks.hive.sql.diagnosis import Stall
    from event_hooks.hive.sql.outcomes import JobOutcome
    from event_hooks.reports.report import Report

PROGRESS_PAUSE = 2.0
"""Seconds between two writes of how far jobs are."""


class EventJobSensor(HiveJobSensor):
    """
    A ``HiveJobSensor`` whose jobs belong to events of the run.

    :param process: its name, in reports.
    :param positions: a template of the events that the jobs are for, counted from 0, in the jobs' order.
    :param emits: types of the events that follow from a success.
    :param guihive: as of :class:`EventSubmitOperator`.
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
        given = {"process": process, "positions": positions, "emits": list(emits), "guihive": guihive}
        super().__init__(trigger_kwargs=given, **kwargs)
        self.positions = positions
        self.guihive = guihive


class EventJobTrigger(HiveJobTrigger):
    """
    A ``HiveJobTrigger`` that writes down progress and outcomes as they come, and reports them.

    In a batch each event is told of when its own job is over. Each trouble is reported once, as WARN.

    :param process: as in :class:`EventJobSensor`.
    :param positions: a list, or the text of one.
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
        self._last: asyncio.Future[None] | None = None
        self._progress: dict[int, HiveProgress] = {}
        self._changed: dict[int, HiveProgress] = {}
        self._telling: asyncio.Task[None] | None = None
        self._ids: dict[int, int] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give class path and arguments."""
        _, arguments = super().serialize()
        names = ("process", "positions", "emits", "guihive")
        own = {name: getattr(self, name) for name in names}
        return "event_hooks.process_event.wait.EventJobTrigger", {**arguments, **own}

    @cached_property
    def story(self) -> ReportBuilder:
        """What is told of the run's events."""
        if self.task_instance is None:
            raise RuntimeError("a trigger without its task has no events")
        run = self.task_instance.get_template_context()["dag_run"]
        return ReportBuilder(run.conf, run.run_id)

    @cached_property
    def places(self) -> dict[int, int]:
        """``{job_id: position of its event}``."""
        return dict(zip(parse_ids(self.job_ids), parse_ids(self.positions), strict=True))

    def left_behind(self) -> dict[str, Any]:
        """Give the links of the task's page."""
        return links.as_xcoms(self.story.run_id, self.guihive)

    async def warn(self, stall: Stall) -> bool:
        """Owe the report of it, for all events that it holds up."""
        stalled_jobs = [job_id for job_id in self.places if job_id in stall.stalled_jobs]
        report = self.story.stalled(
            [self.places[job_id] for job_id in stalled_jobs],
            self.process,
            stalled_jobs[0],
            stall.kind,
            str(stall),
            stall.key,
        )
        await self._write(
            lambda ledger: add_reports(ledger, to_pending([report], self.story.run_id, self._known(ledger)))
        )
        return True

    def note_again(self) -> None:
        """Open what had ended."""
        self._write(
            lambda ledger: reopen_processes(
                ledger, self.process, [self._known(ledger)[at] for at in self.places.values()]
            )
        )

    def note(self, found: HiveChanges) -> None:
        """Write down outcomes, each with its report, and how far the others are."""
        if found.outcomes:
            self._write(partial(self._settle, found.outcomes))
            for outcome in found.outcomes:
                self._progress.pop(outcome.job_id, None)
                self._changed.pop(outcome.job_id, None)
        news = {progress.job_id: progress for progress in found.progress}
        self._progress |= news
        self._changed |= news
        if news and self._telling is None:
            self._telling = asyncio.create_task(self._tell_progress())

    async def noted(self) -> None:
        """Give the ledger a moment; what it has not by then, the run's ``report`` writes down."""
        if self._telling:
            self._telling.cancel()
        if self._last:
            await asyncio.wait([self._last], timeout=settings.ledger_timeout())

    async def cleanup(self) -> None:
        """End what runs beside the wait."""
        if self._telling:
            self._telling.cancel()
        await super().cleanup()

    async def _tell_progress(self) -> None:
        """Write down what has changed every other second, and report it at most once in each interval."""
        told, untold = time.monotonic(), False
        while True:
            changed, self._changed = self._changed, {}
            untold = untold or bool(changed)
            is_time = untold and time.monotonic() - told >= settings.progress_interval()
            if changed or is_time:
                shown = dict(self._progress) if is_time else {}
                await self._write(partial(self._note_progress, changed, shown))
            if is_time:
                told, untold = time.monotonic(), False
            await asyncio.sleep(PROGRESS_PAUSE)

    def _write(self, deed: Callable[[Ledger], object]) -> asyncio.Future[None]:
        self._last = get_ledger_writer().write(deed)
        return self._last

    def _known(self, ledger: Ledger) -> dict[int, int]:
        if not self._ids:
            self._ids = load_event_ids(ledger, self.story.run_id)
        return self._ids

    def _settle(self, outcomes: Sequence[JobOutcome], ledger: Ledger) -> None:
        told = {self.places[outcome.job_id]: outcome.as_dict() for outcome in outcomes}
        record_outcomes(
            ledger, self.story, self.process, self._known(ledger), told, self._ti_id() or "", self.emits
        )

    def _note_progress(
        self, changed: Mapping[int, HiveProgress], shown: Mapping[int, HiveProgress], ledger: Ledger
    ) -> None:
        ids = self._known(ledger)
        noted = [
            Progress(ids[self.places[job_id]], one.done, one.total, one.failed, one.message, one.is_started)
            for job_id, one in changed.items()
        ]
        reports = [self._in_progress(shown)] if shown else []
        store_progress(ledger, self.process, noted, to_pending(reports, self.story.run_id, ids))

    def _in_progress(self, shown: Mapping[int, HiveProgress]) -> Report:
        job_ids = sorted(shown, key=self.places.__getitem__)
        sums = {
            count: sum(getattr(one, count) for one in shown.values()) for count in ("done", "total", "failed")
        }
        messages = [one.message for one in shown.values() if one.message]
        progress = Progress(0, message=messages[-1] if messages else None, **sums)
        whose = [self.places[job_id] for job_id in job_ids]
        return self.story.progress(whose, self.process, job_ids[0], progress)
