"""High-water marks: how far a source of events has been read, with all its events in the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, update

from event_hooks.ledger.database import insert_missing
from event_hooks.ledger.tables import high_water_mark

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger


def load_or_create_mark(ledger: Ledger, name: str, position: datetime) -> datetime:
    """Return the position of a mark; a missing mark is created at ``position``."""
    statement = select(high_water_mark.c.position).where(high_water_mark.c.name == name)

    def load_or_create(connection: Connection) -> datetime:
        insert_missing(connection, high_water_mark, [{"name": name, "position": position}])
        stored: datetime = connection.execute(statement).scalar_one()
        return stored

    return ledger.write(load_or_create)


def move_mark(connection: Connection, name: str, position: datetime) -> None:
    """Move a mark forward to ``position``; do nothing if it is missing, or already there or further."""
    mark = high_water_mark.c
    statement = update(high_water_mark).where(mark.name == name, mark.position < position)
    connection.execute(statement.values(position=position))
