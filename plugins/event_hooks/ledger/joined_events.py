"""Events that joins create from the events that have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from more_itertools import constrained_batches
from sqlalchemy import Connection, insert, select

from event_hooks.events.models import build_causation
from event_hooks.ledger.clock import read_time
from event_hooks.ledger.events import build_event_row
from event_hooks.ledger.records import MAX_RUN_BYTES, NewEvent, joined_event_key
from event_hooks.ledger.tables import event

if TYPE_CHECKING:
    from event_hooks.ledger.joins import JoinWait

SOURCE = "joined"
"""Source of joined events."""

MAX_EVENTS_PER_RUN = 500
"""Joined events of one transaction that share a run."""


def store_joined_events(
    connection: Connection, waits: Sequence[JoinWait], run_id_prefix: str
) -> tuple[list[str], dict[int, int]]:
    """
    Store the joined event of each wait.

    :return: (ids of the runs of the events, ``{id of a wait: id of its event}``).
    """
    run_ids: list[str] = []
    event_ids: dict[int, int] = {}
    now = read_time(connection)
    batches = constrained_batches(
        [(wait, _build_joined_event(wait)) for wait in waits],
        MAX_RUN_BYTES,
        MAX_EVENTS_PER_RUN,
        get_len=lambda item: len(item[1].payload_text),
        strict=False,  # a longer event has a run of its own
    )
    for batch in batches:
        run_id = f"{run_id_prefix}{batch[0][0].opened_at:%Y%m%dT%H%M%S}_{uuid4().hex[:12]}"
        request_id = uuid4().hex
        rows = [
            build_event_row(
                new_event, now, request_id, run_id, position, new_event.payload["follows"]["correlation_id"]
            )
            for position, (_, new_event) in enumerate(batch)
        ]
        connection.execute(insert(event), rows)
        statement = select(event.c.position, event.c.id).where(event.c.run_id == run_id)
        event_ids |= {batch[row.position][0].id: row.id for row in connection.execute(statement)}
        run_ids.append(run_id)
    return run_ids, event_ids


def _build_joined_event(wait: JoinWait) -> NewEvent:
    """Return the joined event: the fields of the last event, and all events in ``joined``."""
    last = wait.events[-1]
    payload = {
        **last.payload,
        **_find_force(wait),
        "event_id": f"{wait.process}/{wait.opened_at:%Y%m%dT%H%M%S}/{wait.id}",
        "follows": build_causation(
            last.payload, last.run_id, last.position, wait.process, last.correlation_id
        ),
        "joined": {
            "process": wait.process,
            "missing": wait.missing,
            "events": [join_event.payload for join_event in wait.events],
        },
    }
    key = joined_event_key(payload["event_id"])
    return NewEvent(key, payload["type"], payload.get("genome"), payload, SOURCE)


def _find_force(wait: JoinWait) -> dict[str, Any]:
    """Return ``force`` and ``reason`` of the last forced event, if an event is forced."""
    forced = [join_event.payload for join_event in wait.events if join_event.payload.get("force")]
    return {name: forced[-1].get(name) for name in ("force", "reason")} if forced else {}
