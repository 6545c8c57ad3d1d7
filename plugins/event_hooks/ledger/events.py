"""Events of the ledger: store them under their runs, close the runs, and load the events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from event_hooks import metrics
from event_hooks.exceptions import EventKeyConflict, RunClosed
from event_hooks.ledger.chains import find_correlation_ids
from event_hooks.ledger.clock import load_time, read_time, utc_now
from event_hooks.ledger.database import (
    Ledger,
    build_row_reader,
    insert_missing,
    is_deadlock,
    read_matching,
    sanitize_text,
)
from event_hooks.ledger.once import insert_planned
from event_hooks.ledger.records import (
    EventRequest,
    NewEvent,
    OnceClaim,
    ProcessStatus,
    RunEvents,
    StoredEvent,
)
from event_hooks.ledger.tables import event, event_run

NewProcesses = Mapping[str, tuple[NewEvent, Sequence[tuple[str, str, str]]]]
"""``{event key: (event, its (process, hive, analysis) tuples)}``."""


def accept_events(
    ledger: Ledger,
    events: Sequence[NewEvent],
    run_id: str,
    positions: Sequence[int] | None = None,
) -> list[StoredEvent]:
    """
    Store events, in their order. Idempotent: if a key is stored, its event stays as it is.

    :param run_id: the run with which the events arrived, and to which they belong.
    :param positions: positions of the events in that run; default 0, 1, …
    :return: the stored record of each event. The payload of a duplicate may differ from the stored payload;
        the caller has to compare them.
    """
    request_id = uuid4().hex

    def write(connection: Connection) -> dict[str, StoredEvent]:
        now = read_time(connection)
        correlation_ids = find_correlation_ids(connection, events)
        rows = [
            build_event_row(new_event, now, request_id, run_id, position, correlation_ids.get(new_event.key))
            for position, new_event in zip(positions or range(len(events)), events, strict=True)
        ]
        rows.sort(key=itemgetter("event_key"))  # all transactions lock in this order: no deadlocks
        insert_missing(connection, event, rows)
        return _load_by_key(connection, [new_event.key for new_event in events], request_id)

    stored = ledger.write(write)
    metrics.count_received(new_event for new_event in events if stored[new_event.key].is_new)
    return [stored[new_event.key] for new_event in events]


def accept_requests(
    ledger: Ledger, requests: Sequence[EventRequest], run_id: str, first_position: int
) -> tuple[list[list[StoredEvent] | EventKeyConflict], int]:
    """
    Store the events of requests and their processes, in one transaction.

    New events get the positions of the run from ``first_position`` on, without a gap. After an error other
    than :class:`RunClosed`, it is unknown whether the transaction was committed: continue with another run.

    :return: for each request the stored record of each event, or the conflict because of which the request
        was not stored; and the number of new events.
    :raises RunClosed: there are new events and the run is closed; nothing is stored.
    """
    answers, new_events = ledger.write(
        lambda connection: _store_requests(connection, requests, run_id, first_position),
        lambda error: is_deadlock(error) or isinstance(error, IntegrityError),
    )
    metrics.count_received(new_events)
    return answers, len(new_events)


def close_run(ledger: Ledger, run_id: str) -> None:
    """
    Close a run, before its events are read: no further event can appear in it. Idempotent.

    It waits for the transactions that are storing events of the run.
    """
    is_open = event_run.c.run_id == run_id, event_run.c.closed_at.is_(None)

    def write(connection: Connection) -> None:
        insert_missing(connection, event_run, [{"run_id": run_id}])
        connection.execute(update(event_run).where(*is_open).values(closed_at=utc_now()))

    ledger.write(write)


def load_events_by_key(ledger: Ledger, keys: Sequence[str]) -> dict[str, StoredEvent]:
    """Return the stored events with these keys: ``{key: event}``."""
    with ledger.transaction() as connection:
        return _load_by_key(connection, keys)


def list_unplanned_events(ledger: Ledger, limit: int, age: timedelta = timedelta(0)) -> list[StoredEvent]:
    """Return the oldest unplanned events that were received at least ``age`` ago."""
    cutoff = load_time(ledger) - age
    statement = select(event).where(event.c.planned_at.is_(None), event.c.received_at <= cutoff)
    return [_to_stored_event(row) for row in ledger.read(statement.order_by(event.c.id).limit(limit))]


def load_run_events(ledger: Ledger, run_id: str) -> list[StoredEvent]:
    """Return the events of a run, by position."""
    rows = ledger.read(select(event).where(event.c.run_id == run_id))
    return sorted((_to_stored_event(row) for row in rows), key=attrgetter("position"))


def load_run(ledger: Ledger, run_id: str) -> RunEvents:
    """Return the parsed events of a run."""
    return RunEvents.from_stored(run_id, load_run_events(ledger, run_id))


def load_event(ledger: Ledger, event_id: int) -> StoredEvent | None:
    """Return an event, or ``None`` if the ledger does not have it."""
    rows = ledger.read(select(event).where(event.c.id == event_id))
    return _to_stored_event(rows[0]) if rows else None


def load_events(ledger: Ledger, event_ids: Sequence[int]) -> list[StoredEvent]:
    """Return events in the order in which they were stored, without those that the ledger does not have."""
    rows = read_matching(ledger.read, select(event), event.c.id, event_ids)
    return sorted((_to_stored_event(row) for row in rows), key=attrgetter("id"))


def list_runs_since(ledger: Ledger, since: datetime) -> list[str]:
    """Return the ids of the runs with events received since then, the oldest first."""
    statement = select(event.c.run_id, event.c.id).where(event.c.received_at >= since)
    rows = ledger.read(statement.order_by(event.c.id))
    return list(dict.fromkeys(row.run_id for row in rows))


def build_event_row(
    new_event: NewEvent,
    received_at: datetime,
    request_id: str,
    run_id: str | None,
    position: int,
    correlation_id: str | None,
) -> dict[str, Any]:
    """Return the row of the table ``event`` for an event."""
    return {
        "event_key": new_event.key,
        "type": sanitize_text(new_event.type)[:255],
        "genome": None if new_event.genome is None else sanitize_text(new_event.genome)[:255],
        "payload": new_event.payload_text,
        "source": new_event.source,
        "received_at": received_at,
        "request_id": request_id,
        "run_id": run_id,
        "position": position,
        "counts_for_joins": new_event.counts_for_joins,
        "correlation_id": correlation_id,
    }


def _store_requests(
    connection: Connection, requests: Sequence[EventRequest], run_id: str, first_position: int
) -> tuple[list[list[StoredEvent] | EventKeyConflict], list[NewEvent]]:
    keys = [new_event.key for request in requests for new_event in request.events]
    keys += [request.conflict_key for request in requests if request.conflict_key]
    stored = _load_by_key(connection, keys)
    new, conflicts = _find_new_events(requests, stored)
    new_events = [new_event for new_event, _ in new.values()]
    if new_events:
        _lock_open_run(connection, run_id)
        inserted = _insert_events(connection, new_events, run_id, first_position)
        insert_planned(connection, _build_statuses(new, inserted), _build_claims(requests, inserted))
        stored |= inserted
    answers: list[list[StoredEvent] | EventKeyConflict] = []
    for request, conflict in zip(requests, conflicts, strict=True):
        keys = [new_event.key for new_event in request.events]
        answers.append(conflict or [_take_once(stored, key) for key in keys])
    return answers, new_events


def _take_once(stored: dict[str, StoredEvent], key: str) -> StoredEvent:
    """Return an event; only the first result for a new event is new, as concurrent requests may repeat it."""
    found = stored[key]
    stored[key] = replace(found, is_new=False)
    return found


def _lock_open_run(connection: Connection, run_id: str) -> None:
    """
    Lock the row of a run until the end of the transaction, so that :func:`close_run` waits for it.

    :raises RunClosed: the run is closed.
    """
    insert_missing(connection, event_run, [{"run_id": run_id}])
    statement = select(event_run.c.closed_at).where(event_run.c.run_id == run_id).with_for_update()
    if connection.execute(statement).scalar_one():
        raise RunClosed(run_id)


def _find_new_events(
    requests: Sequence[EventRequest], stored: Mapping[str, StoredEvent]
) -> tuple[NewProcesses, list[EventKeyConflict | None]]:
    """Return the events to insert, and for each request its conflict, if it has one."""
    payloads: dict[str, Mapping[str, Any]] = {key: record.payload for key, record in stored.items()}
    new: dict[str, tuple[NewEvent, Sequence[tuple[str, str, str]]]] = {}
    conflicts = []
    for request in requests:
        conflict = _find_conflict(request, payloads)
        conflicts.append(conflict)
        if conflict is None:
            for new_event, processes in zip(request.events, request.processes, strict=True):
                if new_event.key not in payloads:
                    payloads[new_event.key] = new_event.payload
                    new[new_event.key] = new_event, processes
    return new, conflicts


def _find_conflict(
    request: EventRequest, payloads: Mapping[str, Mapping[str, Any]]
) -> EventKeyConflict | None:
    """Return a conflict if a key of the request belongs to another payload or another set of events."""
    expected: dict[str, Any] = {}
    for position, new_event in enumerate(request.events):
        payload = expected.setdefault(new_event.key, payloads.get(new_event.key, new_event.payload))
        if _comparable(payload) != _comparable(new_event.payload):
            return EventKeyConflict(position)
    if request.conflict_key:
        are_stored = {new_event.key in payloads for new_event in request.events}
        if request.conflict_key in payloads or len(are_stored) > 1:
            return EventKeyConflict(0)
    return None


def _comparable(payload: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal payloads: 1 differs from true, but event_id 42 equals "42"."""
    event_id = payload.get("event_id")
    normalized = {
        **payload,
        "event_id": None if event_id is None else str(event_id),
        "genome": payload.get("genome"),
    }
    return json.dumps(normalized, sort_keys=True)


