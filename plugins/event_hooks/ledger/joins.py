"""Events that a process waits for, genome by genome: what has come, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, and_, bindparam, insert, or_, select, update

from event_hooks.events import following
from event_hooks.ledger.records import Entry, OwedReport, Received, key_of
from event_hooks.ledger.statements import Ask, asking, chunks, event_row, insert_new, owe, update_many
from event_hooks.ledger.tables import awaited, awaited_event, event

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger
    from event_hooks.reactions import Join

PREFIX = "joined__"
"""Begins the ids of the runs of events that are made here."""

SOURCE = "joined"

OPEN = 1
"""``open_mark`` of what waits."""

FULL = 500
"""Events of one run."""


@dataclass(frozen=True)
class Came:
    """An event that a process has waited for."""

    id: int
    type: str
    payload: dict[str, Any]
    run_id: str
    position: int


@dataclass(frozen=True)
class Awaited:
    """What a process waits for, of one genome."""

    id: int
    process: str
    genome: str | None
    types: tuple[str, ...]
    then: str
    opened_at: datetime
    closes_at: datetime
    closed_at: datetime | None
    event_id: int | None
    """The event that was made of what came."""

    came: tuple[Came, ...]
    """In the order in which it came; never empty."""

    @property
    def missing(self) -> list[str]:
        """Give the types that have not come."""
        there = {one.type for one in self.came}
        return [name for name in self.types if name not in there]


def note(ledger: Ledger, entries: Iterable[Entry], joins: Mapping[str, Join]) -> list[str]:
    """
    Note that events have come; where all have that a process waits for, make an event of them.

    The same again is harmless: each event comes once.

    :param entries: events that have a run.
    :param joins: by process.
    :return: the runs that have to be started for what was made.
    """
    of: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        kind, genome = entry.payload["type"], entry.payload.get("genome") or ""
        for process, join in joins.items():
            if kind in join.after and not entry.payload.get("joined"):
                of.setdefault((process, genome[:255]), []).append(entry)
    if not of:
        return []
    return ledger.write(lambda connection: _note(connection, of, joins))


def end_late(
    ledger: Ledger, alert: Callable[[Awaited], Sequence[OwedReport]], limit: int = 1000
) -> list[str]:
    """
    End what has waited for too long: make an event of what came, or owe reports, as was told.

    :param alert: makes the reports.
    :return: the runs that have to be started for what was made.
    """

    def write(connection: Connection) -> list[str]:
        late = (awaited.c.open_mark == OPEN) & (awaited.c.closes_at <= datetime.now(UTC))
        found = connection.execute(
            select(awaited).where(late).order_by(awaited.c.id).limit(limit).with_for_update()
        )
        rows = found.all()
        ended = _with_events(asking(connection), rows)
        _close(connection, [row.id for row in rows], {})  # also where all that came is forgotten
        owe(connection, [report for one in ended if one.then != "run" for report in alert(one)])
        return _make(connection, [one for one in ended if one.then == "run"])

    return ledger.write(write)


def waiting(ledger: Ledger, genome: str | None = None, limit: int = 200) -> list[Awaited]:
    """
    Give what is waited for, what ends first being first.

    :param genome: what its name begins with.
    """
    wanted = select(awaited).where(awaited.c.open_mark == OPEN).order_by(awaited.c.closes_at, awaited.c.id)
    if genome:
        wanted = wanted.where(awaited.c.genome.startswith(genome, autoescape=True))
    return _with_events(ledger.read, ledger.read(wanted.limit(limit)))


def find(ledger: Ledger, process: str, genome: str | None) -> Awaited | None:
    """Give what a process waits for now, of a genome."""
    mine = (awaited.c.process == process) & (awaited.c.genome == (genome or "")[:255])
    rows = ledger.read(select(awaited).where(mine, awaited.c.open_mark == OPEN))
    return next(iter(_with_events(ledger.read, rows)), None)


def waiting_for(ledger: Ledger, event_ids: Sequence[int]) -> list[tuple[int, Awaited]]:
    """Give what waits, or has waited, with events: ``[(event id, what waits), …]``."""
    of = [
        (row.event_id, row.awaited_id)
        for some in chunks(event_ids)
        for row in ledger.read(select(awaited_event).where(awaited_event.c.event_id.in_(some)))
    ]
    rows = [
        row
        for some in chunks(sorted({awaited_id for _, awaited_id in of}))
        for row in ledger.read(select(awaited).where(awaited.c.id.in_(some)))
    ]
    found = {one.id: one for one in _with_events(ledger.read, rows)}
    return [(event_id, found[awaited_id]) for event_id, awaited_id in of if awaited_id in found]


def _note(
    connection: Connection, of: Mapping[tuple[str, str], Sequence[Entry]], joins: Mapping[str, Join]
) -> list[str]:
    ids = sorted({entry.id for listed in of.values() for entry in listed})
    there = {
        (row.event_id, row.process)
        for some in chunks(ids)
        for row in connection.execute(select(awaited_event).where(awaited_event.c.event_id.in_(some)))
    }
    new = {
        key: left
        for key, listed in sorted(of.items())  # all in one order, so that two calls do not lock each other
        if (left := [entry for entry in listed if (entry.id, key[0]) not in there])
    }
    found: list[Row[Any]] = []
    while missing := sorted(set(new) - {(row.process, row.genome) for row in found}):
        insert_new(connection, awaited, [_opened(joins[process], genome) for process, genome in missing])
        for some in chunks(missing):
            mine = (and_(awaited.c.process == name, awaited.c.genome == genome) for name, genome in some)
            wanted = select(awaited).where(awaited.c.open_mark == OPEN, or_(*mine)).order_by(awaited.c.id)
            found += connection.execute(wanted.with_for_update()).all()  # less what was closed meanwhile
    came = [
        {"event_id": entry.id, "process": row.process, "awaited_id": row.id}
        for row in found
        for entry in new[row.process, row.genome]
    ]
    if came:
        connection.execute(insert(awaited_event), came)
    full = [one for one in _with_events(asking(connection), found) if not one.missing]
    return _make(connection, full)


def _opened(join: Join, genome: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "process": join.process,
        "genome": genome,
        "types": json.dumps(join.after),
        "then": join.then,
        "opened_at": now,
        "closes_at": now + timedelta(seconds=join.within),
        "open_mark": OPEN,
    }


def _make(connection: Connection, ended: Sequence[Awaited]) -> list[str]:
    """Make an event of each, in runs of their own, and give these runs' ids."""
    runs, now = [], datetime.now(UTC)
    for start in range(0, len(ended), FULL):
        some = ended[start : start + FULL]
        # With a time: a database may give an id again once everything is forgotten
        run_id, intake = f"{PREFIX}{some[0].opened_at:%Y%m%dT%H%M%S}_{some[0].id}", uuid4().hex
        received = [_event(one) for one in some]
        rows = [event_row(made, now, intake, run_id, at) for at, made in enumerate(received)]
        insert_new(connection, event, rows)
        mine = select(event.c.position, event.c.id).where(event.c.run_id == run_id)
        made = {row.position: row.id for row in connection.execute(mine)}
        _close(connection, [one.id for one in some], {one.id: made[at] for at, one in enumerate(some)})
        runs.append(run_id)
    return runs


