"""Submit the jobs of a run's events and wait for them; write down what becomes of them, and report it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from event_hooks import links, reason, settings
from event_hooks.exceptions import JobElsewhere
from event_hooks.hive.operator import HiveSubmitOperator
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.hive.trigger import HiveJobTrigger, as_numbers
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import Progress
from event_hooks.links import LINKS
from event_hooks.reports.outbox import owed, positions, settle
from event_hooks.reports.story import Story
from event_hooks.scribe import scribe_of_loop

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from event_hooks.hive.outcomes import JobOutcome
    from event_hooks.hive.troubles import Trouble
    from event_hooks.hive.visitor import Findings
    from event_hooks.hive.visitor import Progress as HiveProgress
    from event_hooks.ledger.records import Standing
    from event_hooks.reports.report import Report

PROGRESS_PAUSE = 2.0
"""Seconds between two writes of how far jobs are."""


class EventSubmitOperator(HiveSubmitOperator):
    """
    A ``HiveSubmitOperator`` that notes the jobs in the ledger, and reports that they are there.

    :param process: its name there.
    :param guihive: where people look at its hive, if anywhere.
    """

    operator_extra_links = LINKS

    def __init__(self, *, process: str, guihive: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.process = process
        self.guihive = guihive

    def execute(self, context: Context) -> list[int]:
        """
        Submit, note and tell: if the second fails, the retry finds the same jobs.

        :raises JobElsewhere: the API server, which reads a changed lookup first, has submitted it elsewhere.
        """
        run = context["dag_run"]
        story, ledger = Story(run.conf, run.run_id), Ledger()
        with reason.left_behind(context["ti"]):
            self._see_where_jobs_are(ledger.standing(run.run_id))
        job_ids = super().execute(context)
        ids = positions(ledger, run.run_id)
        jobs = dict(zip(self.positions, job_ids, strict=True))
        reports = [story.submitted(at, self.process, job_id) for at, job_id in jobs.items()]
        noted = {(ids[at], self.process): job_id for at, job_id in jobs.items()}
        ledger.record_jobs(noted, owed(reports, run.run_id, ids))
        ledger.close()
        return job_ids

    def _see_where_jobs_are(self, standing: Sequence[Standing]) -> None:
        for one in standing:
            is_here = (one.hive, one.analysis) == (self.hive_conn_id, self.analysis)
            if one.process == self.process and one.job_id is not None and not is_here:
                raise JobElsewhere(self.process, one.job_id, one.hive, one.analysis)


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
    trigger_cls: ClassVar[str] = "event_hooks.event_jobs.EventJobTrigger"

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
        return "event_hooks.event_jobs.EventJobTrigger", {**arguments, **own}

    @cached_property
    def story(self) -> Story:
        """What is told of the run's events."""
        if self.task_instance is None:
            raise RuntimeError("a trigger without its task has no events")
        run = self.task_instance.get_template_context()["dag_run"]
        return Story(run.conf, run.run_id)

    @cached_property
    def places(self) -> dict[int, int]:
        """``{job_id: position of its event}``."""
        return dict(zip(as_numbers(self.job_ids), as_numbers(self.positions), strict=True))

    def left_behind(self) -> dict[str, Any]:
        """Give the links of the task's page."""
        return links.as_xcoms(self.story.run_id, self.guihive)

    async def warn(self, trouble: Trouble) -> bool:
        """Owe the report of it, for all events that it holds up."""
        held_up = [job_id for job_id in self.places if job_id in trouble.held_up]
        report = self.story.held_up(
            [self.places[job_id] for job_id in held_up],
            self.process,
            held_up[0],
            trouble.kind,
            str(trouble),
            trouble.key,
        )
        await self._write(lambda ledger: ledger.owe(owed([report], self.story.run_id, self._known(ledger))))
        return True

    def note_again(self) -> None:
        """Open what had ended."""
        self._write(
            lambda ledger: ledger.reopen(
                self.process, [self._known(ledger)[at] for at in self.places.values()]
            )
        )

    def note(self, found: Findings) -> None:
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
        self._last = scribe_of_loop().write(deed)
        return self._last

    def _known(self, ledger: Ledger) -> dict[int, int]:
        if not self._ids:
            self._ids = positions(ledger, self.story.run_id)
        return self._ids

    def _settle(self, outcomes: Sequence[JobOutcome], ledger: Ledger) -> None:
        told = {self.places[outcome.job_id]: outcome.as_dict() for outcome in outcomes}
        settle(ledger, self.story, self.process, self._known(ledger), told, self._ti_id() or "", self.emits)

    def _note_progress(
        self, changed: Mapping[int, HiveProgress], shown: Mapping[int, HiveProgress], ledger: Ledger
    ) -> None:
        ids = self._known(ledger)
        noted = [
            Progress(ids[self.places[job_id]], one.done, one.total, one.failed, one.message, one.is_begun)
            for job_id, one in changed.items()
        ]
        reports = [self._in_progress(shown)] if shown else []
        ledger.record_progress(self.process, noted, owed(reports, self.story.run_id, ids))

    def _in_progress(self, shown: Mapping[int, HiveProgress]) -> Report:
        job_ids = sorted(shown, key=self.places.__getitem__)
        sums = {
            count: sum(getattr(one, count) for one in shown.values()) for count in ("done", "total", "failed")
        }
        messages = [one.message for one in shown.values() if one.message]
        progress = Progress(0, message=messages[-1] if messages else None, **sums)
        whose = [self.places[job_id] for job_id in job_ids]
        return self.story.progress(whose, self.process, job_ids[0], progress)
