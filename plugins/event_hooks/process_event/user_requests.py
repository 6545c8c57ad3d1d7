"""Retry and stop processes of events on behalf of a user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from more_itertools import chunked

from event_hooks.exceptions import StopWithdrawn
from event_hooks.hive.hook import HiveHook, format_job_ids
from event_hooks.ledger import user_requests
from event_hooks.ledger.events import load_events
from event_hooks.ledger.records import ProcessState, RunEvents
from event_hooks.ledger.user_requests import STATES_TO_RETRY, RetryMode
from event_hooks.process_event.planning import build_tokens, submit_task_id
from event_hooks.reports.builder import ReportBuilder, ReportStep
from event_hooks.reports.outbox import to_pending

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import PendingReport
    from event_hooks.ledger.user_requests import ProcessKey, RequestedProcess
    from event_hooks.ledger.views import EventView, ProcessView

log = logging.getLogger(__name__)

RUNS_PER_CLEAR = 200
"""Maximum number of runs for one transaction of Airflow's database, which clears their tasks."""

ClearTasks = Callable[[Mapping[str, Collection[str]]], None]
"""Clears tasks in Airflow: ``{run id: task ids}``; tasks and runs that do not exist are ignored."""

STOPPED_REASON = "a user stopped it: to retry it, name the id of its event"

COMPLETE_REASON = "it is complete: to run it again as a new job, name the process and use the mode process"

Jobs = Mapping[int, str | None]
"""``{job id: token}``."""


@dataclass(frozen=True)
class Candidate:
    """A process of an event that a request selects."""

    event: EventView
    process: ProcessView
    reason: str | None
    """Why the request does not apply to it; ``None`` if it does."""

    @property
    def key(self) -> ProcessKey:
        """Return the ids of its row in the ledger."""
        return self.event.id, self.process.process


def plan_retries(
    events: Iterable[EventView], process: str | None, mode: RetryMode, *, is_filtered: bool = False
) -> list[Candidate]:
    """
    Return the processes of events that a retry selects.

    :param process: only this process; default: all. A complete process runs again only if it is named.
    :param is_filtered: whether a filter has selected the events, and not their ids: the retry does not apply
        to processes that a user has stopped.
    """
    return [
        Candidate(event, view, _explain_retry(view, mode, process is not None, is_filtered))
        for event in events
        for view in event.processes
        if process in (None, view.process)
    ]


def _explain_retry(process: ProcessView, mode: RetryMode, is_named: bool, is_filtered: bool) -> str | None:
    state = ProcessState(process.state)
    if state == ProcessState.STOPPED and is_filtered:
        return STOPPED_REASON
    if state == ProcessState.COMPLETE and (mode is not RetryMode.PROCESS or not is_named):
        return COMPLETE_REASON
    if state in STATES_TO_RETRY[mode]:
        return None
    if not process.is_finished:
        return "it is unfinished"
    if state == ProcessState.SKIPPED:
        return process.error or "it was skipped"
    return f"its job may be running: use the mode {RetryMode.FAILED_JOBS}, which waits for it again"


def plan_stops(events: Iterable[EventView], process: str | None) -> list[Candidate]:
    """Return the processes of events that a stop selects; by default, all."""
    return [
        Candidate(event, view, _explain_stop(view))
        for event in events
        for view in event.processes
        if process in (None, view.process)
    ]


def _explain_stop(process: ProcessView) -> str | None:
    if process.is_finished:
        return f"it is finished: {process.state}"
    return "its stop is requested already" if process.stop_requested_at else None


def request_retries(
    ledger: Ledger, candidates: Iterable[Candidate], mode: RetryMode, user: str
) -> set[ProcessKey]:
    """
    Record the retries of the candidates without a reason, with reports; idempotent.

    Call :func:`clear_requested_tasks` afterwards.

    :return: the processes that are retried; the state of another one has changed since, or it runs once, and
        another event has claimed it.
    """
    keys = {candidate.key for candidate in candidates if candidate.reason is None}
    build = _ReportFactory(ledger, keys, ReportStep.RETRY_REQUESTED, user, mode=mode.value)
    retried = user_requests.request_retries(ledger, keys, mode, build) if keys else set()
    log.info("User %s retries %s processes (%s)", user, len(retried), mode)
    return retried


