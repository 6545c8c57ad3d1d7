"""Add the notifications on failed, stalled and late processes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from event_hooks.ledger.tables import Instant

revision = "notifications"
down_revision = "retries"


def upgrade() -> None:
    """Create the table."""
    id_type = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "notification",
        sa.Column("id", id_type, primary_key=True, autoincrement=True),
        sa.Column("event_id", id_type, sa.ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
        sa.Column("process", sa.String(250), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("notifier", sa.SmallInteger, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("retry_at", Instant),
        sa.Column("sent_at", Instant),
        sa.Column("error", sa.Text().with_variant(mysql.LONGTEXT(), "mysql")),
        sa.Index("notification_once", "event_id", "process", "kind", "notifier", unique=True),
        sa.Index("notification_pending", "sent_at", "notifier", "process", "kind"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