def _insert_events(
    connection: Connection, new_events: Sequence[NewEvent], run_id: str, first_position: int
) -> dict[str, StoredEvent]:
    """Insert events; fails with an ``IntegrityError`` if another transaction has inserted a key meanwhile."""
    now, request_id = read_time(connection), uuid4().hex
    correlation_ids = find_correlation_ids(connection, new_events)
    rows = [
        build_event_row(new_event, now, request_id, run_id, position, correlation_ids.get(new_event.key))
        for position, new_event in enumerate(new_events, first_position)
    ]
    connection.execute(insert(event), rows)
    return _load_by_key(connection, [new_event.key for new_event in new_events], request_id)


def _build_statuses(new: NewProcesses, inserted: Mapping[str, StoredEvent]) -> list[ProcessStatus]:
    return [
        ProcessStatus(inserted[key].id, inserted[key].position, *process)
        for key, (_, processes) in new.items()
        for process in processes
    ]


def _build_claims(
    requests: Sequence[EventRequest], inserted: Mapping[str, StoredEvent]
) -> dict[tuple[int, str], OnceClaim]:
    """Return the claims of the inserted events by event id instead of position."""
    return {
        (inserted[new_event.key].id, process): claim
        for request in requests
        for (position, process), claim in request.claims.items()
        if (new_event := request.events[position]).key in inserted
    }


def _load_by_key(
    connection: Connection, keys: Sequence[str], request_id: str | None = None
) -> dict[str, StoredEvent]:
    """Return ``{key: event}``; events that the call ``request_id`` has stored are new."""
    rows = read_matching(build_row_reader(connection), select(event), event.c.event_key, keys)
    return {row.event_key: _to_stored_event(row, is_new=row.request_id == request_id) for row in rows}


def _to_stored_event(row: Any, *, is_new: bool = False) -> StoredEvent:
    return StoredEvent(
        row.id,
        json.loads(row.payload),
        row.run_id,
        row.position,
        is_new=is_new,
        is_planned=row.planned_at is not None,
        rejected_reason=row.rejected_reason,
        counts_for_joins=row.counts_for_joins,
        correlation_id=row.correlation_id,
    )
