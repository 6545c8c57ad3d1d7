"""Processes of events: the plan, the jobs, the progress and the outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import cache
from typing import Any

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Integer, Update, bindparam, case, func, or_, select, update

from event_hooks import metrics
from event_hooks.ledger.database import (
    MAX_ROWS_PER_STATEMENT,
    Ledger,
    build_row_reader,
    execute_many,
    execute_updates,
    read_matching,
    sanitize_text,
)
from event_hooks.ledger.follow_ups import insert_follow_ups
from event_hooks.ledger.once import insert_planned
from event_hooks.ledger.records import (
    UNFINISHED_STATES,
    FollowUpEvent,
    OnceClaims,
    PendingReport,
    ProcessOutcome,
    ProcessState,
    ProcessStatus,
    ProgressUpdate,
)
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import Instant, event, event_process

_COUNTS = ("done", "total", "failed")
"""Columns that count jobs of a tree."""

_WITHOUT_JOB = (ProcessState.PLANNED, ProcessState.NOT_SUBMITTED)
"""States of processes that have no job; it can be submitted."""


def load_run_statuses(ledger: Ledger, run_id: str) -> list[ProcessStatus]:
    """Return the status of each process of each event of a run, by position and process."""
    return _load_statuses(ledger, event.c.run_id == run_id)


def load_statuses(ledger: Ledger, event_ids: Sequence[int]) -> list[ProcessStatus]:
    """Return the status of each process of events."""
    return [
        status
        for batch in sliced(event_ids, MAX_ROWS_PER_STATEMENT)
        for status in _load_statuses(ledger, event.c.id.in_(batch))
    ]


def load_planned_processes(ledger: Ledger, run_id: str) -> dict[int, list[str]]:
    """Return the stored processes of a run's events, without the skipped ones: ``{position: processes}``."""
    processes: dict[int, list[str]] = {}
    for status in load_run_statuses(ledger, run_id):
        names = processes.setdefault(status.position, [])
        if status.state != ProcessState.SKIPPED:
            names.append(status.process)
    return processes


def is_run_planned(ledger: Ledger, run_id: str) -> bool:
    """Return whether ``route`` has planned the run, also if no process reacts to its events."""
    is_planned = (event.c.run_id == run_id) & event.c.planned_at.is_not(None)
    return bool(ledger.read(select(event.c.id).where(is_planned).limit(1)))


def store_plan(
    ledger: Ledger,
    run_id: str,
    planned: Sequence[ProcessStatus],
    claims: OnceClaims | None = None,
    build_reports: Callable[[Collection[tuple[int, str]]], Sequence[PendingReport]] = lambda _: (),
) -> set[tuple[int, str]]:
    """
    Store the processes of a run's events, with the reports of the plan, in one transaction.

    Idempotent: a stored process stays as it is.

    :param claims: claims of the processes that run once, by event id.
    :param build_reports: called with the skipped processes.
    :return: the processes that are skipped because another event claims them: ``{(event id, process), …}``.
    """
    mark_planned = (
        update(event)
        .where(event.c.run_id == run_id, event.c.planned_at.is_(None))
        .values(planned_at=datetime.now(UTC))
    )

    def write(connection: Connection) -> set[tuple[int, str]]:
        states = _load_states(connection, [status.event_id for status in planned])
        new = [status for status in planned if (status.event_id, status.process) not in states]
        states |= insert_planned(connection, new, claims or {})
        connection.execute(mark_planned)
        skipped = {key for key, state in states.items() if state == ProcessState.SKIPPED}
        insert_reports(connection, build_reports(skipped))
        return skipped

    return ledger.write(write)


