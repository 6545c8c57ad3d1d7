"""What is done on a connection to the ledger, inside a transaction of the caller's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import OperationalError

from event_hooks.exceptions import KeyTaken
from event_hooks.ledger.records import OPEN, Arrival, Entry, OwedReport, Received, State
from event_hooks.ledger.tables import Instant, event, event_process, report

T = TypeVar("T")

Ask = Callable[[Any], Sequence[Any]]
"""Gives the rows of a SELECT: in a transaction, or without one."""

CHUNK = 1000
"""Rows that one statement names or writes."""

COUNTS = ("done", "total", "failed")
"""Columns that count jobs of a tree."""

DEADLOCKS = {"1213", "1205", "40P01", "55P03"}
"""Codes of MySQL, then of PostgreSQL."""

TAKEN = {"1205", "3572", "55P03"}
"""Codes of a row that somebody else has locked: MariaDB's, MySQL's, PostgreSQL's."""


def text(value: str) -> str:
    """Replace what a database does not take: NUL, and lone surrogates."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def one_of(process: str) -> Any:
    mine = event_process.c.event_id == bindparam("of")
    return update(event_process).where(mine, event_process.c.process == process)


def _how_far() -> Any:
    """Give the statement that notes how far trees are; only what has changed is news."""
    columns, counts = event_process.c, {name: bindparam(name, type_=Integer()) for name in COUNTS}
    started = bindparam("started_at", type_=Instant())
    is_news = [columns[name].is_distinct_from(count) for name, count in counts.items()]
    is_news.append(columns.started_at.is_(None) & started.is_not(None))
    return (
        update(event_process)
        .where(columns.event_id == bindparam("of"), columns.process == bindparam("by"), is_one_of(*OPEN))
        .ordered_values(  # this order: MySQL would compare with what it has just set
            (
                columns.changed_at,
                case((or_(*is_news), bindparam("now", type_=Instant())), else_=columns.changed_at),
            ),
            *((columns[name], count) for name, count in counts.items()),
            (columns.started_at, func.coalesce(columns.started_at, started)),
            (columns.message, bindparam("message")),
        )
    )


def is_one_of(*states: State) -> ColumnElement[bool]:
    return or_(*(event_process.c.state == state for state in states))  # IN cannot be executed many times


HOW_FAR = _how_far()


def update_many(connection: Connection, rows_of: Any, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        statement = rows_of.values({name: bindparam(name) for name in rows[0].keys() - {"of", "by"}})
        for some in chunks(rows):
            connection.execute(statement, some)


def asking(connection: Connection) -> Ask:
    """Let what only asks do so inside a transaction."""
    return lambda statement: connection.execute(statement).all()


def states_of(connection: Connection, event_ids: Sequence[int]) -> dict[tuple[int, str], State]:
    """Give what is noted for events: ``{(event id, process): state}``."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.state)
    return {
        (event_id, process): State(state)
        for some in chunks(event_ids)
        for event_id, process, state in connection.execute(
            select(*columns).where(event_process.c.event_id.in_(some))
        )
    }


def waiting_since(connection: Connection, pairs: Sequence[tuple[int, str]]) -> list[tuple[str, datetime]]:
    """Give the hive of each (event id, process) that waits for its job, and when its event was received."""
    columns = (event_process.c.event_id, event_process.c.process, event_process.c.hive, event.c.received_at)
    waits = is_one_of(State.PLANNED, State.NOT_SUBMITTED)
    joined = event_process.join(event, event.c.id == event_process.c.event_id)
    wanted, mine = select(*columns).select_from(joined).where(waits), set(pairs)
    return [
        (hive, received_at)
        for some in chunks(sorted({event_id for event_id, _ in pairs}))
        for event_id, process, hive, received_at in connection.execute(wanted.where(event.c.id.in_(some)))
        if (event_id, process) in mine
    ]


def delete_events(event_ids: Sequence[int], connection: Connection) -> None:
    connection.execute(delete(event).where(event.c.id.in_(event_ids)))


def owe(connection: Connection, reports: Sequence[OwedReport]) -> None:
    now = datetime.now(UTC)
    insert_new(connection, report, [{**vars(one), "owed_at": now} for one in reports])


def owed_reports(run_id: str | None, limit: int) -> Any:
    wanted = select(report).where(report.c.sent_at.is_(None))
    if run_id is not None:
        wanted = wanted.where(report.c.run_id == run_id)
    return wanted.order_by(report.c.id).limit(limit).with_for_update(nowait=True)


def owed_report(row: Any) -> OwedReport:
    return OwedReport(row.message_id, row.event_id, row.run_id, row.routing_key, row.body)


def event_row(
    one: Received, received_at: datetime, intake: str, run_id: str | None, position: int
) -> dict[str, Any]:
    return {
        "event_key": one.key,
        "type": text(one.type)[:255],
        "genome": None if one.genome is None else text(one.genome)[:255],
        "payload": json.dumps(one.payload),
        "source": one.source,
        "received_at": received_at,
        "intake": intake,
        "run_id": run_id,
        "position": position,
        "correlation_id": (one.payload.get("follows") or {}).get("correlation_id"),
    }


def entries(connection: Connection, keys: Sequence[str], intake: str | None = None) -> dict[str, Entry]:
    """Read events by their keys; those of this intake are new."""
    wanted = select(event).where(event.c.event_key.in_(bindparam("keys", expanding=True)))
    return {
        row.event_key: entry(row, is_new=row.intake == intake)
        for some in chunks(keys)
        for row in connection.execute(wanted, {"keys": some})
    }


def refusal_of(arrival: Arrival, seen: Mapping[str, Mapping[str, Any]]) -> KeyTaken | None:
    """Tell whether a key of an arrival stands for something else already."""
    payloads: dict[str, Any] = {}
    for position, one in enumerate(arrival.events):
        before = payloads.setdefault(one.key, seen.get(one.key, one.payload))
        if _as_compared(before) != _as_compared(one.payload):
            return KeyTaken(position)
    if arrival.unlike:
        is_known = {one.key in seen for one in arrival.events}
        if arrival.unlike in seen or len(is_known) > 1:
            return KeyTaken(0)
    return None


def _as_compared(payload: Mapping[str, Any]) -> str:
    """Write a payload so that equal ones are equal: 1 is no true, but event_id 42 is "42"."""
    event_id = payload.get("event_id")
    same = {
        **payload,
        "event_id": None if event_id is None else str(event_id),
        "genome": payload.get("genome"),
    }
    return json.dumps(same, sort_keys=True)


def entry(row: Any, *, is_new: bool = False) -> Entry:
    return Entry(row.id, json.loads(row.payload), row.run_id, row.position, is_new, row.routed_at is not None)


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, and leave those alone whose key is there."""
    statement: Any
    match connection.dialect.name:
        case "mysql" | "mariadb":
            first = next(iter(table.primary_key))  # sets nothing; IGNORE would also hide what is wrong
            statement = mysql.insert(table).on_duplicate_key_update({first.name: first})
        case "postgresql":
            statement = postgresql.insert(table).on_conflict_do_nothing()
        case "sqlite":
            statement = sqlite.insert(table).on_conflict_do_nothing()
        case _:
            statement = insert(table)
    for some in chunks(rows):
        connection.execute(statement, list(some))


def is_deadlock(error: BaseException) -> bool:
    if not isinstance(error, OperationalError):
        return False
    return code_of(error) in DEADLOCKS


def code_of(error: OperationalError) -> str:
    return str(getattr(error.orig, "pgcode", None) or next(iter(getattr(error.orig, "args", ())), None))


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
