"""Delete old events with their outcomes and reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, delete, select

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
    cutoff = datetime.now(UTC) - older_than
    without_event = delete(report).where(report.c.event_id.is_(None), report.c.sent_at < cutoff)
    ledger.write(lambda connection: connection.execute(without_event))
    statement = _select_prunable(cutoff, batch_size)
    count = 0
    while event_ids := [row.id for row in ledger.read(statement)]:
        ledger.write(partial(_delete_events, event_ids))
        count += len(event_ids)
    ledger.write(partial(_delete_closed, cutoff))
    return count


def _delete_closed(cutoff: datetime, connection: Connection) -> None:
    for table in (join_wait, event_run):
        connection.execute(delete(table).where(table.c.closed_at < cutoff))


def _select_prunable(cutoff: datetime, limit: int) -> Select[Any]:
    pending_report = select(report.c.id).where(report.c.event_id == event.c.id, report.c.sent_at.is_(None))
    return (
        select(event.c.id)
        .where(event.c.received_at < cutoff, event.c.run_id.is_not(None))
        .where(~pending_report.exists())
        .order_by(event.c.received_at)
        .limit(limit)
    )


def _delete_events(event_ids: Sequence[int], connection: Connection) -> None:
    release_claims(connection, event_ids)
    connection.execute(delete(event).where(event.c.id.in_(event_ids)))