def store_jobs(
    ledger: Ledger, jobs: Mapping[tuple[int, str], int], reports: Sequence[PendingReport] = ()
) -> None:
    """
    Store the jobs of processes without a job, with reports, in one transaction. Idempotent.

    :param jobs: ``{(event id, process): job id}``.
    """
    rows = _build_job_rows(jobs, datetime.now(UTC))
    statement = update(event_process).where(_is_row(), _has_state(*_WITHOUT_JOB))

    def write(connection: Connection) -> list[tuple[str, datetime]]:
        received = _load_received(connection, set(jobs)) if metrics.is_enabled() else []
        execute_updates(connection, statement, rows)
        insert_reports(connection, reports)
        return received

    metrics.record_time_to_ready(ledger.write(write))


def store_progress(
    ledger: Ledger, process: str, progress: Sequence[ProgressUpdate], reports: Sequence[PendingReport] = ()
) -> None:
    """
    Store the progress of job trees, with reports, in one transaction.

    Idempotent: ``changed_at`` is set only if a value differs. Finished processes stay as they are.
    """
    now = datetime.now(UTC)
    rows = [
        {
            "event_id_": job_tree.event_id,
            "process_": process,
            "done": job_tree.done,
            "total": job_tree.total,
            "failed": job_tree.failed,
            "message": None if job_tree.message is None else sanitize_text(job_tree.message),
            "started_at": now if job_tree.is_started else None,
            "now_": now,
        }
        for job_tree in progress
    ]

    def write(connection: Connection) -> None:
        execute_many(connection, _build_progress_update(), rows)
        insert_reports(connection, reports)

    ledger.write(write)


def store_outcomes(
    ledger: Ledger,
    process: str,
    outcomes: Sequence[ProcessOutcome],
    attempt: str,
    reports: Sequence[PendingReport],
    follow_ups: Sequence[FollowUpEvent] = (),
) -> None:
    """
    Store outcomes of a process, with their reports and follow-up events, in one transaction.

    Each attempt has one outcome per event, and a later attempt replaces the outcome of an earlier one.

    :param attempt: id of the task instance of ``wait``, which sorts by time; empty if ``wait`` did not run.
    :param reports: a report is stored only if its event has the outcome of this attempt.
    :param follow_ups: follow-up events, stored under the same condition.
    """
    rows = _build_outcome_rows(outcomes, attempt, datetime.now(UTC))
    count_rows = [
        {"event_id_": outcome.event_id, **dict(zip(_COUNTS, outcome.counts, strict=True))}
        for outcome in outcomes
        if outcome.counts is not None
    ]
    is_replaceable = _has_state(*UNFINISHED_STATES) | (event_process.c.attempt < attempt)
    statement = _update_process(process).where(is_replaceable)

    def write(connection: Connection) -> None:
        execute_updates(connection, statement, count_rows)
        execute_updates(connection, statement, rows)
        stored = _load_attempt(connection, process, attempt, [outcome.event_id for outcome in outcomes])
        insert_reports(connection, [report for report in reports if report.event_id in stored])
        insert_follow_ups(connection, [follow_up for follow_up in follow_ups if follow_up.event_id in stored])

    ledger.write(write)


def reopen_processes(ledger: Ledger, process: str, event_ids: Collection[int]) -> None:
    """Set a finished process of events to ``submitted``, because ``wait`` runs again; idempotent."""
    is_finished = ~_has_state(*UNFINISHED_STATES, ProcessState.NOT_SUBMITTED, ProcessState.SKIPPED)
    values = {"state": ProcessState.SUBMITTED, "result": None, "error": None, "finished_at": None}
    rows = [{"event_id_": event_id, **values} for event_id in event_ids]
    statement = _update_process(process).where(is_finished)
    ledger.write(lambda connection: execute_updates(connection, statement, rows))


def _load_statuses(ledger: Ledger, condition: ColumnElement[bool]) -> list[ProcessStatus]:
    columns = event_process.c
    statement = select(
        event.c.id,
        event.c.position,
        columns.process,
        columns.hive,
        columns.analysis,
        columns.job_id,
        columns.state,
        columns.error,
        columns.attempt,
    ).select_from(event.join(event_process, columns.event_id == event.c.id))
    statuses = [ProcessStatus(*row) for row in ledger.read(statement.where(condition))]
    return sorted(statuses, key=lambda status: (status.position, status.process))


