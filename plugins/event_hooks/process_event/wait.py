"""The task `wait`: wait for the jobs of a process that the ledger names; record progress and outcomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from event_hooks.exceptions import EventHooksError, HiveRejected, HiveUnreachable
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.hive.poller import MAX_BACKOFF_SECONDS, MAX_REJECTION_SECONDS
from event_hooks.hive.sensor import DeferredSensor, read_final_outcomes
from event_hooks.hive.trigger import build_end_event
from event_hooks.hive.wait_summary import WaitSummary
from event_hooks.hive.watch import call_hook, watch_jobs
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run
from event_hooks.ledger.outcomes import request_stop, start_attempt
from event_hooks.ledger.processes import load_process_statuses, reopen_processes
from event_hooks.ledger.records import SUCCESS_STATES, ProcessState
from event_hooks.process_event import links, recording
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.process_event.links import LINKS
from event_hooks.process_event.planning import build_tokens
from event_hooks.process_event.stopping import select_by_position, stop_jobs
from event_hooks.process_event.wait_recorder import WaitRecorder
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.ledger.records import ProcessStatus, RunEvents

T = TypeVar("T")


class EventJobSensor(DeferredSensor):
    """
    Wait for the jobs of one process of a run, which the ledger names, with all their descendants.

    The ledger has their outcomes before the task ends. The XCom ``return_value`` is a ``WaitSummary``.

    :param process: its name in the ledger.
    :param ready_timeout: seconds after which a READY job is stalled.
    :param emits: types of the follow-up events of a success.
    :param guihive: as in :class:`event_hooks.process_event.submit.EventSubmitOperator`.
    """

    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        process: str,
        ready_timeout: float,
        emits: Sequence[str] = (),
        guihive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            trigger_cls="event_hooks.process_event.wait.EventJobTrigger",
            trigger_kwargs={
                "process": process,
                "ready_timeout": ready_timeout,
                # The serialized DAG has these arguments for each process, so defaults are left out.
                **({"emits": list(emits)} if emits else {}),
                **({"guihive": guihive} if guihive else {}),
            },
            **kwargs,
        )
        self.process = process
        self.ready_timeout = ready_timeout
        self.emits = emits
        self.guihive = guihive

    def summarize_after_timeout(self, context: Context) -> WaitSummary:
        """Read the jobs once more, record their outcomes, and return the summary of the wait."""
        ledger, attempt = Ledger(), str(context["ti"].id)
        run = load_run(ledger, context["dag_run"].run_id)
        statuses = load_process_statuses(ledger, run.run_id, self.process)
        for hive, group in _group_by_hive(filter(_is_waiting, statuses)).items():
            self._record_final_outcomes(ledger, run, hive, group, attempt)
        statuses = load_process_statuses(ledger, run.run_id, self.process)
        ledger.close()
        return _summarize(WaitSummary.start(attempt), statuses)

    def _record_final_outcomes(
        self, ledger: Ledger, run: RunEvents, hive: str, statuses: Sequence[ProcessStatus], attempt: str
    ) -> None:
        try:
            jobs = build_tokens(run.run_id, statuses)
            outcomes = read_final_outcomes(hive, jobs, self.timeout, self.ready_timeout)
        except EventHooksError as error:
            errors = dict.fromkeys(statuses, f"the wait reached its timeout, and {error}")
            recording.record_missing_outcomes(ledger, run, errors)
            return
        by_position = select_by_position(statuses, {outcome.job_id: outcome for outcome in outcomes})
        recording.record_outcomes(ledger, run, self.process, by_position, attempt, self.emits)


class EventJobTrigger(BaseTrigger):
    """
    Wait for the jobs of one process of a run, and record what their hives report.

    The trigger may run twice at the same time: what it records is idempotent. If the task was cleared after a
    wait, it resets failed jobs first. If a user marks the task as failed, it stops the jobs that have not
    started. Parameters as in :class:`EventJobSensor`.
    """

    def __init__(
        self, process: str, ready_timeout: float, emits: Sequence[str] = (), guihive: str | None = None
    ) -> None:
        super().__init__()
        self.process = process
        self.ready_timeout = ready_timeout
        self.emits = emits
        self.guihive = guihive

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, from which Airflow rebuilds the trigger in another process."""
        names = ("process", "ready_timeout", "emits", "guihive")
        return "event_hooks.process_event.wait.EventJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, after the ledger has the outcomes of all jobs."""
        xcoms = links.build_link_xcoms(self._run_id, self.guihive)
        summary = WaitSummary.start(self._attempt)
        try:
            await self._store_xcoms({**xcoms, "return_value": summary.to_json()})
            run = await self._write(partial(load_run, run_id=self._run_id))
            await self._wait(run)
            summary = _summarize(summary, await self._load_statuses())
        except EventHooksError as error:
            self.log.error("Wait failed: %s", error)  # noqa: TRY400 (the message names the cause)
            summary = summary.finish((), [str(error)], is_success=False)
        yield build_end_event(summary, xcoms)

    async def on_kill(self) -> None:
        """Stop jobs that have not started if a user marked the task as failed; do nothing after a clear."""
        await supervisor.run_to_end(self._stop_if_failed())

    @property
    def _run_id(self) -> str:
        if self.task_instance is None:
            raise RuntimeError("a trigger without its task belongs to no run")
        return str(self.task_instance.run_id)

    @property
    def _attempt(self) -> str:
        """``id`` of the task instance. A cleared task has a new one; a trigger that runs twice the same."""
        return str(self.task_instance.id) if self.task_instance else ""

    async def _store_xcoms(self, xcoms: Mapping[str, Any]) -> None:
        for key, value in xcoms.items():
            await supervisor.store_xcom(key, value, **supervisor.task_ids(self.task_instance) or {})

    async def _write(self, operation: Callable[[Ledger], T]) -> T:
        result: T = await get_ledger_writer().write(operation)
        return result

    async def _load_statuses(self) -> list[ProcessStatus]:
        return await self._write(partial(load_process_statuses, run_id=self._run_id, process=self.process))

    async def _wait(self, run: RunEvents) -> None:
        """Start or resume the attempt, and wait for the jobs of each hive; one hive affects no other."""
        statuses = await self._resume(run, await self._load_statuses())
        event_ids = [status.event_id for status in statuses if _is_waiting(status)]
        await self._write(
            partial(start_attempt, process=self.process, event_ids=event_ids, attempt=self._attempt)
        )
        groups = _group_by_hive(filter(_is_waiting, await self._load_statuses()))
        await asyncio.gather(*(self._watch(run, hive, group) for hive, group in groups.items()))

    async def _resume(self, run: RunEvents, statuses: Sequence[ProcessStatus]) -> Sequence[ProcessStatus]:
        """
        Reset the failed jobs if an earlier attempt waited for them, because the task was cleared.

        The processes are reopened before, and the attempt starts after it: if this is interrupted, the next
        trigger of the same task finds another attempt in the ledger, and resets the jobs again.
        """
        failed = [status for status in statuses if self._is_to_reopen(status)]
        if failed:
            event_ids = [status.event_id for status in failed]
            await self._write(partial(reopen_processes, process=self.process, event_ids=event_ids))
            statuses = await self._load_statuses()
        resumed = filter(self._is_of_earlier_attempt, filter(_is_waiting, statuses))
        for hive, group in _group_by_hive(resumed).items():
            await self._reset_jobs(hive, build_tokens(run.run_id, group))
        return statuses

    def _is_to_reopen(self, status: ProcessStatus) -> bool:
        is_failure = status.is_finished and status.state not in SUCCESS_STATES
        return is_failure and status.job_id is not None and self._is_of_earlier_attempt(status)

    def _is_of_earlier_attempt(self, status: ProcessStatus) -> bool:
        return status.attempt not in (None, self._attempt)

    async def _reset_jobs(self, hive: str, jobs: Mapping[int, str | None]) -> None:
        """Reset failed jobs; retry while the hive is unavailable, as the polls do."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((HiveUnreachable, HiveRejected)),
            stop=stop_after_delay(MAX_REJECTION_SECONDS),
            wait=wait_exponential(max=MAX_BACKOFF_SECONDS),
            before_sleep=self._log_retry,
            reraise=True,
        ):
            with attempt:
                result = await call_hook(hive, HiveHook.reset_jobs, jobs)
                self.log.info("Cleared; reset %s", format_job_ids(result.changed_ids))

    def _log_retry(self, state: RetryCallState) -> None:
        self.log.warning("%s; retrying", state.outcome and state.outcome.exception())

    async def _watch(self, run: RunEvents, hive: str, statuses: Sequence[ProcessStatus]) -> None:
        """Record the changes of jobs in one hive until the ledger has the outcomes of all."""
        jobs = build_tokens(run.run_id, statuses)
        self.log.info("Waiting for %s in %s", format_job_ids(list(jobs)), hive)
        positions = {status.job_id: status.position for status in statuses if status.job_id is not None}
        recorder = WaitRecorder(run, self.process, positions, self._attempt, self.emits)
        waited = max(map(_seconds_waited, statuses))
        stalls = {key for status in statuses for key in json.loads(status.stalls or "{}")}
        try:
            async for changes in watch_jobs(
                hive, jobs, self.ready_timeout, self.log, waited=waited, known_stalls=stalls
            ):
                recorder.record(changes)
            await recorder.flush()
        except EventHooksError as error:
            self.log.error("Wait for hive %s failed: %s", hive, error)  # noqa: TRY400
            await self._write(partial(self._record_error, run, statuses, str(error)))
        finally:
            recorder.close()

    def _record_error(
        self, run: RunEvents, statuses: Iterable[ProcessStatus], error: str, ledger: Ledger
    ) -> None:
        positions = {status.position for status in statuses}
        current = load_process_statuses(ledger, run.run_id, self.process)
        open_statuses = [status for status in current if _is_waiting(status) and status.position in positions]
        recording.record_missing_outcomes(ledger, run, dict.fromkeys(open_statuses, error))

    async def _stop_if_failed(self) -> None:
        """Request the stop in the ledger, stop the jobs, and record the outcomes."""
        ids = supervisor.task_ids(self.task_instance)
        if not ids or await supervisor.load_task_state(**ids) != "failed":
            return
        statuses = [status for status in await self._load_statuses() if _is_waiting(status)]
        event_ids = [status.event_id for status in statuses]
        await self._write(
            partial(request_stop, process=self.process, event_ids=event_ids, attempt=self._attempt)
        )
        run = await self._write(partial(load_run, run_id=self._run_id))
        requested = [status for status in await self._load_statuses() if status.stop_requested_at]
        for hive, group in _group_by_hive(requested).items():
            await self._stop(run, hive, group)

    async def _stop(self, run: RunEvents, hive: str, statuses: Sequence[ProcessStatus]) -> None:
        try:
            outcomes, message = await call_hook(hive, stop_jobs, build_tokens(run.run_id, statuses))
        except EventHooksError as error:
            self.log.error("Marked as failed; the stop is retried: %s", error)  # noqa: TRY400
            return
        self.log.warning("The task was marked as failed; %s", message)
        arguments = (self.process, select_by_position(statuses, outcomes), self._attempt, self.emits)
        await self._write(lambda ledger: recording.record_outcomes(ledger, run, *arguments))


def _is_waiting(status: ProcessStatus) -> bool:
    """Return whether a process has a job without an outcome."""
    return status.state == ProcessState.SUBMITTED and status.job_id is not None


def _seconds_waited(status: ProcessStatus) -> float:
    started_at = status.wait_started_at or datetime.now(UTC)
    return max(0.0, (datetime.now(UTC) - started_at).total_seconds())


def _group_by_hive(statuses: Iterable[ProcessStatus]) -> dict[str, list[ProcessStatus]]:
    groups: dict[str, list[ProcessStatus]] = {}
    for status in statuses:
        groups.setdefault(status.hive, []).append(status)
    return groups


def _summarize(summary: WaitSummary, statuses: Sequence[ProcessStatus]) -> WaitSummary:
    """Return the summary of a wait from the ledger: it succeeds if each event of the process has."""
    errors = [
        f"job {status.job_id} of event {status.event_id}: {status.error or status.state}"
        for status in statuses
        if status.state not in SUCCESS_STATES
    ]
    return summary.finish((status.state for status in statuses), errors, is_success=not errors)