def request_stops(ledger: Ledger, candidates: Iterable[Candidate], user: str) -> set[ProcessKey]:
    """
    Record the stops of the candidates without a reason, with reports; idempotent.

    Call :func:`stop_requested_jobs` afterwards.

    :return: the processes that are to be stopped; another one is finished meanwhile.
    """
    keys = {candidate.key for candidate in candidates if candidate.reason is None}
    build = _ReportFactory(ledger, keys, ReportStep.STOP_REQUESTED, user)
    stopped = user_requests.request_stops(ledger, keys, build) if keys else set()
    log.info("User %s stops %s processes", user, len(stopped))
    return stopped


class _ReportFactory:
    """Build a report on the request for each process; loads the events before the transaction starts."""

    def __init__(
        self, ledger: Ledger, keys: Collection[ProcessKey], step: ReportStep, user: str, **facts: Any
    ) -> None:
        self._events = {event.id: event for event in load_events(ledger, list({key[0] for key in keys}))}
        self._step, self._user, self._facts = step, user, facts
        self._identity = datetime.now(UTC).isoformat()

    def __call__(self, keys: Collection[ProcessKey]) -> list[PendingReport]:
        reports = []
        for event_id, process in sorted(keys):
            event = self._events[event_id]
            run_id, identity = event.run_id or "", self._identity
            builder = ReportBuilder(RunEvents.from_stored(run_id, [event]))
            report = builder.requested(
                self._step, event.position, process, self._user, identity, **self._facts
            )
            reports += to_pending([report], run_id)
        return reports


def clear_requested_tasks(ledger: Ledger, clear_tasks: ClearTasks) -> int:
    """
    Clear the tasks of the processes that users retry, so that Airflow runs them again; idempotent.

    :return: the number of processes.
    """
    by_run: dict[str, list[RequestedProcess]] = {}
    for request in user_requests.list_uncleared_retries(ledger):
        by_run.setdefault(request.run_id, []).append(request)
    for run_ids in chunked(by_run, RUNS_PER_CLEAR):
        clear_tasks({run_id: _list_tasks(by_run[run_id]) for run_id in run_ids})
        requests = [request for run_id in run_ids for request in by_run[run_id]]
        user_requests.mark_cleared(ledger, [request.key for request in requests])
    return sum(map(len, by_run.values()))


def _list_tasks(requests: Sequence[RequestedProcess]) -> set[str]:
    """Return the tasks of a run that run again: as a *Clear* with *Downstream* of submit or wait."""
    tasks = {"report"}
    for request in requests:
        tasks.add(f"{request.status.process}.wait")
        if request.status.state == ProcessState.PLANNED:
            tasks.add(submit_task_id(request.status.process))
    return tasks


def group_stops(requests: Iterable[RequestedProcess]) -> dict[str, list[RequestedProcess]]:
    """Return requested stops by hive."""
    by_hive: dict[str, list[RequestedProcess]] = {}
    for request in requests:
        by_hive.setdefault(request.status.hive, []).append(request)
    return by_hive


def stop_requested_jobs(hook: HiveHook, ledger: Ledger, requests: Sequence[RequestedProcess]) -> None:
    """
    Stop the jobs of one hive that have not started, in one transaction of the hive; idempotent.

    The waits record the outcomes. Jobs that a running job creates later are stopped by a repeated call.

    :param requests: their jobs are in this hive.
    :raises HiveUnreachable: as :meth:`event_hooks.hive.hook.HiveHook.stop_jobs`, like other errors. If a stop
        is withdrawn meanwhile, nothing is written, and the next call stops the others.
    """
    jobs: dict[int, str | None] = {}
    for request in requests:
        jobs |= build_tokens(request.run_id, [request.status])
    try:
        result = hook.stop_jobs(jobs, partial(_are_wanted, ledger, requests))
    except StopWithdrawn as error:
        log.info("%s", error)
        return
    if result.changed_ids:
        stopped, running = format_job_ids(result.changed_ids), format_job_ids(result.running_ids)
        log.info("Stopped before they started: %s; still running: %s", stopped, running)


def _are_wanted(ledger: Ledger, requests: Iterable[RequestedProcess]) -> bool:
    """Return whether no user has withdrawn one of the stops, by clearing its task."""
    requested = {request.key for request in user_requests.list_requested_stops(ledger)}
    return requested.issuperset(request.key for request in requests)
