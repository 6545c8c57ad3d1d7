"""Requests of users to retry or to stop processes of events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from event_hooks.ledger.clock import read_time
from event_hooks.ledger.database import Ledger, build_row_reader, execute_updates, read_matching
from event_hooks.ledger.once import claim_again
from event_hooks.ledger.processes import has_state, is_row, load_statuses
from event_hooks.ledger.records import (
    UNFINISHED_STATES,
    PendingReport,
    ProcessState,
    ProcessStatus,
    RetryMarker,
)
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import event, event_process

ProcessKey = tuple[int, str]
"""(event id, process)."""

BuildReports = Callable[[Collection[ProcessKey]], Sequence[PendingReport]]
"""Returns the reports on the processes that a request changes; called in its transaction."""


class RetryMode(StrEnum):
    """How a process runs again."""

    FAILED_JOBS = "failed_jobs"  # its failed and stopped jobs run again, or its job is submitted
    PROCESS = "process"  # a new job is submitted


STATES_TO_RETRY = {
    RetryMode.FAILED_JOBS: {
        ProcessState.FAILED: ProcessState.SUBMITTED,
        ProcessState.STOPPED: ProcessState.SUBMITTED,
        ProcessState.TIMED_OUT: ProcessState.SUBMITTED,
        ProcessState.UNKNOWN: ProcessState.SUBMITTED,
        ProcessState.MISSING: ProcessState.PLANNED,
        ProcessState.NOT_SUBMITTED: ProcessState.PLANNED,
    },
    # Not timed_out and unknown: the job may be running.
    RetryMode.PROCESS: {
        ProcessState.COMPLETE: ProcessState.PLANNED,
        ProcessState.FAILED: ProcessState.PLANNED,
        ProcessState.STOPPED: ProcessState.PLANNED,
        ProcessState.MISSING: ProcessState.PLANNED,
        ProcessState.NOT_SUBMITTED: ProcessState.PLANNED,
    },
}
"""``{mode: {state: next state}}``: the states that can be retried; planned leads to a submission."""

_RETRY_VALUES: dict[str, Any] = {
    "attempt": RetryMarker.REQUESTED,
    "result": None,
    "error": None,
    "finished_at": None,
    "stop_requested_at": None,
    "stalls": None,
}

_NEW_JOB_VALUES: dict[str, Any] = {
    "job_id": None,
    "submitted_at": None,
    "started_at": None,
    "changed_at": None,
    "done": None,
    "total": None,
    "failed": None,
    "message": None,
}


@dataclass(frozen=True)
class RequestedProcess:
    """A process of an event that a user retries or stops."""

    run_id: str
    status: ProcessStatus

    @property
    def key(self) -> ProcessKey:
        """Return the ids of the row."""
        return self.status.event_id, self.status.process


def request_retries(
    ledger: Ledger, keys: Collection[ProcessKey], mode: RetryMode, build_reports: BuildReports
) -> set[ProcessKey]:
    """
    Record that processes run again, with reports, in one transaction; idempotent.

    A process keeps its state if this state cannot be retried, or if the process runs once and another event
    has claimed it.

    :return: the processes that are retried.
    """
    transitions = STATES_TO_RETRY[mode]

    def write(connection: Connection) -> set[ProcessKey]:
        claimed = claim_again(connection, keys)
        states = _lock_states(connection, keys)
        retried = {key for key, state in states.items() if state in transitions and key not in claimed}
        for state in {states[key] for key in retried}:
            rows = [_build_row(key) for key in sorted(retried) if states[key] == state]
            _retry(connection, rows, transitions[state], is_new_job=mode is RetryMode.PROCESS)
        insert_reports(connection, build_reports(retried))
        return retried

    return ledger.write(write)


def _retry(
    connection: Connection, rows: Sequence[dict[str, Any]], state: ProcessState, *, is_new_job: bool
) -> None:
    values = {**_RETRY_VALUES, "state": state, **(_NEW_JOB_VALUES if is_new_job else {})}
    statement = update(event_process).where(is_row())
    if is_new_job:
        statement = statement.values(rerun=event_process.c.rerun + 1)
    execute_updates(connection, statement, [{**row, **values} for row in rows])


def list_uncleared_retries(ledger: Ledger) -> list[RequestedProcess]:
    """Return the retried processes, of which Airflow has not cleared the tasks yet."""
    return _load_requested(ledger, event_process.c.attempt == RetryMarker.REQUESTED)


def mark_cleared(ledger: Ledger, keys: Collection[ProcessKey]) -> None:
    """Record that Airflow has cleared the tasks of processes; idempotent."""
    statement = update(event_process).where(is_row(), event_process.c.attempt == RetryMarker.REQUESTED)
    rows = [{**_build_row(key), "attempt": RetryMarker.CLEARED} for key in sorted(keys)]
    ledger.write(lambda connection: execute_updates(connection, statement, rows))


def request_stops(
    ledger: Ledger, keys: Collection[ProcessKey], build_reports: BuildReports
) -> set[ProcessKey]:
    """
    Record that a user stops unfinished processes, with reports, in one transaction; idempotent.

    :return: the processes, without those with an earlier request.
    """
    statement = update(event_process).where(
        is_row(), has_state(*UNFINISHED_STATES), event_process.c.stop_requested_at.is_(None)
    )

    def write(connection: Connection) -> set[ProcessKey]:
        condition = event_process.c.stop_requested_at.is_(None)
        states = _lock_states(connection, keys, condition)
        stopped = {key for key, state in states.items() if state in UNFINISHED_STATES}
        now = read_time(connection)
        rows = [{**_build_row(key), "stop_requested_at": now} for key in sorted(stopped)]
        execute_updates(connection, statement, rows)
        insert_reports(connection, build_reports(stopped))
        return stopped

    return ledger.write(write)


def list_requested_stops(ledger: Ledger) -> list[RequestedProcess]:
    """Return the unfinished processes with a job that is to be stopped."""
    return _load_requested(
        ledger, event_process.c.stop_requested_at.is_not(None) & event_process.c.job_id.is_not(None)
    )


def _load_requested(ledger: Ledger, condition: ColumnElement[bool]) -> list[RequestedProcess]:
    """Return unfinished processes, by run, position and process."""
    joined = event.join(event_process, event_process.c.event_id == event.c.id)
    is_unfinished = event_process.c.state.in_(UNFINISHED_STATES)
    statement = select(event.c.id, event.c.run_id, event_process.c.process).select_from(joined)
    rows = ledger.read(statement.where(is_unfinished, condition))
    run_ids = {(row.id, row.process): row.run_id for row in rows}
    statuses = load_statuses(ledger, sorted({event_id for event_id, _ in run_ids}))
    return [
        RequestedProcess(run_ids[status.event_id, status.process], status)
        for status in statuses
        if (status.event_id, status.process) in run_ids
    ]


def _lock_states(
    connection: Connection, keys: Collection[ProcessKey], condition: ColumnElement[bool] | None = None
) -> dict[ProcessKey, ProcessState]:
    """Lock the rows of processes, and return their states."""
    columns = event_process.c
    statement = select(columns.event_id, columns.process, columns.state)
    statement = statement.order_by(columns.event_id, columns.process).with_for_update()
    if condition is not None:
        statement = statement.where(condition)
    event_ids = sorted({event_id for event_id, _ in keys})
    rows = read_matching(build_row_reader(connection), statement, columns.event_id, event_ids)
    wanted = set(keys)
    return {
        (row.event_id, row.process): ProcessState(row.state)
        for row in rows
        if (row.event_id, row.process) in wanted
    }


def _build_row(key: ProcessKey) -> dict[str, Any]:
    """Return the parameters that select the row of a process."""
    return {"event_id_": key[0], "process_": key[1]}
