"""Joins: processes that wait for several events of a genome, and the events that joins create."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from more_itertools import sliced
from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, insert, or_, select, update

from event_hooks.exceptions import LedgerUnreachable
from event_hooks.ledger.clock import read_time, utc_now
from event_hooks.ledger.database import (
    CONN_ID,
    MAX_ROWS_PER_STATEMENT,
    RowReader,
    build_row_reader,
    execute_updates,
    insert_missing,
    read_matching,
)
from event_hooks.ledger.joined_events import store_joined_events
from event_hooks.ledger.records import PendingReport, StoredEvent
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import event, join_wait, join_wait_event

if TYPE_CHECKING:
    from event_hooks.events.rules import JoinRule
    from event_hooks.ledger.database import Ledger

OPEN_MARKER = 1
"""``open_marker`` of open waits."""

MAX_LOCK_ATTEMPTS = 20
"""Attempts to lock open waits, while other transactions close them."""

EventsByWait = Mapping[tuple[str, str], Sequence[StoredEvent]]
"""``{(process, digest of the genome): events}``."""


@dataclass(frozen=True)
class JoinWaitEvent:
    """An event for which a process waited, and which has arrived."""

    id: int
    type: str
    payload: dict[str, Any]
    run_id: str
    position: int
    correlation_id: str | None = None
    """As in :class:`event_hooks.ledger.records.StoredEvent`."""


@dataclass(frozen=True)
class JoinWait:
    """The wait of a process for events of one genome."""

    id: int
    process: str
    genome: str | None
    types: tuple[str, ...]
    """Types of the events that the process waits for."""

    on_timeout: str
    """``run`` or ``alert``."""

    opened_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    event_id: int | None
    """Id of the joined event; ``None`` until it is created."""

    events: tuple[JoinWaitEvent, ...]
    """The events that have arrived, in the order of their arrival; never empty."""

    @property
    def missing(self) -> list[str]:
        """Return the types of which no event has arrived."""
        arrived = {join_event.type for join_event in self.events}
        return [event_type for event_type in self.types if event_type not in arrived]


def record_join_events(
    ledger: Ledger, events: Iterable[StoredEvent], rules: Mapping[str, JoinRule], run_id_prefix: str
) -> list[str]:
    """
    Record the arrival of events, and create a joined event for each wait that is complete.

    Idempotent: an event arrives once for each process.

    :param events: events that have a run.
    :param rules: by process.
    :param run_id_prefix: prefix of the ids of runs of joined events.
    :return: ids of the runs to start for the created events.
    """
    events_by_wait = _group_by_wait(events, rules)
    if not events_by_wait:
        return []
    return ledger.write(lambda connection: _store_arrivals(connection, events_by_wait, rules, run_id_prefix))


def close_expired(
    ledger: Ledger,
    build_reports: Callable[[JoinWait], Sequence[PendingReport]],
    run_id_prefix: str,
    limit: int = 1000,
) -> list[str]:
    """
    Close the expired waits; create a joined event or store reports, according to their rule.

    :param build_reports: builds the reports of a wait with ``alert``.
    :param run_id_prefix: as in :func:`record_join_events`.
    :return: ids of the runs to start for the created events.
    """
    statement = select(join_wait).where(is_expired()).order_by(join_wait.c.id).limit(limit).with_for_update()

    def write(connection: Connection) -> list[str]:
        rows = connection.execute(statement).all()
        waits = _load_waits(build_row_reader(connection), rows)
        _close_waits(connection, [row.id for row in rows], {})  # also waits without events, after pruning
        alerts = [wait for wait in waits if wait.on_timeout != "run"]
        insert_reports(connection, [report for wait in alerts for report in build_reports(wait)])
        to_run = [wait for wait in waits if wait.on_timeout == "run"]
        return _create_joined_events(connection, to_run, run_id_prefix)

    return ledger.write(write)


def is_expired() -> ColumnElement[bool]:
    """Return the condition that a wait is open, and its time is over."""
    return (join_wait.c.open_marker == OPEN_MARKER) & (join_wait.c.expires_at <= utc_now())


def list_open_waits(ledger: Ledger, genome_prefix: str | None = None, limit: int = 200) -> list[JoinWait]:
    """Return the open waits, the first to expire first."""
    is_open = join_wait.c.open_marker == OPEN_MARKER
    statement = select(join_wait).where(is_open).order_by(join_wait.c.expires_at, join_wait.c.id)
    if genome_prefix:
        statement = statement.where(join_wait.c.genome.startswith(genome_prefix, autoescape=True))
    return _load_waits(ledger.read, ledger.read(statement.limit(limit)))


def find_open_wait(ledger: Ledger, process: str, genome: str | None) -> JoinWait | None:
    """Return the open wait of a process for a genome, or ``None``."""
    rows = ledger.read(select(join_wait).where(_is_open_wait(process, digest_genome(genome))))
    return next(iter(_load_waits(ledger.read, rows)), None)


def list_waits_of_events(ledger: Ledger, event_ids: Sequence[int]) -> list[tuple[int, JoinWait]]:
    """Return the open and closed waits in which events have arrived: ``[(event id, wait), …]``."""
    arrivals = read_matching(ledger.read, select(join_wait_event), join_wait_event.c.event_id, event_ids)
    wait_ids = sorted({arrival.join_wait_id for arrival in arrivals})
    rows = read_matching(ledger.read, select(join_wait), join_wait.c.id, wait_ids)
    waits = {wait.id: wait for wait in _load_waits(ledger.read, rows)}
    return [
        (arrival.event_id, waits[arrival.join_wait_id])
        for arrival in arrivals
        if arrival.join_wait_id in waits
    ]


def _group_by_wait(events: Iterable[StoredEvent], rules: Mapping[str, JoinRule]) -> EventsByWait:
    events_by_wait: dict[tuple[str, str], list[StoredEvent]] = {}
    for stored in events:
        if not stored.counts_for_joins:
            continue
        genome_digest = digest_genome(stored.payload.get("genome"))
        for process, rule in rules.items():
            # A joined event does not count for further joins.
            if stored.payload["type"] in rule.after and not stored.payload.get("joined"):
                events_by_wait.setdefault((process, genome_digest), []).append(stored)
    return events_by_wait


def _store_arrivals(
    connection: Connection, events_by_wait: EventsByWait, rules: Mapping[str, JoinRule], run_id_prefix: str
) -> list[str]:
    new = _exclude_arrived(connection, events_by_wait)
    rows = _lock_waits(connection, new, rules)
    arrivals = [
        {"event_id": stored.id, "process": row.process, "join_wait_id": row.id}
        for row in rows
        for stored in new[row.process, row.genome_digest]
    ]
    if arrivals:
        connection.execute(insert(join_wait_event), arrivals)
    waits = _load_waits(build_row_reader(connection), rows)
    return _create_joined_events(connection, [wait for wait in waits if not wait.missing], run_id_prefix)


def _exclude_arrived(connection: Connection, events_by_wait: EventsByWait) -> EventsByWait:
    """Return the events without a recorded arrival, in the order in which all transactions lock waits."""
    event_ids = sorted({stored.id for events in events_by_wait.values() for stored in events})
    read_rows = build_row_reader(connection)
    rows = read_matching(read_rows, select(join_wait_event), join_wait_event.c.event_id, event_ids)
    arrived = {(row.event_id, row.process) for row in rows}
    new = {
        (process, digest): [stored for stored in events if (stored.id, process) not in arrived]
        for (process, digest), events in sorted(events_by_wait.items(), key=itemgetter(0))
    }
    return {key: events for key, events in new.items() if events}


def _lock_waits(
    connection: Connection, events_by_wait: EventsByWait, rules: Mapping[str, JoinRule]
) -> list[Row[Any]]:
    """
    Lock the open wait of each key, and open the waits that do not exist.

    :raises LedgerUnreachable: other transactions have closed a wait in each attempt.
    """
    rows: list[Row[Any]] = []
    # Repeated, because another transaction may close a wait between the INSERT and the lock.
    for _ in range(MAX_LOCK_ATTEMPTS):
        missing = sorted(set(events_by_wait) - {(row.process, row.genome_digest) for row in rows})
        if not missing:
            return rows
        now = read_time(connection)
        new_waits = [_build_wait_row(rules[key[0]], events_by_wait[key][0], now) for key in missing]
        insert_missing(connection, join_wait, new_waits)
        for batch in sliced(missing, MAX_ROWS_PER_STATEMENT):
            statement = select(join_wait).where(or_(*(_is_open_wait(*key) for key in batch)))
            rows += connection.execute(statement.order_by(join_wait.c.id).with_for_update()).all()
    process, genome = missing[0][0], events_by_wait[missing[0]][0].payload.get("genome")
    reason = f"the join of {process} for genome {genome!r} was not locked in {MAX_LOCK_ATTEMPTS} attempts"
    raise LedgerUnreachable(CONN_ID, reason)


def _is_open_wait(process: str, genome_digest: str) -> ColumnElement[bool]:
    columns = join_wait.c
    return and_(
        columns.process == process,
        columns.genome_digest == genome_digest,
        columns.open_marker == OPEN_MARKER,
    )


def digest_genome(genome: str | None) -> str:
    """Return the key of a genome among the open waits of a process; ``None`` has the key of an empty text."""
    return hashlib.sha256((genome or "").encode()).hexdigest()


def _build_wait_row(rule: JoinRule, stored: StoredEvent, now: datetime) -> dict[str, Any]:
    genome = stored.payload.get("genome")
    return {
        "process": rule.process,
        "genome": (genome or "")[:255],
        "genome_digest": digest_genome(genome),
        "types": json.dumps(rule.after),
        "on_timeout": rule.then,
        "opened_at": now,
        "expires_at": now + timedelta(seconds=rule.within),
        "open_marker": OPEN_MARKER,
    }


def _create_joined_events(connection: Connection, waits: Sequence[JoinWait], run_id_prefix: str) -> list[str]:
    """Create the joined event of each wait, and close the waits; return the run ids of the events."""
    run_ids, event_ids = store_joined_events(connection, waits, run_id_prefix)
    _close_waits(connection, list(event_ids), event_ids)
    return run_ids


def _close_waits(connection: Connection, ids: Sequence[int], joined_ids: Mapping[int, int]) -> None:
    """
    Close waits.

    :param joined_ids: ``{id of a wait: id of its joined event}``.
    """
    statement, now = update(join_wait).where(join_wait.c.id == bindparam("id_")), read_time(connection)
    rows = [
        {"id_": wait_id, "open_marker": None, "closed_at": now, "event_id": joined_ids.get(wait_id)}
        for wait_id in ids
    ]
    execute_updates(connection, statement, rows)


def _load_waits(read_rows: RowReader, rows: Sequence[Row[Any]]) -> list[JoinWait]:
    """Return the waits of rows with their events; a wait is left out if all its events were pruned."""
    events = _load_wait_events(read_rows, [row.id for row in rows])
    return [
        JoinWait(
            row.id,
            row.process,
            row.genome or None,
            tuple(json.loads(row.types)),
            row.on_timeout,
            row.opened_at,
            row.expires_at,
            row.closed_at,
            row.event_id,
            tuple(events[row.id]),
        )
        for row in rows
        if row.id in events
    ]


def _load_wait_events(read_rows: RowReader, wait_ids: Sequence[int]) -> dict[int, list[JoinWaitEvent]]:
    names = ("id", "type", "payload", "run_id", "position", "correlation_id")
    arrived = join_wait_event.join(event, event.c.id == join_wait_event.c.event_id)
    statement = (
        select(join_wait_event.c.join_wait_id, *(event.c[name] for name in names))
        .select_from(arrived)
        .order_by(event.c.id)
    )
    events: dict[int, list[JoinWaitEvent]] = {}
    for row in read_matching(read_rows, statement, join_wait_event.c.join_wait_id, wait_ids):
        fields = {**{name: row._mapping[name] for name in names}, "payload": json.loads(row.payload)}
        join_event = JoinWaitEvent(**fields)
        events.setdefault(row.join_wait_id, []).append(join_event)
    return events
