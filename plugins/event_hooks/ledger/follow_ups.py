"""Events that follow from a success: owed from its transaction on, until an event server has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from more_itertools import sliced
from sqlalchemy import Connection, Select, select, update

from event_hooks.ledger.database import CHUNK, insert_missing, sanitize_text
from event_hooks.ledger.records import FollowUpEvent, PendingReport
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import follow_up

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger


@dataclass(frozen=True)
class FollowUp:
    """An event that follows from another one, and where it is."""

    process: str
    payload: dict[str, Any]
    created_at: datetime
    sent_at: datetime | None
    error: str | None


def insert_follow_ups(connection: Connection, owed: Sequence[FollowUpEvent]) -> None:
    """Note events that have to be handed on, or cannot be; those that are known stay as they are."""
    now = datetime.now(UTC)
    rows = [
        {
            "event_id": one.event_id,
            "process": one.process,
            "position": one.position,
            "payload": json.dumps(one.payload),
            "created_at": now,
            "error": None if one.error is None else sanitize_text(one.error),
        }
        for one in owed
    ]
    insert_missing(connection, follow_up, rows)


def load_pending_follow_ups(ledger: Ledger, limit: int = 1000) -> list[FollowUpEvent]:
    """Give the oldest events that have to be handed on."""
    columns = (follow_up.c.event_id, follow_up.c.process, follow_up.c.position, follow_up.c.payload)
    wanted = select(*columns, follow_up.c.id).where(_is_owed()).order_by(follow_up.c.id).limit(limit)
    return [
        FollowUpEvent(row.event_id, row.process, row.position, json.loads(row.payload), id=row.id)
        for row in ledger.read(wanted)
    ]


def mark_sent(ledger: Ledger, ids: Sequence[int]) -> None:
    """Note that an event server has taken events."""
    for some in sliced(ids, CHUNK):
        ledger.write(partial(_note_sent, some))


def mark_rejected(ledger: Ledger, one: FollowUpEvent, error: str, reports: Sequence[PendingReport]) -> None:
    """Note that an event server does not take an event, and that people are told."""

    def write(connection: Connection) -> None:
        mine = update(follow_up).where(follow_up.c.id == one.id, _is_owed())
        if connection.execute(mine.values(error=sanitize_text(error))).rowcount:
            insert_reports(connection, reports)

    ledger.write(write)


def list_follow_ups(ledger: Ledger, event_id: int) -> list[FollowUp]:
    """Give the events that follow from an event."""
    columns = (follow_up.c.process, follow_up.c.payload, follow_up.c.created_at, follow_up.c.sent_at)
    wanted: Select[Any] = select(*columns, follow_up.c.error).where(follow_up.c.event_id == event_id)
    found = ledger.read(wanted.order_by(follow_up.c.process, follow_up.c.position))
    return [FollowUp(process, json.loads(payload), *rest) for process, payload, *rest in found]


def _is_owed() -> Any:
    return follow_up.c.sent_at.is_(None) & follow_up.c.error.is_(None)


def _note_sent(ids: Sequence[int], connection: Connection) -> None:
    connection.execute(update(follow_up).where(follow_up.c.id.in_(ids)).values(sent_at=datetime.now(UTC)))
