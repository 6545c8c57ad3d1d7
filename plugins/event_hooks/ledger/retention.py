"""Remove old events with their outcomes and reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, delete, select

from event_hooks.ledger import once
from event_hooks.ledger.database import CHUNK, Ledger
from event_hooks.ledger.tables import event, join_wait, report


def prune_events(ledger: Ledger, older_than: timedelta, step: int = CHUNK) -> int:
    """
    Forget events received longer ago than that, with their outcomes and reports, in steps.

    An event without a run, or with a report that is owed, stays.

    :return: how many were forgotten.
    """
    cutoff = datetime.now(UTC) - older_than
    of_none = report.c.event_id.is_(None) & (report.c.sent_at < cutoff)
    ledger.write(lambda connection: connection.execute(delete(report).where(of_none)))
    owed = select(report.c.id).where(report.c.event_id == event.c.id, report.c.sent_at.is_(None))
    wanted = (
        select(event.c.id)
        .where(event.c.received_at < cutoff, event.c.run_id.is_not(None))
        .where(~owed.exists())
        .order_by(event.c.received_at)
        .limit(step)
    )
    count = 0
    while ids := [row.id for row in ledger.read(wanted)]:
        ledger.write(partial(_forget, ids))
        count += len(ids)
    closed = join_wait.c.closed_at < cutoff
    ledger.write(lambda connection: connection.execute(delete(join_wait).where(closed)))
    return count


def _forget(event_ids: Sequence[int], connection: Connection) -> None:
    once.forget(connection, event_ids)
    connection.execute(delete(event).where(event.c.id.in_(event_ids)))
