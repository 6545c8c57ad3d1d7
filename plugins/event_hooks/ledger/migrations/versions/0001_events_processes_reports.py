"""Events, what their processes have come to, and reports."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from event_hooks.ledger.tables import Instant

revision = "0001"
down_revision = None

LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "event",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("event_key", sa.String(64), nullable=False, unique=True),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("genome", sa.String(255)),
        sa.Column("payload", LONG, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("intake", sa.String(32), nullable=False),
        sa.Column("run_id", sa.String(250)),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Index("event_of_run", "run_id", "id"),
        sa.Index("event_by_age", "received_at"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "event_process",
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("process", sa.String(250), primary_key=True),
        sa.Column("hive", sa.String(250), nullable=False),
        sa.Column("analysis", sa.String(255), nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("submitted_at", Instant, nullable=False),
        sa.Column("done", sa.Integer),
        sa.Column("total", sa.Integer),
        sa.Column("failed", sa.Integer),
        sa.Column("message", LONG),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("result", LONG),
        sa.Column("error", LONG),
        sa.Column("ended_at", Instant),
        sa.Index("event_process_job", "hive", "job_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "report",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("message_id", sa.String(36), nullable=False, unique=True),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE")),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("body", LONG, nullable=False),
        sa.Column("owed_at", Instant, nullable=False),
        sa.Column("sent_at", Instant),
        sa.Index("report_owed", "sent_at", "id"),
        sa.Index("report_owed_of_run", "run_id", "sent_at", "id"),
        sa.Index("report_of_event", "event_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
