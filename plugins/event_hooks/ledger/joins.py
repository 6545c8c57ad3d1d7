"""Events that a process waits for, genome by genome: what has come, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from more_itertools import sliced
from sqlalchemy import Connection, Row, Select, and_, bindparam, insert, or_, select, update

from event_hooks.events.models import build_causation
from event_hooks.ledger.database import CHUNK, Reader, execute_updates, insert_missing, reader_of
from event_hooks.ledger.events import event_row
from event_hooks.ledger.records import NewEvent, PendingReport, StoredEvent, event_key
from event_hooks.ledger.reports import insert_reports
from event_hooks.ledger.tables import event, join_wait, join_wait_event

if TYPE_CHECKING:
    from event_hooks.events.rules import JoinRule
    from event_hooks.ledger.database import Ledger

SOURCE = "joined"

OPEN = 1
"""``open_marker`` of what waits."""

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
class JoinWait:
    """What a process waits for, of one genome."""

    id: int
    process: str
    genome: str | None
    types: tuple[str, ...]
    then: str
    opened_at: datetime
    expires_at: datetime
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


def note(
    ledger: Ledger, entries: Iterable[StoredEvent], joins: Mapping[str, JoinRule], run_id_prefix: str
) -> list[str]:
    """
    Note that events have come; where all have that a process waits for, make an event of them.

    The same again is harmless: each event comes once.

    :param entries: events that have a run.
    :param joins: by process.
    :param run_id_prefix: of the runs of joined events.
    :return: the runs that have to be started for what was made.
    """
    of: dict[tuple[str, str], list[StoredEvent]] = {}
    for entry in entries:
        kind, genome = entry.payload["type"], entry.payload.get("genome") or ""
        for process, join in joins.items():
            if kind in join.after and not entry.payload.get("joined"):
                of.setdefault((process, genome[:255]), []).append(entry)
    if not of:
        return []
    return ledger.write(lambda connection: _note(connection, of, joins, run_id_prefix))


def end_late(
    ledger: Ledger,
    alert: Callable[[JoinWait], Sequence[PendingReport]],
    run_id_prefix: str,
    limit: int = 1000,
) -> list[str]:
    """
    End what has waited for too long: make an event of what came, or owe reports, as was told.

    :param alert: makes the reports.
    :param run_id_prefix: as in :func:`note`.
    :return: the runs that have to be started for what was made.
    """

    def write(connection: Connection) -> list[str]:
        late = (join_wait.c.open_marker == OPEN) & (join_wait.c.expires_at <= datetime.now(UTC))
        found = connection.execute(
            select(join_wait).where(late).order_by(join_wait.c.id).limit(limit).with_for_update()
        )
        rows = found.all()
        ended = _with_events(reader_of(connection), rows)
        _close(connection, [row.id for row in rows], {})  # also where all that came is forgotten
        insert_reports(connection, [report for one in ended if one.then != "run" for report in alert(one)])
        return _make(connection, [one for one in ended if one.then == "run"], run_id_prefix)

    return ledger.write(write)


def waiting(ledger: Ledger, genome: str | None = None, limit: int = 200) -> list[JoinWait]:
    """
    Give what is waited for, what ends first being first.

    :param genome: what its name begins with.
    """
    wanted = (
        select(join_wait)
        .where(join_wait.c.open_marker == OPEN)
        .order_by(join_wait.c.expires_at, join_wait.c.id)
    )
    if genome:
        wanted = wanted.where(join_wait.c.genome.startswith(genome, autoescape=True))
    return _with_events(ledger.read, ledger.read(wanted.limit(limit)))


def find(ledger: Ledger, process: str, genome: str | None) -> JoinWait | None:
    """Give what a process waits for now, of a genome."""
    mine = (join_wait.c.process == process) & (join_wait.c.genome == (genome or "")[:255])
    rows = ledger.read(select(join_wait).where(mine, join_wait.c.open_marker == OPEN))
    return next(iter(_with_events(ledger.read, rows)), None)


def waiting_for(ledger: Ledger, event_ids: Sequence[int]) -> list[tuple[int, JoinWait]]:
    """Give what waits, or has waited, with events: ``[(event id, what waits), …]``."""
    of = [
        (row.event_id, row.join_wait_id)
        for some in sliced(event_ids, CHUNK)
        for row in ledger.read(select(join_wait_event).where(join_wait_event.c.event_id.in_(some)))
    ]
    rows = [
        row
        for some in sliced(sorted({join_wait_id for _, join_wait_id in of}), CHUNK)
        for row in ledger.read(select(join_wait).where(join_wait.c.id.in_(some)))
    ]
    found = {one.id: one for one in _with_events(ledger.read, rows)}
    return [(event_id, found[join_wait_id]) for event_id, join_wait_id in of if join_wait_id in found]


def _note(
    connection: Connection,
    of: Mapping[tuple[str, str], Sequence[StoredEvent]],
    joins: Mapping[str, JoinRule],
    run_id_prefix: str,
) -> list[str]:
    ids = sorted({entry.id for listed in of.values() for entry in listed})
    there = {
        (row.event_id, row.process)
        for some in sliced(ids, CHUNK)
        for row in connection.execute(select(join_wait_event).where(join_wait_event.c.event_id.in_(some)))
    }
    new = {
        key: left
        for key, listed in sorted(of.items())  # all in one order, so that two calls do not lock each other
        if (left := [entry for entry in listed if (entry.id, key[0]) not in there])
    }
    found: list[Row[Any]] = []
    while missing := sorted(set(new) - {(row.process, row.genome) for row in found}):
        insert_missing(
            connection, join_wait, [_opened(joins[process], genome) for process, genome in missing]
        )
        for some in sliced(missing, CHUNK):
            mine = (and_(join_wait.c.process == name, join_wait.c.genome == genome) for name, genome in some)
            wanted = (
                select(join_wait).where(join_wait.c.open_marker == OPEN, or_(*mine)).order_by(join_wait.c.id)
            )
            found += connection.execute(wanted.with_for_update()).all()  # less what was closed meanwhile
    came = [
        {"event_id": entry.id, "process": row.process, "join_wait_id": row.id}
        for row in found
        for entry in new[row.process, row.genome]
    ]
    if came:
        connection.execute(insert(join_wait_event), came)
    full = [one for one in _with_events(reader_of(connection), found) if not one.missing]
    return _make(connection, full, run_id_prefix)


def _opened(join: JoinRule, genome: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "process": join.process,
        "genome": genome,
        "types": json.dumps(join.after),
        "on_timeout": join.then,
        "opened_at": now,
        "expires_at": now + timedelta(seconds=join.within),
        "open_marker": OPEN,
    }


def _make(connection: Connection, ended: Sequence[JoinWait], run_id_prefix: str) -> list[str]:
    """Make an event of each, in runs of their own, and give these runs' ids."""
    runs, now = [], datetime.now(UTC)
    for start in range(0, len(ended), FULL):
        some = ended[start : start + FULL]
        # With a time: a database may give an id again once everything is forgotten
        run_id, intake = f"{run_id_prefix}{some[0].opened_at:%Y%m%dT%H%M%S}_{some[0].id}", uuid4().hex
        received = [_event(one) for one in some]
        rows = [event_row(made, now, intake, run_id, at) for at, made in enumerate(received)]
        insert_missing(connection, event, rows)
        mine = select(event.c.position, event.c.id).where(event.c.run_id == run_id)
        made = {row.position: row.id for row in connection.execute(mine)}
        _close(connection, [one.id for one in some], {one.id: made[at] for at, one in enumerate(some)})
        runs.append(run_id)
    return runs


