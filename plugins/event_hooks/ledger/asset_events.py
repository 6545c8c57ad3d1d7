"""Asset events: pending from the transaction of a plan or outcome until Airflow has registered them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from event_hooks import settings
from event_hooks.ledger.clock import read_time, utc_now
from event_hooks.ledger.database import build_row_reader, execute_many, read_matching
from event_hooks.ledger.tables import asset_event, event, event_process

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger


@dataclass(frozen=True)
class PendingAssetEvent:
    """A received event, or a completed process of an event, that Airflow has not registered yet."""

    event_id: int
    """Id of the event in the ledger."""

    type: str
    genome: str | None
    payload: dict[str, Any]
    run_id: str
    process: str | None
    """The process that completed; ``None`` if the event was received. So are the next three."""

    attempt: str | None
    hive: str | None
    job_id: int | None

    age: timedelta
    """Time since the event was received, or the process completed, by the clock of the ledger."""


Register = Callable[[Sequence[PendingAssetEvent]], None]
"""Registers asset events with Airflow, except those that it has registered before."""


def insert_asset_events(
    connection: Connection, event_ids: Collection[int], process: str | None = None, attempt: str | None = None
) -> None:
    """
    Insert pending asset events, if the setting ``asset_events`` is on.

    Not idempotent: the caller has locked the events, and its transaction changes their state.

    :param process: the process that completed; default: the events were received.
    """
    if not event_ids or not settings.asset_events():
        return
    statement = insert(asset_event).values(created_at=utc_now())
    rows = [{"event_id": event_id, "process": process, "attempt": attempt} for event_id in sorted(event_ids)]
    execute_many(connection, statement, rows)


def has_pending_asset_events(ledger: Ledger) -> bool:
    """Return, by one query of an index, whether Airflow has not registered an asset event yet."""
    return bool(ledger.read(select(asset_event.c.id).order_by(asset_event.c.id).limit(1)))


def register_pending(ledger: Ledger, register: Register, limit: int) -> int:
    """
    Register the oldest pending asset events.

    Several processes can do this at the same time: the rows are locked meanwhile, and locked rows are
    skipped. An error leaves the rows pending.

    :return: the number of registered asset events.
    """
    statement = select(asset_event.c.id).order_by(asset_event.c.id).limit(limit)
    # For a list of ids, MariaDB may read the whole table, and wait for the locks of other processes.
    delete_row = delete(asset_event).where(asset_event.c.id == bindparam("id_"))
    with ledger.transaction() as connection:
        ids = connection.scalars(statement.with_for_update(skip_locked=True)).all()
        if ids:
            register(_load_details(connection, ids))
            execute_many(connection, delete_row, [{"id_": id_} for id_ in ids])
    return len(ids)


def _load_details(connection: Connection, ids: Sequence[int]) -> list[PendingAssetEvent]:
    is_same_process = and_(
        event_process.c.event_id == asset_event.c.event_id, event_process.c.process == asset_event.c.process
    )
    joined = asset_event.join(event).outerjoin(event_process, is_same_process)
    statement = (
        select(asset_event, event.c.type, event.c.genome, event.c.payload, event.c.run_id)
        .add_columns(event_process.c.hive, event_process.c.job_id)
        .select_from(joined)
        .order_by(asset_event.c.id)
    )
    now = read_time(connection)
    return [
        PendingAssetEvent(
            row.event_id,
            row.type,
            row.genome,
            json.loads(row.payload),
            row.run_id,
            row.process,
            row.attempt,
            row.hive,
            row.job_id,
            now - row.created_at,
        )
        for row in read_matching(build_row_reader(connection), statement, asset_event.c.id, ids)
    ]
