"""Follow-up events: pending from the transaction of a success until an event server accepts them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Select, select, update

from event_hooks.ledger.clock import read_time, utc_now
from event_hooks.ledger.database import MAX_ROWS_PER_STATEMENT, insert_missing, sanitize_text
from event_hooks.ledger.records import FollowUpEvent, PendingReport
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import follow_up

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger


@dataclass(frozen=True)
class StoredFollowUp:
    """A follow-up event of the ledger."""

    process: str
    payload: dict[str, Any]
    created_at: datetime
    sent_at: datetime | None
    """When an event server accepted it; ``None`` while it is pending, or if it was rejected."""

    error: str | None
    """Why it was rejected."""


def insert_follow_ups(connection: Connection, events: Sequence[FollowUpEvent]) -> None:
    """
    Insert follow-up events that are pending, or cannot be sent.

    Idempotent: the key is (event, process, position), and stored follow-up events stay as they are.
    """
    now = read_time(connection)
    rows = [
        {
            "event_id": event.event_id,
            "process": event.process,
            "position": event.position,
            "payload": json.dumps(event.payload),
            "created_at": now,
            "error": None if event.error is None else sanitize_text(event.error),
        }
        for event in events
    ]
    insert_missing(connection, follow_up, rows)


def load_pending_follow_ups(ledger: Ledger, limit: int = 1000) -> list[FollowUpEvent]:
    """Return the pending follow-up events, the oldest first."""
    columns = (follow_up.c.event_id, follow_up.c.process, follow_up.c.position, follow_up.c.payload)
    statement = select(*columns, follow_up.c.id).where(is_pending()).order_by(follow_up.c.id).limit(limit)
    return [
        FollowUpEvent(row.event_id, row.process, row.position, json.loads(row.payload), id=row.id)
        for row in ledger.read(statement)
    ]


def mark_sent(ledger: Ledger, ids: Sequence[int]) -> None:
    """Record that an event server has accepted follow-up events; idempotent."""
    for batch in sliced(ids, MAX_ROWS_PER_STATEMENT):
        ledger.write(partial(_store_sent, batch))


def mark_rejected(ledger: Ledger, event: FollowUpEvent, error: str, reports: Sequence[PendingReport]) -> None:
    """Record that an event server has rejected a follow-up event, with reports of it; only the first time."""

    def write(connection: Connection) -> None:
        statement = update(follow_up).where(follow_up.c.id == event.id, is_pending())
        if connection.execute(statement.values(error=sanitize_text(error))).rowcount:
            insert_reports(connection, reports)

    ledger.write(write)


def list_follow_ups(ledger: Ledger, event_id: int) -> list[StoredFollowUp]:
    """Return the follow-up events of an event, by process and position."""
    columns = (follow_up.c.process, follow_up.c.payload, follow_up.c.created_at, follow_up.c.sent_at)
    statement: Select[Any] = select(*columns, follow_up.c.error).where(follow_up.c.event_id == event_id)
    rows = ledger.read(statement.order_by(follow_up.c.process, follow_up.c.position))
    return [StoredFollowUp(process, json.loads(payload), *rest) for process, payload, *rest in rows]


def is_pending() -> ColumnElement[bool]:
    """Return the condition that a follow-up event is pending."""
    return follow_up.c.sent_at.is_(None) & follow_up.c.error.is_(None)


def _store_sent(ids: Sequence[int], connection: Connection) -> None:
    connection.execute(update(follow_up).where(follow_up.c.id.in_(ids)).values(sent_at=utc_now()))
