"""Progress of job trees, and their stalls."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Integer, Update, bindparam, case, func, or_, select, update

from event_hooks.ledger.clock import read_time
from event_hooks.ledger.database import (
    build_row_reader,
    execute_many,
    execute_updates,
    read_matching,
    sanitize_text,
)
from event_hooks.ledger.notifications import insert_notifications
from event_hooks.ledger.processes import has_state, is_row
from event_hooks.ledger.records import UNFINISHED_STATES, PendingReport, ProgressUpdate
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import Instant, event_process
from event_hooks.notifier_settings import NotificationKind

if TYPE_CHECKING:
    from datetime import datetime

    from event_hooks.ledger.database import Ledger

_COUNTS = ("done", "total", "failed")
"""Columns that count jobs of a tree."""

Stalls = Mapping[int, Mapping[str, str]]
"""``{event id: {Stall.key: text}}``."""


def store_progress(
    ledger: Ledger, process: str, progress: Sequence[ProgressUpdate], reports: Sequence[PendingReport] = ()
) -> None:
    """
    Store the progress of job trees, with reports, in one transaction.

    Idempotent: ``changed_at`` is set only if a value differs. Finished processes stay as they are.
    """

    def write(connection: Connection) -> None:
        now = read_time(connection)
        rows = [_build_progress_row(process, job_tree, now) for job_tree in progress]
        execute_many(connection, _build_progress_update(), rows)
        insert_reports(connection, reports)

    ledger.write(write)


def _build_progress_row(process: str, progress: ProgressUpdate, now: datetime) -> dict[str, object]:
    return {
        "event_id_": progress.event_id,
        "process_": process,
        "done": progress.done,
        "total": progress.total,
        "failed": progress.failed,
        "message": None if progress.message is None else sanitize_text(progress.message),
        "started_at": now if progress.is_started else None,
        "now_": now,
    }


def store_stalls(
    ledger: Ledger,
    process: str,
    event_ids: Collection[int],
    stalls: Stalls,
    build_reports: Callable[[Stalls], Sequence[PendingReport]],
    notifiers: Collection[int] = (),
) -> None:
    """
    Store the present stalls of a process, with reports and notifications of new ones, in one transaction.

    Idempotent: a stall is new if the ledger does not have it. So a stall that passes and returns is new
    again, and a restarted trigger reports no stall twice.

    :param event_ids: events whose job trees were checked; the others keep their stalls.
    :param build_reports: called with the new stalls, if there are any.
    :param notifiers: of stalls, by position in the setting.
    """
    columns = event_process.c
    statement = (
        select(columns.event_id, columns.stalls)
        .where(columns.process == process, columns.state.in_(UNFINISHED_STATES))
        .order_by(columns.event_id)
        .with_for_update()
    )

    def write(connection: Connection) -> None:
        rows = read_matching(build_row_reader(connection), statement, columns.event_id, sorted(event_ids))
        stored = {row.event_id: json.loads(row.stalls or "{}") for row in rows}
        changed = {
            event_id: stalls.get(event_id, {})
            for event_id, texts in stored.items()
            if stalls.get(event_id, {}).keys() != texts.keys()
        }
        execute_updates(connection, _UPDATE_STALLS, _build_stall_rows(process, changed))
        new = {
            event_id: {key: text for key, text in texts.items() if key not in stored[event_id]}
            for event_id, texts in changed.items()
        }
        if any(new.values()):
            insert_reports(connection, build_reports(new))
            stalled = [event_id for event_id, texts in new.items() if texts]
            insert_notifications(connection, NotificationKind.STALLED, process, stalled, notifiers)

    ledger.write(write)


def _build_stall_rows(process: str, changed: Stalls) -> list[dict[str, object]]:
    return [
        {"event_id_": event_id, "process_": process, "stalls": json.dumps(texts) if texts else None}
        for event_id, texts in changed.items()
    ]


_UPDATE_STALLS = update(event_process).where(is_row())


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
        .where(is_row(), has_state(*UNFINISHED_STATES))
        # changed_at first: MySQL evaluates later expressions with the values that were set before them.
        .ordered_values(
            (columns.changed_at, changed_at),
            *((columns[name], count) for name, count in counts.items()),
            (columns.started_at, func.coalesce(columns.started_at, started_at)),
            (columns.message, bindparam("message")),
        )
    )
