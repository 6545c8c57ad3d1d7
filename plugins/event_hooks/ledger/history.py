"""Events that the ledger has received in a period, to plan them again with other lookups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from event_hooks.ledger.database import read_matching
from event_hooks.ledger.tables import event

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger


@dataclass(frozen=True)
class ReceivedEvent:
    """An event that the ledger has received."""

    id: int
    type: str
    payload: dict[str, Any]
    is_derived: bool
    """Whether it is the event of a join, or repeats only some processes of another event."""


def list_received_ids(ledger: Ledger, since: datetime, until: datetime, limit: int) -> list[int]:
    """
    Return the ids of the events received from ``since`` on and before ``until``, sorted.

    :param limit: maximum number of ids.
    """
    is_in_period = event.c.received_at >= since, event.c.received_at < until
    # Sorted here: with an order by id, a database may read the whole table in that order.
    return sorted(row.id for row in ledger.read(select(event.c.id).where(*is_in_period).limit(limit)))


def load_received(ledger: Ledger, event_ids: Sequence[int]) -> list[ReceivedEvent]:
    """Return the events with these ids, sorted; events that were pruned meanwhile are left out."""
    columns = event.c.id, event.c.type, event.c.payload, event.c.counts_for_joins
    rows = read_matching(ledger.read, select(*columns), event.c.id, event_ids)
    return [_to_received_event(row) for row in sorted(rows, key=attrgetter("id"))]


def _to_received_event(row: Any) -> ReceivedEvent:
    payload = json.loads(row.payload)
    return ReceivedEvent(row.id, row.type, payload, bool(payload.get("joined")) or not row.counts_for_joins)
