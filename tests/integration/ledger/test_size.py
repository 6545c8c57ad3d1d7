"""A ledger of a million events answers each query of the flow at once, by an index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event as listening
from sqlalchemy import text

from event_hooks.ledger import database, joins, once, overview
from event_hooks.ledger.follow_ups import follow_ups_of
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.overview import Wanted
from event_hooks.ledger.records import (
    Claim,
    Outcome,
    OwedReport,
    Progress,
    Received,
    Standing,
    key_in_run,
    key_of,
)
from event_hooks.ledger.tables import metadata

EVENTS = 1_000_000
RUN_SIZE = 100
LIMIT = 0.02
"""Seconds that one statement may take."""

_FILL = (
    """INSERT INTO event (event_key, type, genome, payload, source, received_at, intake, run_id, position,
        routed_at)
    SELECT md5(n::text) || md5('x' || n), 'new_assembly', 'genome_' || n, '{}', 'manual',
        timestamp '2026-01-01' + n * interval '20 seconds', 'fill', 'run_' || n / :size, n % :size,
        timestamp '2026-01-01' + n * interval '20 seconds'
    FROM generate_series(0, :events - 1) n""",
    """INSERT INTO event_process (event_id, process, hive, analysis, job_id, submitted_at, state, ended_at)
    SELECT id, 'dump', 'hive', 'event_dump', id, received_at,
        CASE WHEN id % 100 = 0 THEN 'failed' ELSE 'complete' END, received_at FROM event""",
    """INSERT INTO report (message_id, event_id, run_id, routing_key, body, owed_at, sent_at)
    SELECT 'm' || id, id, run_id, 'report.info', '{}', received_at, received_at FROM event""",
    """INSERT INTO follow_up (event_id, process, position, payload, owed_at, sent_at)
    SELECT id, 'dump', 0, '{}', received_at, received_at FROM event WHERE id % 10 = 0""",
    """INSERT INTO awaited (id, process, genome, types, "then", opened_at, closes_at, closed_at)
    SELECT id, 'dump', 'g' || id, '[]', 'run', received_at, received_at, received_at
    FROM event WHERE id % 10 = 0""",
    """INSERT INTO awaited_event (event_id, process, awaited_id)
    SELECT id, process, id FROM awaited""",
    """INSERT INTO once (process, subject, held_for, event_id)
    SELECT process, md5(genome), '{}', id FROM awaited""",
)


@pytest.fixture
def ledger(empty_database: Callable[[str], str]) -> Iterator[Ledger]:
    """A ledger in which a million events are over and reported."""
    empty_database("postgresql")
    engine = database.engine()
    database.migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        # Quicker by half: what is filled in refers to what is there, and no crash is to be outlived
        connection.execute(text("SET session_replication_role = replica"))
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"ALTER TABLE {table.name} SET UNLOGGED"))
        for statement in _FILL:
            connection.execute(text(statement), {"events": EVENTS, "size": RUN_SIZE})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()
    ledger = Ledger()
    yield ledger
    ledger.close()


def look_around(ledger: Ledger) -> None:
    """Ask what the event board asks."""
    week = timedelta(days=7)
    for wanted, count in (
        (Wanted(), 50),
        (Wanted(state="failed"), 50),
        (Wanted(state="open"), 1),
        (Wanted(state="complete"), 50),
        (Wanted(type="new_assembly"), 50),
        (Wanted(type="unheard_of"), 0),
        (Wanted(genome="genome_77777"), 11),
        (Wanted(run_id="run_77"), 50),
        (Wanted(state="failed", genome="genome_77777"), 0),
    ):
        assert len(overview.events(ledger, wanted)) == count, wanted
    assert len(overview.events(ledger, Wanted(), before=500_000)) == 50
    assert overview.attention(ledger, week) == []
    assert [backlog.hive for backlog in overview.backlogs(ledger)] == ["hive"]
    assert overview.one(ledger, 77_777)
    assert len(overview.reports(ledger, 77_777)) == 1
    assert overview.chain(ledger, 77)
    assert follow_ups_of(ledger, 10)
    assert joins.waiting(ledger) == []
    assert joins.find(ledger, "dump", "g") is None
    assert joins.waiting_for(ledger, [10, 20])
    assert once.holders(ledger, {(0, "dump"): Claim({"genome": "g"}, False)}) == {}


@pytest.mark.alone
def test_a_million_events_slow_nothing_down(ledger: Ledger) -> None:
    asked: list[tuple[float, str, str]] = []

    def begin(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        context.began = time.monotonic()

    def end(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        seconds = time.monotonic() - context.began
        for one in values if many else [values]:
            asked.append((seconds, statement, cursor.mogrify(statement, one).decode()))

    listening.listen(ledger._engine, "before_cursor_execute", begin)
    listening.listen(ledger._engine, "after_cursor_execute", end)

    new = [
        Received(key_in_run("new", 0), "t", "g", {"n": 1}, "rest"),
        Received(key_of("t", 5), "t", "g", {}, "rest"),
    ]
    for _ in range(2):
        entry, waiting = ledger.accept(new)
    assert ledger.without_run(100) == [entry, waiting]
    assert len(ledger.assign("new", [entry.id])) == 1
    assert ledger.has_work()
    assert ledger.not_begun("new", 100) == [replace(entry, run_id="new", is_new=False)]
    ledger.plan("new", [Standing(entry.id, 0, "dump", "hive", "event_dump")])
    assert len(ledger.standing("run_77")) == RUN_SIZE
    assert len(ledger.events_of("run_77")) == RUN_SIZE
    ledger.record_jobs({(entry.id, "dump"): 1})
    ledger.record_progress("dump", [Progress(entry.id, 1, 2, 0)])
    report = OwedReport("new", entry.id, "new", "report.info", "{}")
    ledger.record_outcomes("dump", [Outcome(entry.id, "complete")], "try1", [report])
    ledger.reopen("dump", [entry.id])
    assert (ledger.count_owed(), ledger.count_owed("new")) == (1, 1)
    assert [ledger.send(lambda owed: owed, run_id="new"), ledger.send(lambda owed: owed)] == [1, 0]
    assert ledger.prune(timedelta(days=4000)) == 0
    ledger.assign("new", [waiting.id])
    ledger.plan("new", [])
    assert not ledger.has_work()
    look_around(ledger)

    assert len(asked) > 30
    slow = [(round(seconds, 4), statement[:200]) for seconds, statement, _ in asked if seconds > LIMIT]
    assert slow == []
    with database.engine().connect() as connection:
        for _, _, statement in asked:
            explained = connection.exec_driver_sql("EXPLAIN " + statement.replace("%", "%%")).scalars()
            plan = "\n".join(explained)
            assert "Seq Scan" not in plan, f"{statement}\n{plan}"
