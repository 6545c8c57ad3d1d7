"""The ledger's tables. ``migrations`` creates and changes them; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    true,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from event_hooks.events.models import MAX_CORRELATION_ID_LENGTH

KEY_LENGTH = 64
"""Characters of a key: a SHA-256 in hexadecimal, so that no collation treats two keys as equal."""


class Instant(TypeDecorator[datetime]):
    """A time with microseconds: aware in Python, UTC without a time zone in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return MySQL's type with microseconds, which its default omits, or the standard type."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC and remove the time zone."""
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the time zone UTC."""
        return value.replace(tzinfo=UTC) if value else None


# A payload may have 1 MB, and MySQL's TEXT holds 64 KB. SQLite increments only keys of type INTEGER.
_LONG_TEXT = Text().with_variant(mysql.LONGTEXT(), "mysql")
_ID = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

event = Table(
    "event",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("event_key", String(KEY_LENGTH), nullable=False, unique=True),  # duplicates have the same key
    Column("type", String(255), nullable=False),
    Column("genome", String(255)),
    Column("payload", _LONG_TEXT, nullable=False),  # the event as it was sent, JSON
    Column("source", String(32), nullable=False),  # entry point: rest, collect_events, …
    Column("received_at", Instant, nullable=False),
    Column("request_id", String(32), nullable=False),  # of the call that stored the event
    Column("run_id", String(250)),  # null until a run is assigned
    Column("position", Integer, nullable=False),  # from 0; in the run, or before that in the call
    Column("planned_at", Instant),  # when the run stored its processes; null before
    Column("rejected_at", Instant),  # null unless it is rejected
    Column("rejected_reason", _LONG_TEXT),  # why no process runs for it; null unless it is rejected
    Column("counts_for_joins", Boolean, nullable=False, server_default=true()),  # false: a partial repetition
    # Of the first event of the chain that led to this one; null if the event follows from no other event.
    Column("correlation_id", String(MAX_CORRELATION_ID_LENGTH)),
    Index("event_by_correlation", "correlation_id", "id"),
    Index("event_of_run", "run_id", "id"),
    Index("event_unplanned", "planned_at", "id"),
    Index("event_by_age", "received_at"),
    Index("event_rejected", "rejected_at", "id"),
    Index("event_by_type", "type", "id"),
    Index("event_by_genome", "genome", "id", postgresql_ops={"genome": "text_pattern_ops"}),  # LIKE 'homo%'
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

event_run = Table(
    "event_run",
    metadata,
    Column("run_id", String(250), primary_key=True),
    # When the run stopped taking events; null while it takes them. The row is locked meanwhile, so no event
    # becomes visible in a run after the run has read its events.
    Column("closed_at", Instant),
    Index("event_run_by_age", "closed_at"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

event_process = Table(
    "event_process",
    metadata,
    Column("event_id", _ID, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
    Column("process", String(250), primary_key=True),
    Column("hive", String(250), nullable=False),  # connection id
    Column("analysis", String(255), nullable=False),
    Column("job_id", _ID),  # job.job_id of the root of its job tree; null until submitted
    Column("submitted_at", Instant),
    Column("started_at", Instant),  # when a job of its tree was first seen running
    Column("changed_at", Instant),  # when progress of its tree was last seen
    Column("done", Integer),  # finished jobs of its tree
    Column("total", Integer),  # all jobs of its tree, so far
    Column("failed", Integer),  # failed jobs of its tree
    Column("message", _LONG_TEXT),  # newest message of its tree in the hive's job_progress
    Column("state", String(16), nullable=False),  # one of records.ProcessState
    # Task instance that read the outcome; later ones sort higher. While a retry waits for a new one, a
    # records.RetryMarker.
    Column("attempt", String(36)),
    # How often a user had the process run again as a new job; part of the token of the job.
    Column("rerun", Integer, nullable=False, server_default="0"),
    Column("result", _LONG_TEXT),  # output of the pipeline, JSON; its beginning if it is long
    Column("error", _LONG_TEXT),
    Column("finished_at", Instant),
    Column("wait_started_at", Instant),  # when the present attempt began to wait for the job
    Column("stalls", _LONG_TEXT),  # its present stalls, JSON: {Stall.key: text}; null without one
    Column("stop_requested_at", Instant),  # when a user requested its stop; null unless it is stopping
    Column("late_at", Instant),  # when it was reported as late; null unless it was
    Column("once_digest", String(KEY_LENGTH)),  # OnceClaim.values_digest of its claim; null without once_per
    Index("event_process_by_job", "job_id"),
    Index("event_process_by_state", "state", "finished_at"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

report = Table(
    "report",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),  # reports are sent in this order
    Column("message_id", String(36), nullable=False, unique=True),
    Column("event_id", _ID, ForeignKey("event.id", ondelete="CASCADE")),  # null: rejected or duplicate event
    Column("run_id", String(250), nullable=False),
    Column("routing_key", String(255), nullable=False),
    Column("body", _LONG_TEXT, nullable=False),  # JSON, as it is published
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),  # null while the report is pending
    Column("attempts", Integer, nullable=False, server_default="0"),  # that the broker returned or rejected
    Column("retry_at", Instant),  # until when a returned or rejected report gives way to others
    Column("rejected_reason", _LONG_TEXT),  # why the broker did not take it; null once it is sent
    Column("is_transient", Boolean, nullable=False, server_default=false()),  # deleted once it is sent
    Index("report_pending", "sent_at", "id"),
    Index("report_pending_of_run", "run_id", "sent_at", "id"),
    Index("report_of_event", "event_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

follow_up = Table(
    "follow_up",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    # A follow-up event follows from the success of this process of this event.
    Column("event_id", _ID, ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
    Column("process", String(250), nullable=False),
    Column("position", Integer, nullable=False),  # among the follow-up events of the same success, from 0
    Column("payload", _LONG_TEXT, nullable=False),  # JSON, with the event_id under which it is sent
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),  # when an event server accepted it; null while pending or if rejected
    Column("error", _LONG_TEXT),  # why it was rejected
    Index("follow_up_once", "event_id", "process", "position", unique=True),
    Index("follow_up_pending", "sent_at", "id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

asset_event = Table(
    "asset_event",
    metadata,
    # A pending asset event: the row is deleted when Airflow has registered it.
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("event_id", _ID, ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
    Column("process", String(250)),  # the process that completed; null: the event was received
    Column("attempt", String(36)),  # task instance that read the outcome; null: the event was received
    Column("created_at", Instant, nullable=False),
    Index("asset_event_of_event", "event_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

notification = Table(
    "notification",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("event_id", _ID, ForeignKey("event.id", ondelete="CASCADE"), nullable=False),
    Column("process", String(250), nullable=False),  # empty if the event was rejected
    Column("kind", String(16), nullable=False),  # one of NotificationKind
    Column("notifier", SmallInteger, nullable=False),  # position in the setting notifiers, from 0
    Column("created_at", Instant, nullable=False),
    Column("retry_at", Instant),  # until when it is not sent: it is being sent, or sending it failed
    Column("sent_at", Instant),  # when the notifier sent it; null while it is pending
    Column("error", _LONG_TEXT),  # why sending it failed; null once it is sent
    Index("notification_once", "event_id", "process", "kind", "notifier", unique=True),
    Index("notification_pending", "sent_at", "notifier", "process", "kind"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

join_wait = Table(
    "join_wait",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("process", String(250), nullable=False),
    Column("genome", String(255), nullable=False),  # empty for events without a genome
    # SHA-256 of the genome: MySQL treats texts that differ in trailing spaces as equal.
    Column("genome_digest", String(KEY_LENGTH), nullable=False, server_default=""),
    Column("types", _LONG_TEXT, nullable=False),  # types of the events that the process waits for, JSON
    Column("on_timeout", String(8), nullable=False),  # run or alert
    Column("opened_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("open_marker", SmallInteger),  # 1 while open, then null: one open wait per process and genome
    Column("closed_at", Instant),
    Column("event_id", _ID, ForeignKey("event.id", ondelete="SET NULL")),  # the joined event
    Index("join_wait_once", "process", "genome_digest", "open_marker", unique=True),
    Index("join_wait_by_end", "open_marker", "expires_at"),
    Index("join_wait_by_age", "closed_at"),
    Index("join_wait_by_event", "event_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

join_wait_event = Table(
    "join_wait_event",
    metadata,
    Column("event_id", _ID, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
    Column("process", String(250), primary_key=True),
    Column("join_wait_id", _ID, ForeignKey("join_wait.id", ondelete="CASCADE"), nullable=False),
    Index("join_wait_event_of", "join_wait_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

once_claim = Table(
    "once_claim",
    metadata,
    Column("process", String(250), primary_key=True),
    Column("values_digest", String(KEY_LENGTH), primary_key=True),  # OnceClaim.values_digest
    Column("claimed_values", _LONG_TEXT, nullable=False),  # the values, JSON
    Column("event_id", _ID, ForeignKey("event.id", ondelete="SET NULL")),  # null: the event was pruned
    Index("once_claim_by_event", "event_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

high_water_mark = Table(
    "high_water_mark",
    metadata,
    Column("name", String(250), primary_key=True),
    Column("position", Instant, nullable=False),  # end of the last window that was completely submitted
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)
