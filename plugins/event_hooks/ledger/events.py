"""Events of the ledger: accept them, assign them to runs, and load them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import uuid4

from more_itertools import sliced
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from event_hooks import metrics
from event_hooks.exceptions import EventKeyConflict
from event_hooks.ledger import once
from event_hooks.ledger.database import CHUNK, Ledger, insert_missing, is_deadlock, sanitize_text
from event_hooks.ledger.records import EventRequest, NewEvent, ProcessStatus, StoredEvent
from event_hooks.ledger.tables import event


def accept_events(
    ledger: Ledger,
    received: Sequence[NewEvent],
    run_id: str | None = None,
    positions: Sequence[int] | None = None,
) -> list[StoredEvent]:
    """
    Write events down, in their order; a known key is left as it is.

    :param run_id: of the run that brought them, if one did.
    :param positions: in that run; default 0, 1, …
    :return: an entry for each, of the first arrival where it is known. Whether that had the same payload
        is the caller's question.
    """
    now, intake = datetime.now(UTC), uuid4().hex
    rows = [
        event_row(one, now, intake, run_id, position)
        for position, one in zip(positions or range(len(received)), received, strict=True)
    ]
    rows.sort(key=itemgetter("event_key"))  # all in one order, so that two calls do not lock each other

    def write(connection: Connection) -> dict[str, StoredEvent]:
        insert_missing(connection, event, rows)
        return read_events(connection, [one.key for one in received], intake)

    found = ledger.write(write)
    metrics.received(one for one in received if found[one.key].is_new)
    return [found[one.key] for one in received]


def accept_requests(
    ledger: Ledger, arrivals: Sequence[EventRequest], run_id: str, first: int
) -> tuple[list[list[StoredEvent] | EventKeyConflict], int]:
    """
    Write down what came in, in one transaction, with what will be done for it.

    New events get the run's positions from ``first`` on, without a gap. After an error, what is written
    is not known: go on with another run.

    :return: for each arrival its entries, of the first arrival where an event is known, or why nothing
        of it was written; and how many events are new.
    """

    def write(connection: Connection) -> tuple[list[list[StoredEvent] | EventKeyConflict], list[NewEvent]]:
        keys = [one.key for arrival in arrivals for one in arrival.events]
        keys += [arrival.unlike for arrival in arrivals if arrival.unlike]
        known = read_events(connection, keys)
        new: dict[str, tuple[NewEvent, Sequence[tuple[str, str, str]]]] = {}
        refusals: list[EventKeyConflict | None] = []
        for arrival in arrivals:
            seen = {key: entry.payload for key, entry in known.items()}
            seen |= {key: dict(one.payload) for key, (one, _) in new.items()}
            refusals.append(_find_conflict(arrival, seen))
            if refusals[-1] is None:
                for one, processes in zip(arrival.events, arrival.processes, strict=True):
                    if one.key not in seen:
                        new.setdefault(one.key, (one, processes))
        now, intake = datetime.now(UTC), uuid4().hex
        rows = [
            event_row(one, now, intake, run_id, position)
            for position, (one, _) in enumerate(new.values(), first)
        ]
        if rows:
            connection.execute(insert(event), rows)  # fails if another call was quicker with a key
            written = read_events(connection, list(new), intake)
            claims = {
                (written[one.key].id, process): claim
                for arrival in arrivals
                for (at, process), claim in arrival.claims.items()
                if (one := arrival.events[at]).key in written
            }
            planned = [
                ProcessStatus(written[key].id, written[key].position, *process)
                for key, (_, processes) in new.items()
                for process in processes
            ]
            once.add_planned(connection, planned, claims)
            known |= written
        answers = [
            refusal or [known[one.key] for one in arrival.events]
            for arrival, refusal in zip(arrivals, refusals, strict=True)
        ]
        return answers, [one for one, _ in new.values()]

    answers, new = ledger.write(write, lambda error: is_deadlock(error) or isinstance(error, IntegrityError))
    metrics.received(new)
    return answers, len(new)


def load_events_by_key(ledger: Ledger, keys: Sequence[str]) -> dict[str, StoredEvent]:
    """Give the events that are there under these keys: ``{key: entry}``."""
    with ledger.transaction() as connection:
        return read_events(connection, keys)


def list_events_without_run(ledger: Ledger, limit: int, age: timedelta = timedelta(0)) -> list[StoredEvent]:
    """Give the oldest accepted events that no run has, and that have waited for as long as ``age``."""
    return _list_unplanned(ledger, event.c.run_id.is_(None), limit, age)


def list_unplanned_events(
    ledger: Ledger, prefix: str, limit: int, age: timedelta = timedelta(0)
) -> list[StoredEvent]:
    """Give the oldest events of runs named like that which have not planned them after ``age``."""
    return _list_unplanned(ledger, event.c.run_id.startswith(prefix, autoescape=True), limit, age)


def _list_unplanned(ledger: Ledger, which: Any, limit: int, age: timedelta) -> list[StoredEvent]:
    wanted = (
        select(event)
        .where(event.c.planned_at.is_(None), which, event.c.received_at <= datetime.now(UTC) - age)
        .order_by(event.c.id)
        .limit(limit)
    )
    found = sorted(ledger.read(wanted), key=lambda row: (row.received_at, row.position))
    return [stored_event(row) for row in found]


def assign_run(ledger: Ledger, run_id: str, event_ids: Sequence[int]) -> list[StoredEvent]:
    """
    Let a run have events; one that another run has stays there.

    :return: all events of that run.
    """

    def write(connection: Connection) -> None:
        mine = (
            update(event)
            .where(event.c.id == bindparam("of"), event.c.run_id.is_(None))
            .values(run_id=run_id, position=bindparam("at"))
        )
        places = [{"of": event_id, "at": at} for at, event_id in enumerate(event_ids)]
        for some in sliced(places, CHUNK):
            connection.execute(mine, some)

    ledger.write(write)
    return load_run_events(ledger, run_id)


def load_run_events(ledger: Ledger, run_id: str) -> list[StoredEvent]:
    """Give a run's events, in the order of their positions."""
    found = ledger.read(select(event).where(event.c.run_id == run_id))
    return sorted((stored_event(row) for row in found), key=lambda entry: entry.position)


