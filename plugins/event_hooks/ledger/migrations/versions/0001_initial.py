"""Create the tables of the ledger."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from event_hooks.ledger.tables import Instant

revision = "initial"
down_revision = None

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "event",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("event_key", sa.String(64), nullable=False, unique=True),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("genome", sa.String(255)),
        sa.Column("payload", LONG_TEXT, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("run_id", sa.String(250)),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("planned_at", Instant),
        sa.Column("correlation_id", sa.String(260)),
        sa.Index("event_by_correlation", "correlation_id", "id"),
        sa.Index("event_of_run", "run_id", "id"),
        sa.Index("event_unplanned", "planned_at", "id"),
        sa.Index("event_by_age", "received_at"),
        sa.Index("event_by_type", "type", "id"),
        sa.Index("event_by_genome", "genome", "id", postgresql_ops={"genome": "text_pattern_ops"}),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "event_process",
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("process", sa.String(250), primary_key=True),
        sa.Column("hive", sa.String(250), nullable=False),
        sa.Column("analysis", sa.String(255), nullable=False),
        sa.Column("job_id", ID),
        sa.Column("submitted_at", Instant),
        sa.Column("started_at", Instant),
        sa.Column("changed_at", Instant),
        sa.Column("done", sa.Integer),
        sa.Column("total", sa.Integer),
        sa.Column("failed", sa.Integer),
        sa.Column("message", LONG_TEXT),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.String(36)),
        sa.Column("result", LONG_TEXT),
        sa.Column("error", LONG_TEXT),
        sa.Column("finished_at", Instant),
        sa.Index("event_process_job", "hive", "job_id"),
        sa.Index("event_process_by_state", "state", "finished_at"),
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
        sa.Column("body", LONG_TEXT, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("sent_at", Instant),
        sa.Index("report_pending", "sent_at", "id"),
        sa.Index("report_pending_of_run", "run_id", "sent_at", "id"),
        sa.Index("report_of_event", "event_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "follow_up",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
        sa.Column("process", sa.String(250), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("payload", LONG_TEXT, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("sent_at", Instant),
        sa.Column("error", LONG_TEXT),
        sa.Index("follow_up_once", "event_id", "process", "position", unique=True),
        sa.Index("follow_up_pending", "sent_at", "id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "join_wait",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("process", sa.String(250), nullable=False),
        sa.Column("genome", sa.String(255), nullable=False),
        sa.Column("types", LONG_TEXT, nullable=False),
        sa.Column("on_timeout", sa.String(8), nullable=False),
        sa.Column("opened_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("open_marker", sa.SmallInteger),
        sa.Column("closed_at", Instant),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="SET NULL")),
        sa.Index("join_wait_once", "process", "genome", "open_marker", unique=True),
        sa.Index("join_wait_by_end", "open_marker", "expires_at"),
        sa.Index("join_wait_by_age", "closed_at"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "join_wait_event",
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("process", sa.String(250), primary_key=True),
        sa.Column("join_wait_id", ID, sa.ForeignKey("join_wait.id", ondelete="CASCADE"), nullable=False),
        sa.Index("join_wait_event_of", "join_wait_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_table(
        "once_claim",
        sa.Column("process", sa.String(250), primary_key=True),
        sa.Column("values_digest", sa.String(64), primary_key=True),
        sa.Column("claimed_values", LONG_TEXT, nullable=False),
        sa.Column("event_id", ID, sa.ForeignKey("event.id", ondelete="SET NULL")),
        sa.Index("once_claim_by_event", "event_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