def _event(one: JoinWait) -> NewEvent:
    """Make an event of what came: the last one, with all of them in it."""
    last = one.came[-1]
    forced = [came.payload for came in one.came if came.payload.get("force")]
    payload = {
        **last.payload,
        **{name: came.get(name) for came in forced[-1:] for name in ("force", "reason")},
        "event_id": f"{one.process}/{one.opened_at:%Y%m%dT%H%M%S}/{one.id}",
        "follows": build_causation(last.payload, last.run_id, last.position, one.process),
        "joined": {
            "process": one.process,
            "missing": one.missing,
            "events": [came.payload for came in one.came],
        },
    }
    kind = payload["type"]
    return NewEvent(event_key(kind, payload["event_id"]), kind, payload.get("genome"), payload, SOURCE)


def _close(connection: Connection, ids: Sequence[int], made: Mapping[int, int]) -> None:
    now, it = datetime.now(UTC), update(join_wait).where(join_wait.c.id == bindparam("of"))
    rows = [{"of": one, "open_marker": None, "closed_at": now, "event_id": made.get(one)} for one in ids]
    execute_updates(connection, it, rows)


def _with_events(ask: Reader, rows: Sequence[Row[Any]]) -> list[JoinWait]:
    came: dict[int, list[Came]] = {}
    columns = (event.c.id, event.c.type, event.c.payload, event.c.run_id, event.c.position)
    joined = join_wait_event.join(event, event.c.id == join_wait_event.c.event_id)
    wanted: Select[Any] = select(join_wait_event.c.join_wait_id, *columns).select_from(joined)
    for some in sliced([row.id for row in rows], CHUNK):
        mine = wanted.where(join_wait_event.c.join_wait_id.in_(some)).order_by(event.c.id)
        for join_wait_id, event_id, kind, payload, *place in ask(mine):
            came.setdefault(join_wait_id, []).append(Came(event_id, kind, json.loads(payload), *place))
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
            tuple(came[row.id]),
        )
        for row in rows
        if row.id in came
    ]
