"""
Resume runs of `process_event` that have unfinished events, and that no task of Airflow works on.

A run may not have been started, because the component that accepted its events died. A user may have deleted
the run, or one of its task instances. A stop of jobs may have been interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from more_itertools import sliced

from event_hooks import settings
from event_hooks.events import lookups
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.outcomes import release_attempts
from event_hooks.ledger.overview import MAINTENANCE_AGE
from event_hooks.ledger.processes import list_open_runs, load_run_statuses
from event_hooks.ledger.records import RetryMarker, RunEvents
from event_hooks.process_event import recording, runs
from event_hooks.process_event.stopping import finish_stop

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import ProcessStatus

log = logging.getLogger(__name__)

RUNS_PER_REQUEST = 50
"""Runs whose task states are requested from Airflow at once: their ids are part of a URL."""

ENDED_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")

TaskStates = Mapping[str, str | None]
"""``{task id: Airflow's state}`` of the tasks of a run that exist; empty if the run does not exist."""


def resume_runs(ledger: Ledger, ti: Any) -> None:
    """
    Start the open runs that do not exist, and record the processes that no task will finish; idempotent.

    All runs are resumed, even if an earlier one fails; the last error is raised.

    :param ti: the present task instance, which requests the states of tasks.
    :raises RuntimeError: a run could not be started.
    :raises HiveUnreachable: a stop could not be finished.
    """
    open_runs = list_open_runs(ledger, MAINTENANCE_AGE)
    with ExitStack() as operations:
        for run_ids in sliced(list(open_runs), RUNS_PER_REQUEST):
            states = _load_states(ti, run_ids, {name for run_id in run_ids for name in open_runs[run_id]})
            for run_id in run_ids:
                operations.callback(resume_run, ledger, run_id, states[run_id], ti)


def _load_states(ti: Any, run_ids: Sequence[str], processes: Set[str]) -> dict[str, TaskStates]:
    """Return the states of ``route``, ``report`` and the waits of processes: ``{run id: states}``."""
    task_ids = ["route", "report", *(f"{process}.wait" for process in sorted(processes))]
    states = ti.get_task_states(dag_id=settings.DAG_ID, task_ids=task_ids, run_ids=list(run_ids))
    return {run_id: states.get(run_id, {}) for run_id in run_ids}


def resume_run(ledger: Ledger, run_id: str, states: TaskStates, ti: Any) -> None:
    """
    Start a run that does not exist; otherwise record what no task of the run will record.

    :param states: of the tasks ``route`` and ``report``, and of the ``wait`` of each unfinished process.
    :param ti: as in :func:`resume_runs`.
    """
    if not states:
        release_attempts(ledger, run_id)
        log.warning("Run %s does not exist: started, with %s events", run_id, runs.start_run(ledger, run_id))
        return
    run = RunEvents.from_stored(run_id, load_run_events(ledger, run_id))
    planned = load_run_statuses(ledger, run_id)
    if any(status.is_retry_requested for status in planned):  # its tasks may have been cleared since
        states = _load_states(ti, [run_id], {status.process for status in planned})[run_id]
    ended = [
        status
        for status in planned
        if not status.is_finished
        and status.attempt != RetryMarker.REQUESTED
        and _has_wait_ended(status, states)
    ]
    stopping = [status for status in ended if status.is_stopping]
    finish_stop(ledger, run, stopping, lookups.load_cached().emits)
    missing = [status for status in ended if not status.is_stopping]
    is_abandoned = missing and _has_ended("route", states) and not _will_report(run_id, planned, states, ti)
    errors = {status: _explain(status, states) for status in missing if is_abandoned}
    recording.record_missing_outcomes(ledger, run, errors)
    if _has_ended("route", states) and _has_ended("report", states):
        _reject_unplanned(ledger, run_id)
    for status, error in errors.items():
        log.error("Run %s: %s of event %s: %s", run_id, status.process, status.event_id, error)


def _has_ended(task_id: str, states: TaskStates) -> bool:
    """Return whether a task has ended, or a user has deleted its instance."""
    return task_id not in states or states[task_id] in ENDED_STATES


def _has_wait_ended(status: ProcessStatus, states: TaskStates) -> bool:
    return _has_ended(f"{status.process}.wait", states)


def _will_report(run_id: str, planned: Iterable[ProcessStatus], states: TaskStates, ti: Any) -> bool:
    """
    Return whether the task ``report`` will record missing outcomes.

    If a user has deleted one of the waits, Airflow fails the run as a deadlock and never runs ``report``.
    """
    if _has_ended("report", states):
        return False
    waits = {f"{status.process}.wait" for status in planned if status.attempt or not status.is_finished}
    existing = ti.get_task_states(dag_id=settings.DAG_ID, task_ids=sorted(waits), run_ids=[run_id])
    return waits <= set(existing.get(run_id, {}))


def _explain(status: ProcessStatus, states: TaskStates) -> str:
    task_id = f"{status.process}.wait"
    ended = f"ended as {states[task_id]}" if task_id in states else "was deleted"
    return f"no task waits for the outcome: the task {task_id} {ended}, and recorded none"


def _reject_unplanned(ledger: Ledger, run_id: str) -> None:
    unplanned = [event for event in load_run_events(ledger, run_id) if not event.is_planned]
    run = RunEvents.from_stored(run_id, unplanned)
    reason = "the run ended without a plan: see the log of its task route"
    recording.record_rejections(ledger, run, dict.fromkeys(run.events, reason))
