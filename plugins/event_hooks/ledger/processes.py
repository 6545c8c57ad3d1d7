"""Processes of events: the plan, the jobs, the progress and the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Literal

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Update, bindparam, or_, select, update

from event_hooks import metrics
from event_hooks.ledger.asset_events import insert_asset_events
from event_hooks.ledger.clock import load_time, read_time, utc_now
from event_hooks.ledger.database import (
    MAX_ROWS_PER_STATEMENT,
    Ledger,
    build_row_reader,
    execute_updates,
    read_matching,
    sanitize_text,
)
from event_hooks.ledger.notifications import insert_notifications
from event_hooks.ledger.once import insert_planned, skip_claimed
from event_hooks.ledger.records import (
    FAILURE_STATES,
    UNFINISHED_STATES,
    OnceClaims,
    PendingReport,
    ProcessState,
    ProcessStatus,
)
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import event, event_process
from event_hooks.notifier_settings import NotificationKind

STATES_TO_SUBMIT = (ProcessState.PLANNED, ProcessState.NOT_SUBMITTED, ProcessState.MISSING)
"""States of processes whose job can be submitted: they have none, or it is no longer in the hive."""

STATES_TO_WAIT_FOR = tuple(
    state for state in (*FAILURE_STATES, ProcessState.COMPLETE) if state != ProcessState.NOT_SUBMITTED
)
"""States of finished processes that have a job, for which a task can wait again."""


def load_run_statuses(ledger: Ledger, run_id: str) -> list[ProcessStatus]:
    """Return the status of each process of each event of a run, by position and process."""
    return _load_statuses(ledger, event.c.run_id == run_id)


def load_process_statuses(ledger: Ledger, run_id: str, process: str) -> list[ProcessStatus]:
    """Return the status of one process of each event of a run that has it, by position."""
    return _load_statuses(ledger, (event.c.run_id == run_id) & (event_process.c.process == process))


def load_statuses(ledger: Ledger, event_ids: Sequence[int]) -> list[ProcessStatus]:
    """Return the status of each process of events."""
    return [
        status
        for batch in sliced(event_ids, MAX_ROWS_PER_STATEMENT)
        for status in _load_statuses(ledger, event.c.id.in_(batch))
    ]


def list_open_runs(ledger: Ledger, age: timedelta) -> dict[str, set[str]]:
    """
    Return the runs with unfinished work: ``{run id: unfinished processes}``, the oldest first.

    :param age: only events received longer ago are considered; a run without any is left out.
    """
    cutoff = load_time(ledger) - age
    joined = event.join(event_process, event_process.c.event_id == event.c.id)
    unfinished = (
        select(event.c.run_id, event_process.c.process)
        .select_from(joined)
        .where(event_process.c.state.in_(UNFINISHED_STATES), event.c.received_at <= cutoff)
        .order_by(event.c.id)
    )
    unplanned = select(event.c.run_id).where(event.c.planned_at.is_(None), event.c.received_at <= cutoff)
    runs: dict[str, set[str]] = {}
    for row in ledger.read(unplanned.order_by(event.c.id)):
        runs.setdefault(row.run_id, set())
    for row in ledger.read(unfinished):
        runs.setdefault(row.run_id, set()).add(row.process)
    return runs


def is_run_planned(ledger: Ledger, run_id: str) -> bool:
    """Return whether ``route`` has planned the run, also if no process reacts to its events."""
    is_planned = (event.c.run_id == run_id) & event.c.planned_at.is_not(None)
    return bool(ledger.read(select(event.c.id).where(is_planned).limit(1)))


def store_plan(
    ledger: Ledger,
    run_id: str,
    planned: Sequence[ProcessStatus] = (),
    claims: OnceClaims | None = None,
    rejected: Mapping[int, str] | None = None,
    build_reports: Callable[[Collection[tuple[int, str]]], Sequence[PendingReport]] = lambda _: (),
    notifiers: Collection[int] = (),
) -> set[tuple[int, str]]:
    """
    Store the processes of a run's events, with reports, notifications and asset events, in one transaction.

    Idempotent: a stored process stays as it is. Afterwards all events of the run are planned or rejected.

    :param claims: claims of the processes that run once, by event id.
    :param rejected: ``{event id: reason}`` of the events that are rejected; an event that was rejected before
        and is not among them is no longer rejected.
    :param build_reports: called with the skipped processes.
    :param notifiers: of rejected events, by position in the setting.
    :return: the processes that are skipped because another event claims them: ``{(event id, process), …}``.
    """
    in_run = update(event).where(event.c.run_id == run_id)
    mark_planned = in_run.where(event.c.planned_at.is_(None)).values(planned_at=utc_now())
    is_rejected = event.c.rejected_at.is_not(None)
    clear_rejections = in_run.where(is_rejected).values(rejected_reason=None, rejected_at=None)
    reject = update(event).where(event.c.id == bindparam("id_")).values(rejected_at=utc_now())
    reasons = [
        {"id_": event_id, "rejected_reason": sanitize_text(reason)}
        for event_id, reason in (rejected or {}).items()
    ]

    def write(connection: Connection) -> set[tuple[int, str]]:
        insert_asset_events(connection, _lock_unaccepted(connection, run_id) - set(rejected or {}))
        states = _load_states(connection, [status.event_id for status in planned])
        new = [status for status in planned if (status.event_id, status.process) not in states]
        states |= insert_planned(connection, new, claims or {})
        connection.execute(mark_planned)
        connection.execute(clear_rejections)
        execute_updates(connection, reject, reasons)
        skipped = {key for key, state in states.items() if state == ProcessState.SKIPPED}
        insert_reports(connection, build_reports(skipped))
        insert_notifications(connection, NotificationKind.FAILED, "", rejected or (), notifiers)
        return skipped

    return ledger.write(write)


def _lock_unaccepted(connection: Connection, run_id: str) -> set[int]:
    """Lock the events of a run that are not planned, or are rejected; return their ids."""
    is_unaccepted = event.c.planned_at.is_(None) | event.c.rejected_at.is_not(None)
    statement = select(event.c.id).where(event.c.run_id == run_id, is_unaccepted).order_by(event.c.id)
    return set(connection.scalars(statement.with_for_update()))


def reject_events(
    ledger: Ledger,
    run_id: str,
    reasons: Mapping[int, str],
    reports: Sequence[PendingReport],
    notifiers: Collection[int] = (),
) -> None:
    """
    Record that no process runs for events of a run, with reports and notifications; idempotent.

    An event that is planned stays as it is.

    :param reasons: ``{event id: reason}``.
    :param notifiers: of rejected events, by position in the setting.
    """
    is_unplanned = (event.c.id == bindparam("id_")) & event.c.planned_at.is_(None)
    statement = update(event).where(event.c.run_id == run_id, is_unplanned)
    statement = statement.values(rejected_at=utc_now(), planned_at=utc_now())
    rows = [
        {"id_": event_id, "rejected_reason": sanitize_text(reason)} for event_id, reason in reasons.items()
    ]

    def write(connection: Connection) -> None:
        execute_updates(connection, statement, rows)
        insert_reports(connection, reports)
        rejected = _list_rejected(connection, list(reasons)) if notifiers else ()
        insert_notifications(connection, NotificationKind.FAILED, "", rejected, notifiers)

    ledger.write(write)


def _list_rejected(connection: Connection, event_ids: Sequence[int]) -> list[int]:
    statement = select(event.c.id).where(event.c.rejected_at.is_not(None))
    return [row.id for row in read_matching(build_row_reader(connection), statement, event.c.id, event_ids)]


def store_jobs(
    ledger: Ledger, jobs: Mapping[tuple[int, str], int], reports: Sequence[PendingReport] = ()
) -> None:
    """
    Store the jobs of processes, with reports, in one transaction.

    Idempotent: a process that has a job keeps it, unless the job is missing.

    :param jobs: ``{(event id, process): job id}``.
    """
    statement = update(event_process).where(is_row(), has_state(*STATES_TO_SUBMIT))

    def write(connection: Connection) -> list[tuple[str, datetime]]:
        received = _load_received(connection, set(jobs)) if metrics.is_enabled() else []
        execute_updates(connection, statement, _build_job_rows(jobs, read_time(connection)))
        insert_reports(connection, reports)
        return received

    metrics.record_time_to_ready(ledger.write(write))


def reopen_processes(
    ledger: Ledger,
    process: str,
    event_ids: Collection[int],
    state: Literal[ProcessState.PLANNED, ProcessState.SUBMITTED] = ProcessState.SUBMITTED,
) -> set[int]:
    """
    Set a finished process of events to ``planned`` or ``submitted``, because its task runs again; idempotent.

    A failed process that runs once is skipped instead, if another event has claimed it meanwhile.

    :param state: ``planned`` if a job is to be submitted, ``submitted`` if the job is to be waited for.
    :return: ids of the events whose process is unfinished now.
    """
    reopened = STATES_TO_SUBMIT if state == ProcessState.PLANNED else STATES_TO_WAIT_FOR
    values = {"state": state, "result": None, "error": None, "finished_at": None}
    rows = [{"event_id_": event_id, **values} for event_id in sorted(event_ids)]
    statement = update_process(process).where(has_state(*reopened))
    keys = {(event_id, process) for event_id in event_ids}

    def write(connection: Connection) -> set[int]:
        skip_claimed(connection, keys)
        execute_updates(connection, statement, rows)
        states = _load_states(connection, sorted(event_ids))
        return {event_id for event_id, name in keys if states.get((event_id, name)) in UNFINISHED_STATES}

    return ledger.write(write)


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
        columns.wait_started_at,
        columns.stop_requested_at,
        columns.stalls,
        columns.finished_at,
        columns.rerun,
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


def is_row() -> ColumnElement[bool]:
    columns = event_process.c
    return (columns.event_id == bindparam("event_id_")) & (columns.process == bindparam("process_"))


def has_state(*states: ProcessState) -> ColumnElement[bool]:
    # SQLAlchemy cannot execute a statement with IN for many rows at once.
    return or_(*(event_process.c.state == state for state in states))


def _load_received(connection: Connection, keys: Set[tuple[int, str]]) -> list[tuple[str, datetime]]:
    """Return for each (event id, process) without a job its hive, and the time its event was received."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.hive, event.c.received_at)
    joined = event_process.join(event, event.c.id == event_process.c.event_id)
    statement = select(*columns).select_from(joined).where(has_state(*STATES_TO_SUBMIT))
    event_ids = sorted({event_id for event_id, _ in keys})
    rows = read_matching(build_row_reader(connection), statement, event.c.id, event_ids)
    return [(row.hive, row.received_at) for row in rows if (row.event_id, row.process) in keys]


def update_process(process: str) -> Update:
    columns = event_process.c
    return update(event_process).where(columns.event_id == bindparam("event_id_"), columns.process == process)