def _load_states(connection: Connection, event_ids: Sequence[int]) -> dict[tuple[int, str], ProcessState]:
    """Return the state of the stored processes of events: ``{(event id, process): state}``."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.state)
    rows = read_matching(build_row_reader(connection), select(*columns), event_process.c.event_id, event_ids)
    return {(event_id, process): ProcessState(state) for event_id, process, state in rows}


def _build_job_rows(jobs: Mapping[tuple[int, str], int], now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "event_id_": event_id,
            "process_": process,
            "job_id": job_id,
            "submitted_at": now,
            "state": ProcessState.SUBMITTED,
            "error": None,
            "finished_at": None,
        }
        for (event_id, process), job_id in sorted(jobs.items())
    ]


def _is_row() -> ColumnElement[bool]:
    columns = event_process.c
    return (columns.event_id == bindparam("event_id_")) & (columns.process == bindparam("process_"))


def _has_state(*states: ProcessState) -> ColumnElement[bool]:
    # SQLAlchemy cannot execute a statement with IN for many rows at once.
    return or_(*(event_process.c.state == state for state in states))


def _load_received(connection: Connection, keys: Set[tuple[int, str]]) -> list[tuple[str, datetime]]:
    """Return for each (event id, process) without a job its hive, and the time its event was received."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.hive, event.c.received_at)
    joined = event_process.join(event, event.c.id == event_process.c.event_id)
    statement = select(*columns).select_from(joined).where(_has_state(*_WITHOUT_JOB))
    event_ids = sorted({event_id for event_id, _ in keys})
    rows = read_matching(build_row_reader(connection), statement, event.c.id, event_ids)
    return [(row.hive, row.received_at) for row in rows if (row.event_id, row.process) in keys]


@cache
def _build_progress_update() -> Update:
    """Return the UPDATE of progress, which sets ``changed_at`` only if a value differs."""
    columns, counts = event_process.c, {name: bindparam(name, type_=Integer()) for name in _COUNTS}
    started_at = bindparam("started_at", type_=Instant())
    changes = [columns[name].is_distinct_from(count) for name, count in counts.items()]
    changes.append(columns.started_at.is_(None) & started_at.is_not(None))
    changed_at = case((or_(*changes), bindparam("now_", type_=Instant())), else_=columns.changed_at)
    return (
        update(event_process)
        .where(_is_row(), _has_state(*UNFINISHED_STATES))
        # changed_at first: MySQL evaluates later expressions with the values that were set before them.
        .ordered_values(
            (columns.changed_at, changed_at),
            *((columns[name], count) for name, count in counts.items()),
            (columns.started_at, func.coalesce(columns.started_at, started_at)),
            (columns.message, bindparam("message")),
        )
    )


def _build_outcome_rows(
    outcomes: Sequence[ProcessOutcome], attempt: str, now: datetime
) -> list[dict[str, Any]]:
    return [
        {
            "event_id_": outcome.event_id,
            "state": outcome.state,
            "result": json.dumps(outcome.result),
            "error": None if outcome.error is None else sanitize_text(outcome.error),
            "finished_at": now,
            "attempt": attempt,
        }
        for outcome in outcomes
    ]


def _update_process(process: str) -> Update:
    columns = event_process.c
    return update(event_process).where(columns.event_id == bindparam("event_id_"), columns.process == process)


def _load_attempt(connection: Connection, process: str, attempt: str, event_ids: Sequence[int]) -> set[int]:
    """Return the ids of the events with an outcome of this attempt."""
    columns = event_process.c
    statement = select(columns.event_id).where(columns.process == process, columns.attempt == attempt)
    rows = read_matching(build_row_reader(connection), statement, columns.event_id, event_ids)
    return {row.event_id for row in rows}
