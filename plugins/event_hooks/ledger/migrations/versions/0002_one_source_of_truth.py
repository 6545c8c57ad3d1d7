"""Add the columns that make the ledger the one source of truth for a run."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from event_hooks.ledger.tables import Instant

revision = "one_source_of_truth"
down_revision = "initial"

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Add columns, indexes and two tables; compute the digests of existing joins."""
    columns: dict[str, list[sa.Column[Any]]] = {
        "event": [
            sa.Column("rejected_at", Instant),
            sa.Column("rejected_reason", LONG_TEXT),
            sa.Column("counts_for_joins", sa.Boolean, nullable=False, server_default=sa.true()),
        ],
        "event_process": [
            sa.Column("wait_started_at", Instant),
            sa.Column("stalls", LONG_TEXT),
            sa.Column("stop_requested_at", Instant),
            sa.Column("once_digest", sa.String(64)),
        ],
        "report": [
            sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
            sa.Column("retry_at", Instant),
            sa.Column("is_transient", sa.Boolean, nullable=False, server_default=sa.false()),
        ],
        "join_wait": [sa.Column("genome_digest", sa.String(64), nullable=False, server_default="")],
    }
    for table, new_columns in columns.items():
        for column in new_columns:
            op.add_column(table, column)
    _fill_genome_digests()
    op.drop_index("join_wait_once", "join_wait")
    op.create_index("join_wait_once", "join_wait", ["process", "genome_digest", "open_marker"], unique=True)
    op.create_index("event_rejected", "event", ["rejected_at", "id"])
    op.create_index("join_wait_by_event", "join_wait", ["event_id"])
    op.create_table(
        "event_run",
        sa.Column("run_id", sa.String(250), primary_key=True),
        sa.Column("closed_at", Instant),
        sa.Index("event_run_by_age", "closed_at"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "high_water_mark",
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("position", Instant, nullable=False),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def _fill_genome_digests() -> None:
    join_wait = sa.table("join_wait", sa.column("id"), sa.column("genome"), sa.column("genome_digest"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(join_wait.c.id, join_wait.c.genome)).all():
        digest = hashlib.sha256(row.genome.encode()).hexdigest()
        connection.execute(sa.update(join_wait).where(join_wait.c.id == row.id).values(genome_digest=digest))
