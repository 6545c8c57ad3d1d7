"""Trigger that waits for jobs of a hive."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.wait_summary import WaitSummary, parse_wait_summary
from event_hooks.hive.watch import call_hook, watch_jobs
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from event_hooks.hive.sql.outcomes import JobOutcome


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
        summary = WaitSummary.start(self._task_instance_id)
        try:
            summary = await self._start_or_resume(job_ids)
            if not summary.is_finished:
                summary = summarize_outcomes(summary, await self._wait(job_ids, summary.waited))
        except EventHooksError as error:
            self.log.error("Wait failed: %s", error)  # noqa: TRY400 (the message names the cause)
            summary = summary.finish((), [str(error)], is_success=False)
        yield build_end_event(summary)

    async def on_kill(self) -> None:
        """Stop jobs that have not started if a user marked the task as failed; do nothing after a clear."""
        await supervisor.run_to_end(self._stop_if_failed())

    @property
    def _task_instance_id(self) -> str | None:
        """``id`` of the task instance; ``None`` outside of Airflow."""
        return str(self.task_instance.id) if self.task_instance else None

    async def _start_or_resume(self, job_ids: Sequence[int]) -> WaitSummary:
        """
        Start a wait, or resume the wait that Airflow started before, here or in another triggerer.

        Airflow keeps the XCom of a cleared task. If the XCom is from another task instance, the task was
        cleared after a wait, and failed jobs are reset.
        """
        ids = supervisor.task_ids(self.task_instance)
        previous = parse_wait_summary(await supervisor.load_xcom("return_value", **ids) if ids else None)
        if previous and previous.task_instance_id == self._task_instance_id:
            return previous
        if previous:
            result = await call_hook(self.hive_conn_id, HiveHook.reset_jobs, dict.fromkeys(job_ids))
            self.log.info("Cleared; reset %s", format_job_ids(result.changed_ids))
        summary = WaitSummary.start(self._task_instance_id)
        if ids:
            await supervisor.store_xcom("return_value", summary.to_json(), **ids)
        return summary

    async def _wait(self, job_ids: Sequence[int], waited: float) -> list[JobOutcome]:
        jobs, outcomes = dict.fromkeys(job_ids), dict[int, "JobOutcome"]()
        async for changes in watch_jobs(self.hive_conn_id, jobs, self.ready_timeout, self.log, waited=waited):
            # The results would stay in memory until the last job has finished.
            outcomes |= {outcome.job_id: replace(outcome, result=None) for outcome in changes.outcomes}
        return [outcomes[job_id] for job_id in job_ids]

    async def _stop_if_failed(self) -> None:
        ids = supervisor.task_ids(self.task_instance)
        if not ids or await supervisor.load_task_state(**ids) != "failed":
            return
        stored = parse_wait_summary(await supervisor.load_xcom("return_value", **ids))
        if stored and stored.is_finished:  # another triggerer ended the task
            return
        jobs = dict.fromkeys(parse_ids(self.job_ids))
        try:
            result = await call_hook(self.hive_conn_id, HiveHook.stop_jobs, jobs)
            stopped, running = format_job_ids(result.changed_ids), format_job_ids(result.running_ids)
            message = f"stopped before they started: {stopped}; still running: {running}"
        except EventHooksError as error:
            message = f"jobs that had not started could not be stopped: {error}"
        message = f"the task was marked as failed; {message}"
        self.log.warning("%s", message)
        summary = (stored or WaitSummary.start(self._task_instance_id)).finish(
            (), [message], is_success=False
        )
        await supervisor.store_xcom("return_value", summary.to_json(), **ids)


def build_end_event(summary: WaitSummary, xcoms: dict[str, Any] | None = None) -> TriggerEvent:
    """Return the event that ends the task with this summary, and with further XComs."""
    event_class = TaskSuccessEvent if summary.state == "success" else TaskFailedEvent
    return event_class(xcoms={**(xcoms or {}), "return_value": summary.to_json()})


def summarize_outcomes(summary: WaitSummary, outcomes: Sequence[JobOutcome]) -> WaitSummary:
    """Return the summary of a wait that ended with these outcomes; only COMPLETE is success."""
    errors = [f"job {outcome.job_id}: {outcome.error}" for outcome in outcomes if outcome.error]
    is_success = all(outcome.state is JobState.COMPLETE for outcome in outcomes)
    return summary.finish((outcome.state.value for outcome in outcomes), errors, is_success=is_success)


def parse_ids(value: Sequence[int] | str) -> list[int]:
    """
    Return a list of integers, such as job ids, from a list or from the text of a list.

    :raises ValueError: the value is no list, or contains anything else.
    """
    ids = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(ids, list | tuple) or not all(type(job_id) is int for job_id in ids):
        raise ValueError(f"job_ids: expected a list of job ids, not {value!r}")
    return list(ids)
