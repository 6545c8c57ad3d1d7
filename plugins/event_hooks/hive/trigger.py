"""Trigger that waits for jobs of a hive."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.connection import resolve_hive_async
from event_hooks.hive.hook import MAX_LOGGED_JOBS, HiveHook, format_job_ids
from event_hooks.hive.poller import get_poller
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.wait_state import WaitState, parse_wait_state
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from event_hooks.hive.reader import HiveChanges, JobProgress
    from event_hooks.hive.sql.control import ControlResult
    from event_hooks.hive.sql.diagnosis import Stall
    from event_hooks.hive.sql.outcomes import JobOutcome

MAX_LOGGED_ERRORS = 200
"""Errors and warnings of jobs that are logged after one poll; the reports contain all of them."""


class HiveJobTrigger(BaseTrigger):
    """
    Wait until the trees of submitted jobs are finished; the task succeeds only if all jobs are complete.

    The trigger may run twice at the same time. It only reads, except for two idempotent operations: if the
    task was cleared after it had ended, it resets failed jobs; if a user marks the task as failed, it stops
    the jobs that have not started.

    :param job_ids: a list, or the text of a list, which is the result of a rendered template.
    :param ready_timeout: seconds after which a READY job is stalled.
    """

    def __init__(self, hive_conn_id: str, job_ids: Sequence[int] | str, ready_timeout: float) -> None:
        super().__init__()
        self.hive_conn_id = hive_conn_id
        self.job_ids = job_ids
        self.ready_timeout = ready_timeout
        self._stalls: Mapping[str, Stall] = {}
        self._confirmed_stalls: set[str] = set()
        self._report_tasks: dict[str, asyncio.Task[None]] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, from which Airflow rebuilds the trigger in another process."""
        names = ("hive_conn_id", "job_ids", "ready_timeout")
        return "event_hooks.hive.trigger.HiveJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Yield one event when all jobs are finished.

        :raises ValueError: ``job_ids`` is not a list of job ids.
        """
        job_ids = parse_ids(self.job_ids)
        self.log.info("Waiting for %s in %s", format_job_ids(job_ids), self.hive_conn_id)
        try:
            state = await self._start_or_resume(job_ids)
            if not state.is_finished:
                outcomes = {outcome.job_id: outcome async for outcome in self._iter_outcomes(job_ids, state)}
                state.outcomes = [outcomes[job_id] for job_id in job_ids]
        except EventHooksError as error:
            self.log.error("Wait failed: %s", error)  # noqa: TRY400 (the message names the cause)
            state = WaitState(error=str(error), task_instance_id=self.task_instance_id)
        await self.flush_records()
        event_class = TaskSuccessEvent if state.is_success else TaskFailedEvent
        yield event_class(xcoms={**self.extra_xcoms(), "return_value": state.to_json()})

    async def on_kill(self) -> None:
        """Stop jobs that have not started if a user marked the task as failed; do nothing after a clear."""
        if await self._load_task_state() != "failed":
            return
        state = WaitState(
            error="the task was marked as failed; jobs that have not started are being stopped",
            task_instance_id=self.task_instance_id,
        )
        await self._store_state(state)
        message = await self._stop_jobs()
        self.log.warning("The task was marked as failed; %s", message)
        state.error = f"the task was marked as failed; {message}"
        await self._store_state(state)

    def extra_xcoms(self) -> dict[str, Any]:
        """Return further XComs of the task, which are stored at the start of the wait and at its end."""
        return {}

    async def report_stall(self, stall: Stall) -> bool:
        """Report a stall in addition to the log; return whether this succeeded, otherwise it is retried."""
        return True

    def record_reopened(self) -> None:
        """Record that the task was cleared and waits for the jobs again."""

    def record_changes(self, changes: HiveChanges) -> None:
        """Record the changes that a poll found, in addition to the log."""

    async def flush_records(self) -> None:
        """Wait until all changes are recorded, before the task ends."""

    @property
    def task_instance_id(self) -> str | None:
        """``id`` of the task instance; ``None`` outside of Airflow."""
        return str(self.task_instance.id) if self.task_instance else None

    async def _start_or_resume(self, job_ids: Sequence[int]) -> WaitState:
        """
        Start a wait, or resume the wait that Airflow started before, here or in another triggerer.

        Airflow keeps the XCom of a cleared task. If the XCom is from another task instance, the task was
        cleared after a wait, and failed jobs are reset.
        """
        previous = parse_wait_state(await self._load_return_value())
        if previous and previous.task_instance_id == self.task_instance_id:
            return previous
        if previous:
            result = await self._control_jobs(HiveHook.reset_jobs, job_ids)
            self.log.info("Cleared; reset %s", format_job_ids(result.changed_ids))
            self.record_reopened()
        state = WaitState(task_instance_id=self.task_instance_id)
        await self._store_state(state)
        for key, value in self.extra_xcoms().items():
            await self._store_xcom(key, value)
        return state

    async def _iter_outcomes(self, job_ids: Sequence[int], state: WaitState) -> AsyncIterator[JobOutcome]:
        waited = max(0.0, (datetime.now(UTC) - state.since).total_seconds())
        finished_count = 0
        async for changes in get_poller(self.hive_conn_id).subscribe(job_ids, self.ready_timeout, waited):
            finished_count += len(changes.outcomes)
            self._log_changes(changes)
            if changes.outcomes and len(job_ids) > 1:
                self.log.info("%s of %s jobs are finished", finished_count, len(job_ids))
            self.record_changes(changes)
            if changes.is_stall_check:
                self._update_stalls({stall.key: stall for stall in changes.stalls}, state)
            for outcome in changes.outcomes:
                yield outcome

    def _log_changes(self, changes: HiveChanges) -> None:
        if changes.message:
            self.log.warning("%s", changes.message)
        for progress in changes.progress[:MAX_LOGGED_JOBS]:
            self.log.info("%s", _format_progress(progress))
        if (more := len(changes.progress) - MAX_LOGGED_JOBS) > 0:
            self.log.info("Progress of %s more jobs", more)
        complete = [outcome for outcome in changes.outcomes if outcome.state is JobState.COMPLETE]
        for outcome in complete[:MAX_LOGGED_JOBS]:
            self.log.info("Job %s is complete", outcome.job_id)
        with_message = [outcome for outcome in changes.outcomes if outcome.warning or outcome.error]
        for outcome in with_message[:MAX_LOGGED_ERRORS]:
            if outcome.warning:
                self.log.warning("Job %s is complete, but %s", outcome.job_id, outcome.warning)
            else:
                self.log.error("Job %s is %s: %s", outcome.job_id, outcome.state, outcome.error)

    def _update_stalls(self, stalls: Mapping[str, Stall], state: WaitState) -> None:
        """
        Log and report stalls that two consecutive checks found.

        A stall that only one check finds is ignored: the beekeeper may be restarting.

        :param stalls: ``{Stall.key: stall}`` of this check.
        """
        for key in self._confirmed_stalls - stalls.keys():
            self.log.info("No longer stalled: %s", key)
            state.reported_stalls.discard(key)
        confirmed = self._stalls.keys() & stalls.keys()
        for key in sorted(confirmed - self._confirmed_stalls):
            self.log.warning("%s", stalls[key])
        for key in sorted(confirmed - state.reported_stalls - self._report_tasks.keys()):
            # A task of its own, because the wait must continue while the report cannot be stored.
            self._report_tasks[key] = asyncio.create_task(self._report_stall_once(stalls[key], state))
        self._stalls, self._confirmed_stalls = stalls, confirmed

    async def _report_stall_once(self, stall: Stall, state: WaitState) -> None:
        try:
            if await self.report_stall(stall):
                state.reported_stalls.add(stall.key)
                await self._store_state(state)
        finally:
            del self._report_tasks[stall.key]

    async def _stop_jobs(self) -> str:
        """Stop jobs that have not started; return a message with the result."""
        try:
            result = await self._control_jobs(HiveHook.stop_jobs, parse_ids(self.job_ids))
        except EventHooksError as error:
            return f"jobs that had not started could not be stopped: {error}"
        stopped, running = format_job_ids(result.changed_ids), format_job_ids(result.running_ids)
        return f"stopped before they started: {stopped}; still running: {running}"

    async def _control_jobs(
        self, operation: Callable[[HiveHook, Sequence[int]], ControlResult], job_ids: Sequence[int]
    ) -> ControlResult:
        """Run an operation of the hook in a new thread: the executor of the event loop may be busy."""
        hook = HiveHook(self.hive_conn_id, await resolve_hive_async(self.hive_conn_id))
        executor = ThreadPoolExecutor(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, operation, hook, job_ids)
        finally:
            executor.shutdown(wait=False)

    async def _store_state(self, state: WaitState) -> None:
        """Store the state as XCom, unless another triggerer has stored the end of this wait."""
        stored = parse_wait_state(await self._load_return_value())
        if stored and stored.task_instance_id == state.task_instance_id:
            is_end = stored.outcomes is not None or (stored.is_finished and not state.is_finished)
            if is_end:
                return
        await self._store_xcom("return_value", state.to_json())

    async def _load_return_value(self) -> Any:
        if ids := self._task_ids():
            return await supervisor.load_xcom("return_value", **ids)
        return None

    async def _store_xcom(self, key: str, value: Any) -> None:
        if ids := self._task_ids():
            await supervisor.store_xcom(key, value, **ids)

    async def _load_task_state(self) -> str | None:
        """Return the state of the task instance, which a user may have changed."""
        ids = self._task_ids()
        return await supervisor.load_task_state(**ids) if ids else None

    def _task_ids(self) -> dict[str, str] | None:
        task_instance = self.task_instance
        if task_instance is None:
            return None
        return {
            "dag_id": task_instance.dag_id,
            "task_id": task_instance.task_id,
            "run_id": task_instance.run_id,
        }


def parse_ids(value: Sequence[int] | str) -> list[int]:
    """
    Return a list of integers, such as job ids, from a list or from the text of a list.

    :raises ValueError: the value is no list, or contains anything else.
    """
    ids = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(ids, list | tuple) or not all(type(job_id) is int for job_id in ids):
        raise ValueError(f"job_ids: expected a list of job ids, not {value!r}")
    return list(ids)


def _format_progress(progress: JobProgress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    message = f": {progress.message}" if progress.message else ""
    return f"Job {progress.job_id}: {progress.done} of {progress.total} jobs done{failed}{message}"
