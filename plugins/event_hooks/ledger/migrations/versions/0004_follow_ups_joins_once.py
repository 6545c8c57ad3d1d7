"""Events that follow, events that are waited for, and what is done once."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from event_hooks.ledger.tables import Instant

revision = "0004"
down_revision = "0003"

LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add a column and four tables."""
    with op.batch_alter_table("event") as event:
        event.add_column(sa.Column("correlation_id", sa.String(260)))
        event.create_index("event_by_correlation", ["correlation_id", "id"])
    op.create_table(
        "follow_up",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
        sa.Column("process", sa.String(250), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("payload", LONG, nullable=False),
        sa.Column("owed_at", Instant, nullable=False),
        sa.Column("sent_at", Instant),
        sa.Column("error", LONG),
        sa.Index("follow_up_once", "event_id", "process", "position", unique=True),
        sa.Index("follow_up_owed", "sent_at", "id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "awaited",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("process", sa.String(250), nullable=False),
        sa.Column("genome", sa.String(255), nullable=False),
        sa.Column("types", LONG, nullable=False),
        sa.Column("then", sa.String(8), nullable=False),
        sa.Column("opened_at", Instant, nullable=False),
        sa.Column("closes_at", Instant, nullable=False),
        sa.Column("open_mark", sa.SmallInteger),
        sa.Column("closed_at", Instant),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="SET NULL")),
        sa.Index("awaited_once", "process", "genome", "open_mark", unique=True),
        sa.Index("awaited_by_end", "open_mark", "closes_at"),
        sa.Index("awaited_by_age", "closed_at"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "awaited_event",
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("process", sa.String(250), primary_key=True),
        sa.Column("awaited_id", ID, sa.ForeignKey("awaited.id", ondelete="CASCADE"), nullable=False),
        sa.Index("awaited_event_of", "awaited_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "once",
        sa.Column("process", sa.String(250), primary_key=True),
        sa.Column("subject", sa.String(64), primary_key=True),
        sa.Column("held_for", LONG, nullable=False),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="SET NULL")),
        sa.Index("once_by_event", "event_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