def load_event(ledger: Ledger, event_id: int) -> StoredEvent | None:
    """Give an event."""
    found = ledger.read(select(event).where(event.c.id == event_id))
    return stored_event(found[0]) if found else None


def list_runs_since(ledger: Ledger, since: datetime) -> list[str]:
    """Give the runs of the events that came since then, the oldest first."""
    wanted = select(event.c.run_id, event.c.id).where(event.c.received_at >= since)
    found = ledger.read(wanted.where(event.c.run_id.is_not(None)).order_by(event.c.id))
    return list(dict.fromkeys(row.run_id for row in found))


def event_row(
    one: NewEvent, received_at: datetime, intake: str, run_id: str | None, position: int
) -> dict[str, Any]:
    return {
        "event_key": one.key,
        "type": sanitize_text(one.type)[:255],
        "genome": None if one.genome is None else sanitize_text(one.genome)[:255],
        "payload": json.dumps(one.payload),
        "source": one.source,
        "received_at": received_at,
        "request_id": intake,
        "run_id": run_id,
        "position": position,
        "correlation_id": (one.payload.get("follows") or {}).get("correlation_id"),
    }


def stored_event(row: Any, *, is_new: bool = False) -> StoredEvent:
    return StoredEvent(
        row.id, json.loads(row.payload), row.run_id, row.position, is_new, row.planned_at is not None
    )


def read_events(
    connection: Connection, keys: Sequence[str], intake: str | None = None
) -> dict[str, StoredEvent]:
    """Read events by their keys; those of this intake are new."""
    wanted = select(event).where(event.c.event_key.in_(bindparam("keys", expanding=True)))
    return {
        row.event_key: stored_event(row, is_new=row.request_id == intake)
        for some in sliced(keys, CHUNK)
        for row in connection.execute(wanted, {"keys": some})
    }


def _find_conflict(arrival: EventRequest, seen: Mapping[str, Mapping[str, Any]]) -> EventKeyConflict | None:
    """Tell whether a key of an arrival stands for something else already."""
    payloads: dict[str, Any] = {}
    for position, one in enumerate(arrival.events):
        before = payloads.setdefault(one.key, seen.get(one.key, one.payload))
        if _comparable(before) != _comparable(one.payload):
            return EventKeyConflict(position)
    if arrival.unlike:
        is_known = {one.key in seen for one in arrival.events}
        if arrival.unlike in seen or len(is_known) > 1:
            return EventKeyConflict(0)
    return None


def _comparable(payload: Mapping[str, Any]) -> str:
    """Write a payload so that equal ones are equal: 1 is no true, but event_id 42 is "42"."""
    event_id = payload.get("event_id")
    same = {
        **payload,
        "event_id": None if event_id is None else str(event_id),
        "genome": payload.get("genome"),
    }
    return json.dumps(same, sort_keys=True)
