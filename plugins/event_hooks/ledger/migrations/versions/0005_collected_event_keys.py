"""
Remove the names from the keys of collected events.

Until this version, the ``event_id`` of a collected event ended with its division, release and genome or
database. The key of a stored event becomes that of its present id, so the next collection finds it. Its
payload stays: the inputs of its jobs contain it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "collected_event_keys"
down_revision = "rejected_reports"

ROWS_PER_STATEMENT = 500

LONG_ID = re.compile(r"(\w+/\d+/\d{8}T\d{6})/.+?(#(?:\d+|[0-9a-f]{8}))?", re.DOTALL)
"""Table, id and time; names; then the suffix of a repetition."""

event = sa.table("event", *map(sa.column, ("id", "event_key", "source", "payload")))


def upgrade() -> None:
    """Recompute the keys. Of several events that differ only in names, the first gets the key."""
    connection, last_id = op.get_bind(), 0
    columns = (event.c.id, event.c.event_key, event.c.payload)
    statement = sa.select(*columns).where(event.c.source == "ensembl_metadata").order_by(event.c.id)
    while rows := connection.execute(statement.where(event.c.id > last_id).limit(ROWS_PER_STATEMENT)).all():
        _update_keys(connection, rows)
        last_id = rows[-1].id


def _update_keys(connection: sa.Connection, rows: Sequence[Any]) -> None:
    ids: dict[str, int] = {}
    for row in rows:
        payload = json.loads(row.payload)
        match = LONG_ID.fullmatch(str(payload.get("event_id")))
        if match and row.event_key == _build_key(payload["type"], match[0]):
            ids.setdefault(_build_key(payload["type"], f"{match[1]}{match[2] or ''}"), row.id)
    existing = connection.scalars(sa.select(event.c.event_key).where(event.c.event_key.in_(ids)))
    values = [{"id_": ids[key], "event_key": key} for key in ids.keys() - set(existing)]
    if values:
        statement = sa.update(event).where(event.c.id == sa.bindparam("id_"))
        connection.execute(statement.values(event_key=sa.bindparam("event_key")), values)


def _build_key(event_type: str, event_id: str) -> str:
    """Return the result of ``records.event_key`` in this version."""
    return hashlib.sha256(json.dumps(("id", event_type, event_id)).encode()).hexdigest()
