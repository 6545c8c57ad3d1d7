"""Delete old events with their outcomes and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, Select, delete, select

from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import MAX_ROWS_PER_STATEMENT, Ledger
from event_hooks.ledger.once import release_claims
from event_hooks.ledger.tables import event, event_run, join_wait, report


def prune_events(ledger: Ledger, older_than: timedelta, batch_size: int = MAX_ROWS_PER_STATEMENT) -> int:
    """
    Delete events received longer ago than ``older_than``, with their outcomes and reports, batch by batch.

    Joins and runs that were closed longer ago are deleted as well.

    An event stays while it has no run, or a pending report. Idempotent; each batch is one transaction.

    :return: the number of deleted events.
    """
    cutoff = load_time(ledger) - older_than
    reports = select(report.c.id).where(report.c.event_id.is_(None), report.c.sent_at < cutoff)
    _delete_batches(ledger, reports, partial(_delete_rows, report.c.id), batch_size)
    count = _delete_batches(ledger, _select_prunable(cutoff), _delete_events, batch_size)
    for column in (join_wait.c.id, event_run.c.run_id):
        closed = select(column).where(column.table.c.closed_at < cutoff)
        _delete_batches(ledger, closed, partial(_delete_rows, column), batch_size)
    return count


def _delete_batches(
    ledger: Ledger,
    statement: Select[Any],
    delete_rows: Callable[[Sequence[Any], Connection], None],
    batch_size: int,
) -> int:
    """Delete the rows whose keys a SELECT returns; return their number."""
    count = 0
    while keys := [key for (key,) in ledger.read(statement.limit(batch_size))]:
        ledger.write(partial(delete_rows, keys))
        count += len(keys)
    return count


def _select_prunable(cutoff: datetime) -> Select[Any]:
    pending_report = select(report.c.id).where(report.c.event_id == event.c.id, report.c.sent_at.is_(None))
    return (
        select(event.c.id)
        .where(event.c.received_at < cutoff, event.c.run_id.is_not(None))
        .where(~pending_report.exists())
        .order_by(event.c.received_at)
    )


def _delete_events(event_ids: Sequence[int], connection: Connection) -> None:
    release_claims(connection, event_ids)
    _delete_rows(event.c.id, event_ids, connection)


def _delete_rows(column: Column[Any], keys: Sequence[Any], connection: Connection) -> None:
    connection.execute(delete(column.table).where(column.in_(keys)))
