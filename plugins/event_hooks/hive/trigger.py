"""Wait for jobs of a hive, inside the triggerer."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.connection import resolve_hive_async
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.hive.poller import get_poller
from event_hooks.hive.sql.job_trees import State
from event_hooks.hive.wait_state import WaitState, loads
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from event_hooks.hive.reader import HiveChanges, Progress
    from event_hooks.hive.sql.diagnosis import Stall
    from event_hooks.hive.sql.outcomes import JobOutcome

T = TypeVar("T")

SHOWN = 20
"""Jobs that one line, or one look, names one by one in the log."""

SHOWN_ERRORS = 200
"""Failed jobs of one look that are shown with their message; the reports have all."""


class HiveJobTrigger(BaseTrigger):
    """
    Wait until jobs are over, and end the task: as a success only if all are complete.

    May run twice at once: it only reads, but for two things a person asked for, which are harmless to repeat.
    Cleared after it ended, it lets what failed run again. Marked as failed, it stops what has not begun.

    :param job_ids: a list, or the text of one, which is what a rendered template gives.
    :param ready_timeout: seconds that a job may be READY before that is a trouble.
    """

    def __init__(self, hive_conn_id: str, job_ids: Sequence[int] | str, ready_timeout: float) -> None:
        super().__init__()
        self.hive_conn_id = hive_conn_id
        self.job_ids = job_ids
        self.ready_timeout = ready_timeout
        self._troubles: dict[str, Stall] = {}
        self._certain: set[str] = set()
        self._warnings: dict[str, asyncio.Task[None]] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give class path and arguments; Airflow rebuilds the trigger from them elsewhere."""
        names = ("hive_conn_id", "job_ids", "ready_timeout")
        return "event_hooks.hive.trigger.HiveJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, when all jobs are over."""
        job_ids = parse_ids(self.job_ids)
        self.log.info("Waiting for %s in %s", format_job_ids(job_ids), self.hive_conn_id)
        try:
            waiting = await self._begin(job_ids)
            if not waiting.is_finished:
                found = {outcome.job_id: outcome async for outcome in self._outcomes(job_ids, waiting)}
                waiting.outcomes = [found[job_id] for job_id in job_ids]
        except EventHooksError as error:
            self.log.error("Gave up waiting: %s", error)  # noqa: TRY400 (the message says it all)
            waiting = WaitState(error=str(error), ti=self._ti_id())
        await self.noted()
        ended = TaskSuccessEvent if waiting.is_success else TaskFailedEvent
        yield ended(xcoms={**self.left_behind(), "return_value": waiting.dumps()})

    async def on_kill(self) -> None:
        """Stop what has not begun, if a person marked the task as failed; a clear comes here as well."""
        if await self._state() != "failed":
            return
        waiting = WaitState(
            error="a person ended the wait; what has not begun is being stopped", ti=self._ti_id()
        )
        await self._leave(waiting)
        try:
            hook = HiveHook(self.hive_conn_id, await resolve_hive_async(self.hive_conn_id))
            stopped = await run_in_thread(hook.stop, parse_ids(self.job_ids))
        except EventHooksError as error:
            what = f"what had not begun could not be stopped: {error}"
        else:
            what = f"stopped before they began: {format_job_ids(stopped.jobs)}; running on: {format_job_ids(stopped.running)}"
        self.log.warning("A person ended this wait; %s", what)
        waiting.error = f"a person ended the wait; {what}"
        await self._leave(waiting)

    def left_behind(self) -> dict[str, Any]:
        """Give further XComs of the task, which are there from the beginning of the wait."""
        return {}

    async def warn(self, stall: Stall) -> bool:
        """Tell people of a trouble, beyond the log; tell whether that was done, else it is tried again."""
        return True

    def note_again(self) -> None:
        """Note that the task was cleared, and the jobs are waited for again."""

    def note(self, found: HiveChanges) -> None:
        """Note what a look has found, beyond the log."""

    async def noted(self) -> None:
        """Wait for what was noted, before the task ends."""

    async def _begin(self, job_ids: Sequence[int]) -> WaitState:
        """
        Begin a wait, or go on with one that Airflow started before, here or in another triggerer.

        After one of another task instance, which was cleared since, what failed runs again: Airflow keeps
        its XCom.
        """
        before = loads(await self._left())
        if before and before.ti == self._ti_id():
            return before
        if before:
            hook = HiveHook(self.hive_conn_id, await resolve_hive_async(self.hive_conn_id))
            change = await run_in_thread(hook.reset, job_ids)
            self.log.info("Cleared. Let run again: %s", format_job_ids(change.jobs))
            self.note_again()
        waiting = WaitState(ti=self._ti_id())
        await self._leave(waiting)
        for key, value in self.left_behind().items():
            await self._keep(key, value)
        return waiting

    async def _outcomes(self, job_ids: Sequence[int], waiting: WaitState) -> AsyncIterator[JobOutcome]:
        waited = (datetime.now(UTC) - waiting.since).total_seconds()
        open_count = len(job_ids)
        async for found in get_poller(self.hive_conn_id).watch(job_ids, self.ready_timeout, max(0.0, waited)):
            if found.word:
                self.log.warning("%s", found.word)
            open_count -= len(found.outcomes)
            self._tell(found, open_count, len(job_ids))
            self.note(found)
            if found.is_stall_check:
                self._judge({stall.key: stall for stall in found.stalls}, waiting)
            for outcome in found.outcomes:
                yield outcome

    def _judge(self, stalls: dict[str, Stall], waiting: WaitState) -> None:
        """Tell of troubles that were there at the last search as well: a beekeeper may just be restarting."""
        for key in self._certain - stalls.keys():
            self.log.info("No longer held up by %s", key)
            waiting.told.discard(key)
        certain = self._troubles.keys() & stalls.keys()
        for key in sorted(certain - self._certain):
            self.log.warning("%s", stalls[key])
        for key in sorted(certain - waiting.told - self._warnings.keys()):
            # Beside the wait, which must not end with a broker that is down.
            self._warnings[key] = asyncio.create_task(self._warn(stalls[key], waiting))
        self._troubles, self._certain = stalls, certain

    async def _warn(self, stall: Stall, waiting: WaitState) -> None:
        try:
            if await self.warn(stall):
                waiting.told.add(stall.key)
                await self._leave(waiting)
        finally:
            del self._warnings[stall.key]

    def _tell(self, found: HiveChanges, open_count: int, count: int) -> None:
        for progress in found.progress[:SHOWN]:
            self.log.info("%s", _line(progress))
        if (more := len(found.progress) - SHOWN) > 0:
            self.log.info("%s more jobs have got on", more)
        complete = [outcome for outcome in found.outcomes if outcome.state is State.COMPLETE]
        for outcome in complete[:SHOWN]:
            self.log.info("Job %s is complete", outcome.job_id)
        if found.outcomes and count > 1:
            self.log.info("%s of %s jobs are over", count - open_count, count)
        for outcome in [one for one in found.outcomes if one.warning or one.error][:SHOWN_ERRORS]:
            if outcome.warning:
                self.log.warning("Job %s is complete, but %s", outcome.job_id, outcome.warning)
            else:
                self.log.error("Job %s is %s: %s", outcome.job_id, outcome.state, outcome.error)

    async def _left(self) -> Any:
        if place := self._place():
            return await XCom.aget_one(key="return_value", **place)
        return None

    async def _leave(self, waiting: WaitState) -> None:
        """Leave word for others, but not over the end of this wait: another triggerer may have seen it."""
        left = loads(await self._left())
        is_mine = left is not None and left.ti == waiting.ti
        if left and is_mine and (left.outcomes is not None or (left.is_finished and not waiting.is_finished)):
            return
        await self._keep("return_value", waiting.dumps())

    async def _keep(self, key: str, value: Any) -> None:
        if place := self._place():
            await XCom.aset(key, value, **place)

    def _ti_id(self) -> str | None:
        return str(self.task_instance.id) if self.task_instance else None

    def _place(self) -> dict[str, Any] | None:
        ti = self.task_instance
        return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id} if ti else None

    async def _state(self) -> str | None:
        """Return the state of the task instance, which a user may have changed."""
        if (ti := self.task_instance) is None:
            return None
        return await supervisor.load_task_state(ti.dag_id, ti.task_id, ti.run_id)


async def run_in_thread(work: Callable[[Sequence[int]], T], job_ids: Sequence[int]) -> T:
    """Do what a person is waiting for without a place in the queue of the event loop's few threads."""
    thread = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work, job_ids)
    finally:
        thread.shutdown(wait=False)


def parse_ids(given: Sequence[int] | str) -> list[int]:
    """
    Read numbers, as of jobs, also from the text of a list.

    :raises ValueError: if that is not what it is.
    """
    ids = ast.literal_eval(given) if isinstance(given, str) else given
    if not isinstance(ids, list | tuple) or not all(type(job_id) is int for job_id in ids):
        raise ValueError(f"job_ids: expected a list of job ids, not {given!r}")
    return list(ids)


def _line(progress: Progress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    message = f": {progress.message}" if progress.message else ""
    return f"Job {progress.job_id}: {progress.done} of {progress.total} jobs done{failed}{message}"
