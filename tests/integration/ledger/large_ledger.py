"""
A ledger with many events on PostgreSQL, and each kind of statement that event hooks execute in it.

It is used by ``make bench-ledger``, which measures the times, and by its short form ``test_query_plans.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as listeners
from sqlalchemy import text

from event_hooks.events.models import build_causation
from event_hooks.ledger import database, joins, once, overview
from event_hooks.ledger.chains import find_correlation_ids
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import (
    accept_events,
    close_run,
    list_unplanned_events,
    load_run_events,
)
from event_hooks.ledger.follow_ups import list_follow_ups
from event_hooks.ledger.history import list_received_ids, load_received
from event_hooks.ledger.notifications import (
    claim_message,
    list_messages,
    list_messages_of_run,
    mark_sent,
)
from event_hooks.ledger.outcomes import request_stop, start_attempt, store_outcomes
from event_hooks.ledger.overview import has_pending_work, needs_maintenance
from event_hooks.ledger.processes import (
    list_open_runs,
    load_process_statuses,
    load_run_statuses,
    reject_events,
    reopen_processes,
    store_jobs,
    store_plan,
)
from event_hooks.ledger.progress import store_progress, store_stalls
from event_hooks.ledger.records import (
    NewEvent,
    OnceClaim,
    PendingReport,
    ProcessOutcome,
    ProcessStatus,
    ProgressUpdate,
    event_key,
    run_event_key,
)
from event_hooks.ledger.reports import count_pending_reports, has_ready_reports, publish_pending
from event_hooks.ledger.retention import prune_events
from event_hooks.ledger.tables import metadata
from event_hooks.ledger.views import EventFilter
from tests.integration.ledger.databases import migrated_ledger, new_databases

EVENTS_PER_RUN = 100

MAX_PAGES = 500
"""Pages that one statement may read, of tables and indexes."""

_FILL = (
    """INSERT INTO event (event_key, type, genome, payload, source, received_at, request_id, run_id, position,
        planned_at)
    SELECT md5(n::text) || md5('x' || n), 'new_assembly', 'genome_' || n, '{}', 'manual',
        received_at, 'fill', 'run_' || n / :run_size, n % :run_size, received_at
    FROM generate_series(0, :events - 1) n,
        LATERAL (SELECT now() AT TIME ZONE 'UTC' - interval '300 days' + n * interval '20 seconds'
            AS received_at)
        AS instants
    """,
    """INSERT INTO event_run (run_id, closed_at)
    SELECT run_id, min(received_at) FROM event GROUP BY run_id""",
    """INSERT INTO event_process (event_id, process, hive, analysis, job_id, submitted_at, state, finished_at)
    SELECT id, 'dump', 'hive', 'event_dump', id, received_at,
        CASE WHEN id % 100 = 0 THEN 'failed' ELSE 'complete' END, received_at FROM event""",
    """INSERT INTO report (message_id, event_id, run_id, routing_key, body, created_at, sent_at)
    SELECT 'm' || id, id, run_id, 'report.info', '{}', received_at, received_at FROM event""",
    """INSERT INTO follow_up (event_id, process, position, payload, created_at, sent_at)
    SELECT id, 'dump', 0, '{}', received_at, received_at FROM event WHERE id % 10 = 0""",
    """INSERT INTO notification (event_id, process, kind, notifier, created_at, sent_at)
    SELECT id, 'dump', 'failed', 0, received_at, received_at FROM event WHERE id % 10 = 0""",
    """INSERT INTO join_wait (id, process, genome, types, on_timeout, opened_at, expires_at, closed_at)
    SELECT id, 'dump', 'g' || id, '[]', 'run', received_at, received_at, received_at
    FROM event WHERE id % 10 = 0""",
    """INSERT INTO join_wait_event (event_id, process, join_wait_id)
    SELECT id, process, id FROM join_wait""",
    """INSERT INTO once_claim (process, values_digest, claimed_values, event_id)
    SELECT process, md5(genome), '{}', id FROM join_wait""",
)


@contextmanager
def filled_ledger(events: int) -> Iterator[Ledger]:
    """Yield a ledger with finished and reported events; drop it at the end."""
    with pytest.MonkeyPatch.context() as patch, new_databases(Path(), patch) as create:
        create("postgresql")
        ledger = migrated_ledger()
        _fill(events)
        yield ledger
        ledger.close()


def _fill(events: int) -> None:
    engine = database.build_engine()
    with engine.begin() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        # Halves the time: no foreign key is checked, and the tables are not crash-safe
        connection.execute(text("SET session_replication_role = replica"))
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"ALTER TABLE {table.name} SET UNLOGGED"))
        for statement in _FILL:
            connection.execute(text(statement), {"events": events, "run_size": EVENTS_PER_RUN})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


@dataclass(frozen=True)
class Statement:
    """An executed statement, with its values."""

    sql: str
    milliseconds: float


@contextmanager
def recorded_statements(ledger: Ledger) -> Iterator[list[Statement]]:
    """Yield a list to which each statement of the ledger is added after its execution."""
    statements: list[Statement] = []

    def begin(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        context.started_at = time.monotonic()

    def end(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        milliseconds = 1000 * (time.monotonic() - context.started_at)
        for row in values if isinstance(values, list) else [values]:
            statements.append(Statement(cursor.mogrify(sql, row).decode(), milliseconds))

    listeners.listen(ledger._engine, "before_cursor_execute", begin)
    listeners.listen(ledger._engine, "after_cursor_execute", end)
    yield statements
    listeners.remove(ledger._engine, "before_cursor_execute", begin)
    listeners.remove(ledger._engine, "after_cursor_execute", end)


def process_events(ledger: Ledger) -> None:
    """Execute the statements of two events from arrival to report, and those of ``maintain_ledger``."""
    new = [
        NewEvent(run_event_key("new", 0), "t", "g", {"n": 1}, "rest"),
        NewEvent(event_key("t", 5), "t", "g", {}, "rest"),
    ]
    for _ in range(2):
        event, _ = accept_events(ledger, new, "new")
    close_run(ledger, "new")
    assert (has_pending_work(ledger), needs_maintenance(ledger), has_ready_reports(ledger)) == (
        True,
        False,
        False,
    )
    assert replace(event, is_new=False) in list_unplanned_events(ledger, 100)
    store_plan(ledger, "new", [ProcessStatus(event.id, 0, "dump", "hive", "event_dump")])
    assert len(load_run_statuses(ledger, "run_77")) == EVENTS_PER_RUN
    assert len(load_run_events(ledger, "run_77")) == EVENTS_PER_RUN
    store_jobs(ledger, {(event.id, "dump"): 1})
    store_progress(ledger, "dump", [ProgressUpdate(event.id, 1, 2, 0)])
    report = PendingReport("new", event.id, "new", "report.info", "{}")
    start_attempt(ledger, "dump", [event.id], "try1")
    store_stalls(ledger, "dump", [event.id], {event.id: {"no_beekeeper: dump": "none"}}, lambda _: ())
    request_stop(ledger, "dump", [event.id], "try1")
    failed = [ProcessOutcome(event.id, "failed")]
    store_outcomes(ledger, "dump", failed, "try1", [report], notifiers=[0])
    (message,) = list_messages_of_run(ledger, "new")
    assert list_messages(ledger) == [message]
    mark_sent(ledger, claim_message(ledger, message))
    reopen_processes(ledger, "dump", [event.id])
    assert [status.job_id for status in load_process_statuses(ledger, "new", "dump")] == [1]
    assert list_open_runs(ledger, timedelta(0)) == {"new": {"dump"}}
    reject_events(ledger, "new", {event.id: "planned already"}, ())
    assert (count_pending_reports(ledger), count_pending_reports(ledger, "new")) == (1, 1)
    assert [
        publish_pending(ledger, lambda reports: reports, run_id="new"),
        publish_pending(ledger, lambda reports: reports),
    ] == [1, 0]
    assert prune_events(ledger, timedelta(days=4000)) == 0
    assert (has_pending_work(ledger), needs_maintenance(ledger), has_ready_reports(ledger)) == (False,) * 3


def read_board(ledger: Ledger, events: int) -> None:
    """Execute the queries of the event board, of joins, and of processes that run once."""
    event_id = events // 12
    genome = f"genome_{event_id}"
    for event_filter, count in (
        (EventFilter(), 50),
        (EventFilter(state="failed"), 50),
        (EventFilter(state="open"), 1),
        (EventFilter(state="complete"), 50),
        (EventFilter(type="new_assembly"), 50),
        (EventFilter(type="unknown"), 0),
        (EventFilter(genome=genome), 11),
        (EventFilter(run_id="run_77"), 50),
        (EventFilter(state="failed", genome=genome), 0),
    ):
        assert len(overview.list_events(ledger, event_filter)) == count, event_filter
    assert len(overview.list_events(ledger, EventFilter(), before_id=events // 2)) == 50
    assert overview.list_events_needing_attention(ledger, timedelta(days=7)) == []
    assert [backlog.hive for backlog in overview.load_backlogs(ledger)] == ["hive"]
    for since in (timedelta(minutes=1), timedelta(days=4000)):
        assert len(overview.list_events(ledger, EventFilter(since=load_time(ledger) - since))) <= 50
    assert len(overview.load_event_views(ledger, [event_id, event_id + 1])) == 2
    assert overview.load_event_view(ledger, event_id)
    assert len(overview.list_reports(ledger, event_id)) == 1
    assert overview.list_related_events(ledger, 77)
    day = load_time(ledger) - timedelta(days=300)
    ids = list_received_ids(ledger, day, day + timedelta(hours=1), limit=1000)
    assert len(load_received(ledger, ids)) == len(ids) > 100
    forged = NewEvent(
        "forged", "t", "g", {"follows": build_causation({"type": "t"}, "run_77", 0, "p", None)}, ""
    )
    with ledger.transaction() as connection:
        assert find_correlation_ids(connection, [forged]) == {}
    assert list_follow_ups(ledger, 10)
    assert joins.list_open_waits(ledger) == []
    assert joins.find_open_wait(ledger, "dump", "g") is None
    assert joins.list_waits_of_events(ledger, [10, 20])
    assert once.find_holders(ledger, {(0, "dump"): OnceClaim({"genome": "g"}, False)}) == {}


@dataclass(frozen=True)
class Plan:
    """PostgreSQL's plan of a statement."""

    sql: str
    text: str
    pages: int
    """Pages of 8 KiB of tables and indexes; a page that is read twice counts twice."""

    @property
    def has_table_scan(self) -> bool:
        """Whether the plan reads a whole table."""
        return "Seq Scan" in self.text


def load_plans(ledger: Ledger, statements: list[Statement]) -> Iterator[Plan]:
    """Execute each statement again, and yield its plan; its changes are rolled back."""
    with ledger._engine.connect() as connection:
        for statement in statements:
            sql = statement.sql.replace("%", "%%")
            rows = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}").scalar_one()
            connection.rollback()
            root = rows[0]["Plan"]
            pages = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
            yield Plan(statement.sql, json.dumps(root, indent=1), pages)
