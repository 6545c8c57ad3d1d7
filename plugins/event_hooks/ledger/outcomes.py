"""Attempts to wait for jobs, and the outcomes of jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, or_, select, update

from event_hooks.ledger.asset_events import insert_asset_events
from event_hooks.ledger.clock import read_time
from event_hooks.ledger.database import (
    build_row_reader,
    execute_updates,
    read_matching,
    sanitize_text,
)
from event_hooks.ledger.follow_ups import insert_follow_ups
from event_hooks.ledger.notifications import insert_notifications
from event_hooks.ledger.processes import STATES_TO_WAIT_FOR, has_state, update_process
from event_hooks.ledger.records import (
    FAILURE_STATES,
    UNFINISHED_STATES,
    FollowUpEvent,
    PendingReport,
    ProcessOutcome,
    ProcessState,
    RetryMarker,
)
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import event, event_process
from event_hooks.notifier_settings import NotificationKind

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

MAX_RESULT_CHARS = 2**20
"""Characters of the JSON of a result that the ledger stores whole; the hive keeps longer ones."""

KEPT_RESULT_CHARS = 2**16
"""Characters of a longer result that the ledger stores."""


NOTIFIED_STATES = tuple(state for state in FAILURE_STATES if state != ProcessState.STOPPED)
"""States of which users are notified; they have stopped the others themselves."""


def start_attempt(ledger: Ledger, process: str, event_ids: Collection[int], attempt: str) -> None:
    """
    Record that a task instance waits for the jobs of a process; idempotent.

    Only this attempt can store an outcome from now on, until another one starts. A finished process that
    belongs to no attempt belongs to this one afterwards. A stop that was requested during another attempt is
    withdrawn, because a user has cleared the task since.

    :param attempt: id of the task instance.
    """
    columns, statement = event_process.c, update_process(process)
    unfinished = statement.where(has_state(*UNFINISHED_STATES), columns.attempt.is_distinct_from(attempt))
    # Not a stop that was requested before the first wait, or after a retry.
    withdrawn = unfinished.where(*(columns.attempt != marker for marker in RetryMarker))
    finished = statement.where(has_state(*STATES_TO_WAIT_FOR), columns.attempt.is_(None))

    def write(connection: Connection) -> None:
        started = {"attempt": attempt, "stalls": None, "wait_started_at": read_time(connection)}
        ids = sorted(event_ids)
        execute_updates(
            connection, withdrawn, [{"event_id_": event_id, "stop_requested_at": None} for event_id in ids]
        )
        execute_updates(connection, unfinished, [{"event_id_": event_id, **started} for event_id in ids])
        execute_updates(
            connection, finished, [{"event_id_": event_id, "attempt": attempt} for event_id in ids]
        )

    ledger.write(write)


def release_attempts(ledger: Ledger, run_id: str) -> None:
    """
    Record that the processes of a run belong to no attempt, because the run is started again; idempotent.

    The next attempt continues to wait for unfinished jobs, and resets only those of a requested retry.
    """
    event_ids = select(event.c.id).where(event.c.run_id == run_id)
    statement = update(event_process).where(
        event_process.c.event_id.in_(event_ids), event_process.c.attempt.not_in(list(RetryMarker))
    )
    statement = statement.values(attempt=None)
    ledger.write(lambda connection: connection.execute(statement))


def request_stop(ledger: Ledger, process: str, event_ids: Collection[int], attempt: str) -> None:
    """
    Record that a user wants the jobs of a process to be stopped; idempotent.

    Nothing is recorded for a finished process, or if another attempt waits for its job.
    """
    columns = event_process.c
    statement = update_process(process).where(
        has_state(ProcessState.SUBMITTED), columns.attempt == attempt, columns.stop_requested_at.is_(None)
    )

    def write(connection: Connection) -> None:
        now = read_time(connection)
        rows = [{"event_id_": event_id, "stop_requested_at": now} for event_id in sorted(event_ids)]
        execute_updates(connection, statement, rows)

    ledger.write(write)


def store_outcomes(
    ledger: Ledger,
    process: str,
    outcomes: Sequence[ProcessOutcome],
    attempt: str,
    reports: Sequence[PendingReport],
    follow_ups: Sequence[FollowUpEvent] = (),
    notifiers: Collection[int] = (),
) -> None:
    """
    Store outcomes of a process, with all that is sent because of them, in one transaction.

    Only the attempt that was started last stores outcomes, one for each event. An outcome that is not stored
    for this reason has no report, follow-up event, notification and asset event either. The ids of attempts
    are not compared by their times, because the clocks of their machines may differ.

    :param attempt: id of the task instance of ``wait``; empty if ``wait`` did not run.
    :param notifiers: of failures, by position in the setting.
    """

    def write(connection: Connection) -> None:
        event_ids = [outcome.event_id for outcome in outcomes]
        accepted = _lock_replaceable(connection, process, attempt, event_ids)
        stored = [outcome for outcome in outcomes if outcome.event_id in accepted]
        rows = _build_outcome_rows(stored, attempt, read_time(connection))
        for has_counts in (True, False):
            part = [row for row in rows if ("total" in row) is has_counts]
            execute_updates(connection, update_process(process), part)
        insert_reports(connection, [report for report in reports if report.event_id in accepted])
        insert_follow_ups(
            connection, [follow_up for follow_up in follow_ups if follow_up.event_id in accepted]
        )
        failed = [outcome.event_id for outcome in stored if outcome.state in NOTIFIED_STATES]
        insert_notifications(connection, NotificationKind.FAILED, process, failed, notifiers)
        complete = [outcome.event_id for outcome in stored if outcome.state == ProcessState.COMPLETE]
        insert_asset_events(connection, complete, process, attempt)

    ledger.write(write)


def _lock_replaceable(
    connection: Connection, process: str, attempt: str, event_ids: Sequence[int]
) -> set[int]:
    """Lock the rows of a process; return the events whose outcome this attempt may store."""
    columns = event_process.c
    is_present = or_(columns.attempt.is_(None), columns.attempt == attempt)
    statement = (
        select(columns.event_id)
        .where(columns.process == process, columns.state.in_(UNFINISHED_STATES), is_present)
        .order_by(columns.event_id)
        .with_for_update()
    )
    rows = read_matching(build_row_reader(connection), statement, columns.event_id, sorted(event_ids))
    return {row.event_id for row in rows}


def _build_outcome_rows(
    outcomes: Sequence[ProcessOutcome], attempt: str, now: datetime
) -> list[dict[str, Any]]:
    return [
        {
            "event_id_": outcome.event_id,
            "state": outcome.state,
            "result": _dump_result(outcome.result),
            "error": None if outcome.error is None else sanitize_text(outcome.error),
            "finished_at": now,
            "attempt": attempt,
            "stalls": None,
            "stop_requested_at": None,
            **(dict(zip(("done", "total", "failed"), outcome.counts, strict=True)) if outcome.counts else {}),
        }
        for outcome in outcomes
    ]


def _dump_result(result: Any) -> str:
    """Return a result as JSON, or the beginning of a long result as a JSON text."""
    text = json.dumps(result)
    if len(text) <= MAX_RESULT_CHARS:
        return text
    return json.dumps(f"{text[:KEPT_RESULT_CHARS]}… ({len(text):,} characters)")
