"""The ledger's tables. ``migrations`` makes and changes them; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
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
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from event_hooks.events.models import MAX_CORRELATION_ID_LENGTH

KEY = 64
"""Characters of a key: a SHA-256 in hexadecimal, so that no collation takes two keys for one."""


class Instant(TypeDecorator[datetime]):
    """A moment with microseconds: aware in Python, UTC without a zone in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Ask MySQL for the microseconds that it leaves out."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Take the zone off."""
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the zone on."""
        return value.replace(tzinfo=UTC) if value else None


# A payload may have a megabyte, and MySQL's TEXT ends at 64 KB; SQLite counts up for INTEGER only.
_long = Text().with_variant(mysql.LONGTEXT(), "mysql")
_id = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

event = Table(
    "event",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("event_key", String(KEY), nullable=False, unique=True),  # the same event has the same key
    Column("type", String(255), nullable=False),
    Column("genome", String(255)),
    Column("payload", _long, nullable=False),  # the event as its sender wrote it, JSON
    Column("source", String(32), nullable=False),  # how it came in, as in rest or collect_events
    Column("received_at", Instant, nullable=False),
    Column("request_id", String(32), nullable=False),  # of the call that wrote it: tells new from known
    Column("run_id", String(250)),  # the run that has it; null until one is started
    Column("position", Integer, nullable=False),  # in that run, or in its intake; from 0
    Column("planned_at", Instant),  # when its run has planned it; null until then
    Column(
        "correlation_id", String(MAX_CORRELATION_ID_LENGTH)
    ),  # of the event that it follows from in the end; null if from none
    Index("event_by_correlation", "correlation_id", "id"),
    Index("event_of_run", "run_id", "id"),
    Index("event_unplanned", "planned_at", "id"),
    Index("event_by_age", "received_at"),
    Index("event_by_type", "type", "id"),
    Index("event_by_genome", "genome", "id", postgresql_ops={"genome": "text_pattern_ops"}),  # LIKE 'homo%'
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

event_process = Table(
    "event_process",
    metadata,
    Column("event_id", _id, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
    Column("process", String(250), primary_key=True),
    Column("hive", String(250), nullable=False),  # connection id
    Column("analysis", String(255), nullable=False),
    Column("job_id", _id),  # job.job_id of the entry; null until it is submitted
    Column("submitted_at", Instant),
    Column("started_at", Instant),  # when a job of its tree was first seen at work
    Column("changed_at", Instant),  # when its tree was last seen to have got on
    Column("done", Integer),  # jobs of its tree that are over
    Column("total", Integer),  # jobs of its tree known so far
    Column("failed", Integer),  # jobs of its tree that have failed
    Column("message", _long),  # the newest of the hive's job_progress
    Column("state", String(16), nullable=False),  # one of records.State
    Column("attempt", String(36)),  # task instance of the wait that saw the end; later ones sort higher
    Column("result", _long),  # what the pipeline wrote, JSON
    Column("error", _long),
    Column("finished_at", Instant),
    Index("event_process_job", "hive", "job_id"),
    Index("event_process_by_state", "state", "finished_at"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

report = Table(
    "report",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),  # in this order they are sent
    Column("message_id", String(36), nullable=False, unique=True),
    Column("event_id", _id, ForeignKey("event.id", ondelete="CASCADE")),  # null: it was refused, or known
    Column("run_id", String(250), nullable=False),
    Column("routing_key", String(255), nullable=False),
    Column("body", _long, nullable=False),  # JSON, as it is sent
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),  # null while it is owed
    Index("report_pending", "sent_at", "id"),
    Index("report_pending_of_run", "run_id", "sent_at", "id"),
    Index("report_of_event", "event_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

follow_up = Table(
    "follow_up",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column(
        "event_id", _id, ForeignKey("event.id", ondelete="CASCADE"), nullable=False
    ),  # it follows from this
    Column("process", String(250), nullable=False),  # and from this process's success
    Column("position", Integer, nullable=False),  # among those of the same success, from 0
    Column("payload", _long, nullable=False),  # JSON, with the event_id under which it is handed on
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),  # when an event server took it; null while it is owed, or refused
    Column("error", _long),  # why it was refused
    Index("follow_up_once", "event_id", "process", "position", unique=True),
    Index("follow_up_pending", "sent_at", "id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

join_wait = Table(
    "join_wait",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("process", String(250), nullable=False),
    Column("genome", String(255), nullable=False),  # empty for events without one
    Column("types", _long, nullable=False),  # of the events that it waits for, JSON
    Column("on_timeout", String(8), nullable=False),  # run or alert
    Column("opened_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("open_marker", SmallInteger),  # 1 while it waits, then null: a process waits once per genome
    Column("closed_at", Instant),
    Column("event_id", _id, ForeignKey("event.id", ondelete="SET NULL")),  # that was made of what came
    Index("join_wait_once", "process", "genome", "open_marker", unique=True),
    Index("join_wait_by_end", "open_marker", "expires_at"),
    Index("join_wait_by_age", "closed_at"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

join_wait_event = Table(
    "join_wait_event",
    metadata,
    Column("event_id", _id, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True),
    Column("process", String(250), primary_key=True),
    Column("join_wait_id", _id, ForeignKey("join_wait.id", ondelete="CASCADE"), nullable=False),
    Index("join_wait_event_of", "join_wait_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

once_claim = Table(
    "once_claim",
    metadata,
    Column("process", String(250), primary_key=True),
    Column("values_digest", String(KEY), primary_key=True),  # digest of the values
    Column("claimed_values", _long, nullable=False),  # the values, JSON
    Column("event_id", _id, ForeignKey("event.id", ondelete="SET NULL")),  # null: done, and forgotten
    Index("once_claim_by_event", "event_id"),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)