def _event(one: Awaited) -> Received:
    """Make an event of what came: the last one, with all of them in it."""
    last = one.came[-1]
    forced = [came.payload for came in one.came if came.payload.get("force")]
    payload = {
        **last.payload,
        **{name: came.get(name) for came in forced[-1:] for name in ("force", "reason")},
        "event_id": f"{one.process}/{one.opened_at:%Y%m%dT%H%M%S}/{one.id}",
        "follows": following(last.payload, last.run_id, last.position, one.process),
        "joined": {
            "process": one.process,
            "missing": one.missing,
            "events": [came.payload for came in one.came],
        },
    }
    kind = payload["type"]
    return Received(key_of(kind, payload["event_id"]), kind, payload.get("genome"), payload, SOURCE)


def _close(connection: Connection, ids: Sequence[int], made: Mapping[int, int]) -> None:
    now, it = datetime.now(UTC), update(awaited).where(awaited.c.id == bindparam("of"))
    rows = [{"of": one, "open_mark": None, "closed_at": now, "event_id": made.get(one)} for one in ids]
    update_many(connection, it, rows)


def _with_events(ask: Ask, rows: Sequence[Row[Any]]) -> list[Awaited]:
    came: dict[int, list[Came]] = {}
    columns = (event.c.id, event.c.type, event.c.payload, event.c.run_id, event.c.position)
    joined = awaited_event.join(event, event.c.id == awaited_event.c.event_id)
    wanted: Select[Any] = select(awaited_event.c.awaited_id, *columns).select_from(joined)
    for some in chunks([row.id for row in rows]):
        mine = wanted.where(awaited_event.c.awaited_id.in_(some)).order_by(event.c.id)
        for awaited_id, event_id, kind, payload, *place in ask(mine):
            came.setdefault(awaited_id, []).append(Came(event_id, kind, json.loads(payload), *place))
    return [
        Awaited(
            row.id,
            row.process,
            row.genome or None,
            tuple(json.loads(row.types)),
            row.then,
            row.opened_at,
            row.closes_at,
            row.closed_at,
            row.event_id,
            tuple(came[row.id]),
        )
        for row in rows
        if row.id in came
    ]
