"""The wait of one attempt of the task `wait` for the jobs of one process of a run, inside a triggerer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from event_hooks.exceptions import (
    EventHooksError,
    HiveRejected,
    HiveUnreachable,
    LedgerUnreachable,
    StopWithdrawn,
)
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.hive.poller import MAX_BACKOFF_SECONDS, MAX_REJECTION_SECONDS
from event_hooks.hive.reader import read_final_outcomes
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.watch import call_hook, watch_jobs
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import CONN_ID
from event_hooks.ledger.events import load_run
from event_hooks.ledger.outcomes import request_stop, start_attempt
from event_hooks.ledger.processes import STATES_TO_WAIT_FOR, load_process_statuses, reopen_processes
from event_hooks.ledger.records import ProcessState
from event_hooks.process_event import recording
from event_hooks.process_event.ledger_writer import get_ledger_writer
from event_hooks.process_event.planning import build_tokens
from event_hooks.process_event.stopping import is_of_attempt, select_by_position, stop_jobs
from event_hooks.process_event.summaries import correct_summaries
from event_hooks.process_event.wait_recorder import WaitRecorder

if TYPE_CHECKING:
    from datetime import datetime

    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import ProcessStatus, RunEvents

T = TypeVar("T")

CHECK_SECONDS = 5.0
"""Timeout of the question whether a stop is still wanted."""

REPEAT_SECONDS = 1.0
"""Pause before a wait is repeated, because another attempt has started meanwhile."""


@dataclass(frozen=True)
class EventWait:
    """
    The wait of one task instance for the jobs of one process of a run.

    Two waits of the same task instance may run at the same time: what they record is idempotent.
    """

    run_id: str
    process: str
    attempt: str
    """``id`` of the task instance. A cleared task has a new one; a trigger that runs twice has the same."""

    ready_timeout: float
    """Seconds after which a READY job is stalled."""

    emits: Sequence[str]
    """Types of the follow-up events of a success."""

    log: Any
    """Logger of the task."""

    async def _write(self, operation: Callable[[Ledger], T]) -> T:
        result: T = await get_ledger_writer().write(operation, key=(self.run_id, self.process))
        return result

    async def load_statuses(self) -> list[ProcessStatus]:
        return await self._write(partial(load_process_statuses, run_id=self.run_id, process=self.process))

    async def wait(self) -> None:
        """
        Wait until the ledger has the outcomes of all jobs; one hive affects no other.

        It is repeated while processes have no outcome: the trigger of an earlier task instance, which Airflow
        is about to end, may have started its attempt after this one.
        """
        run = await self._write(partial(load_run, run_id=self.run_id))
        statuses = await self._resume(run, await self.load_statuses())
        while any(map(is_waiting, statuses)):
            event_ids = [status.event_id for status in statuses]
            await self._write(
                partial(start_attempt, process=self.process, event_ids=event_ids, attempt=self.attempt)
            )
            groups = group_by_hive(filter(is_waiting, await self.load_statuses()))
            await asyncio.gather(*(self._watch(run, hive, group) for hive, group in groups.items()))
            # A process that a user retries since is for the next task instance.
            statuses = [status for status in await self.load_statuses() if not status.is_retry_requested]
            if any(map(is_waiting, statuses)):
                await asyncio.sleep(REPEAT_SECONDS)
        await self._write(partial(correct_summaries, run_id=self.run_id, process=self.process))

    async def _resume(self, run: RunEvents, statuses: Sequence[ProcessStatus]) -> Sequence[ProcessStatus]:
        """
        Reset the failed jobs if another attempt waited for them before, because the task was cleared.

        If the API has cleared the task, only those of the processes that a user retries. The processes are
        reopened before, and the attempt starts after it: if this is interrupted, the next trigger of the
        same task finds another attempt in the ledger, and resets the jobs again.
        """
        cleared = self._select_cleared(statuses)
        finished = [status for status in cleared if status.state in STATES_TO_WAIT_FOR]
        complete = [status for status in finished if status.state == ProcessState.COMPLETE]
        unchanged = await self._find_unchanged(run, complete) if complete else ()
        event_ids = [status.event_id for status in finished if status not in unchanged]
        if event_ids:
            await self._write(partial(reopen_processes, process=self.process, event_ids=event_ids))
            statuses = await self.load_statuses()
        resumed = filter(is_waiting, self._select_cleared(statuses))
        for hive, group in group_by_hive(resumed).items():
            await self._reset_jobs(hive, build_tokens(run.run_id, group))
        return statuses

    async def _find_unchanged(
        self, run: RunEvents, statuses: Sequence[ProcessStatus]
    ) -> Collection[ProcessStatus]:
        """Return the complete processes whose jobs are still complete, or deleted since: none was reset."""
        unchanged: list[ProcessStatus] = []
        for hive, group in group_by_hive(statuses).items():
            read_states = partial(read_final_outcomes, has_results=False)
            outcomes = await call_hook(hive, read_states, build_tokens(run.run_id, group))
            states = {outcome.job_id: outcome.state for outcome in outcomes}
            unchanged += [
                status
                for status in group
                if states.get(status.job_id or 0) in (JobState.COMPLETE, JobState.MISSING)
            ]
        return unchanged

    def _select_cleared(self, statuses: Sequence[ProcessStatus]) -> list[ProcessStatus]:
        """Return the processes that a user retries, or else all that another attempt waited for."""
        earlier = [status for status in statuses if status.attempt not in (None, self.attempt)]
        return [status for status in earlier if status.is_retry_requested] or earlier

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
        recorder = WaitRecorder(run, self.process, positions, self.attempt, self.emits)
        now = await self._write(load_time)
        waited = max(_seconds_waited(status, now) for status in statuses)
        stalls = {key for status in statuses for key in json.loads(status.stalls or "{}")}
        try:
            async for changes in watch_jobs(
                hive, jobs, self.ready_timeout, self.log, waited=waited, known_stalls=stalls
            ):
                recorder.record(changes)
                await recorder.catch_up()
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
        open_statuses = [status for status in current if is_waiting(status) and status.position in positions]
        recording.record_missing_outcomes(ledger, run, dict.fromkeys(open_statuses, error))

    async def stop(self) -> None:
        """Request the stop of the jobs in the ledger, stop them, and record the outcomes."""
        statuses = [status for status in await self.load_statuses() if is_waiting(status)]
        event_ids = [status.event_id for status in statuses]
        await self._write(
            partial(request_stop, process=self.process, event_ids=event_ids, attempt=self.attempt)
        )
        run = await self._write(partial(load_run, run_id=self.run_id))
        requested = [status for status in await self.load_statuses() if status.stop_requested_at]
        for hive, group in group_by_hive(requested).items():
            await self._stop(run, hive, group)

    async def _stop(self, run: RunEvents, hive: str, statuses: Sequence[ProcessStatus]) -> None:
        stop = partial(stop_jobs, is_wanted=partial(self._is_stop_wanted, asyncio.get_running_loop()))
        try:
            outcomes, message = await call_hook(hive, stop, build_tokens(run.run_id, statuses))
        except StopWithdrawn as error:
            self.log.warning("%s", error)
            return
        except EventHooksError as error:
            self.log.error("Marked as failed; the stop is retried: %s", error)  # noqa: TRY400
            return
        self.log.warning("The task was marked as failed; %s", message)
        arguments = (self.process, select_by_position(statuses, outcomes), self.attempt, self.emits)
        await self._write(lambda ledger: recording.record_outcomes(ledger, run, *arguments))

    def _is_stop_wanted(self, loop: asyncio.AbstractEventLoop) -> bool:
        """
        Read the ledger from the thread of the stop.

        :raises LedgerUnreachable: it does not answer in time; meanwhile the hive's rows are locked.
        """
        loading = asyncio.run_coroutine_threadsafe(self.load_statuses(), loop)
        try:
            return is_of_attempt(loading.result(CHECK_SECONDS), self.attempt)
        except TimeoutError:
            loading.cancel()
            raise LedgerUnreachable(CONN_ID, f"no answer within {CHECK_SECONDS:g} s") from None


def is_waiting(status: ProcessStatus) -> bool:
    """Return whether a process has a job without an outcome."""
    return status.state == ProcessState.SUBMITTED and status.job_id is not None


def _seconds_waited(status: ProcessStatus, now: datetime) -> float:
    return (now - (status.wait_started_at or now)).total_seconds()


def group_by_hive(statuses: Iterable[ProcessStatus]) -> dict[str, list[ProcessStatus]]:
    groups: dict[str, list[ProcessStatus]] = {}
    for status in statuses:
        groups.setdefault(status.hive, []).append(status)
    return groups
