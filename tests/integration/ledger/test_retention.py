"""Pruning, on real database servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event as listeners
from sqlalchemy import insert, text, update

from event_hooks.ledger import tables
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.retention import prune_events
from tests.integration.ledger.databases import migrated_ledger

OLD = datetime.now(UTC) - timedelta(days=500)
AGE = timedelta(days=400)

MAX_READS = 1000
"""Rows, or hundreds of instructions of SQLite's machine. One scan for each event would read 40,000 rows."""

_FILL = (
    """INSERT INTO event_process (event_id, process, hive, analysis, state)
    SELECT id, 'dump', 'hive', 'event_dump', 'complete' FROM event""",
    """INSERT INTO report (message_id, event_id, run_id, routing_key, body, created_at, sent_at)
    SELECT CAST(id AS CHAR(36)), id, run_id, 'report.info', '{}', received_at, received_at FROM event""",
    """INSERT INTO follow_up (event_id, process, position, payload, created_at, sent_at)
    SELECT id, 'dump', 0, '{}', received_at, received_at FROM event""",
    """INSERT INTO join_wait (id, process, genome, genome_digest, types, on_timeout, opened_at, expires_at,
        closed_at, event_id)
    SELECT id, 'dump', 'g', 'd', '[]', 'run', received_at, received_at, received_at, id FROM event""",
    """INSERT INTO join_wait_event (event_id, process, join_wait_id) SELECT id, process, id FROM join_wait""",
    """INSERT INTO once_claim (process, values_digest, claimed_values, event_id)
    SELECT 'dump', event_key, '{}', id FROM event""",
)


def fill(ledger: Ledger, events: int, old_events: int) -> None:
    """Store finished events with a report, a follow-up event, a join and a claim each."""
    rows = [
        {
            "event_key": str(number),
            "type": "new_assembly",
            "payload": "{}",
            "source": "rest",
            "received_at": OLD if number < old_events else datetime.now(UTC),
            "request_id": "fill",
            "run_id": "run",
            "position": number,
        }
        for number in range(events)
    ]
    ledger.write(lambda connection: connection.execute(insert(tables.event), rows))
    for statement in _FILL:
        ledger.write(lambda connection, sql=statement: connection.execute(text(sql)))


def build_read_counter(ledger: Ledger, ledger_server: str) -> Callable[[], int]:
    """Return a function that counts the rows that the server has read by scans."""
    match ledger_server:
        case "postgresql":
            flush = text("SELECT pg_stat_force_next_flush()")
            scans = text("SELECT sum(seq_tup_read) FROM pg_stat_user_tables")
            return lambda: int(ledger.read(scans)[0][0] if ledger.read(flush) else 0)
        case "mysql":  # also reads by an index, but none for foreign keys, which always have an index
            reads = text("SHOW SESSION STATUS LIKE 'Handler_read%%'")
            return lambda: sum(int(value) for _, value in ledger.read(reads))
    calls: list[None] = []
    with ledger.transaction() as connection:
        raw = connection.connection.driver_connection
        assert raw
        raw.set_progress_handler(lambda: calls.append(None), 100)
    return lambda: len(calls)


def test_pruning_reads_no_whole_table(empty_database: Callable[[str], str], ledger_server: str) -> None:
    # In a new database, PostgreSQL counts no reads of other connections.
    empty_database(ledger_server)
    ledger = migrated_ledger()
    fill(ledger, events=2000, old_events=20)
    if ledger_server == "postgresql":
        ledger.write(lambda connection: connection.execute(text("ANALYZE")))
    count_reads = build_read_counter(ledger, ledger_server)
    reads_before = count_reads()
    assert prune_events(ledger, AGE, batch_size=10) == 20
    assert count_reads() - reads_before < MAX_READS
    ledger.close()


def test_each_statement_deletes_at_most_a_batch(ledger: Ledger) -> None:
    fill(ledger, events=5, old_events=5)
    of_invalid_events = update(tables.report).values(event_id=None)
    ledger.write(lambda connection: connection.execute(of_invalid_events))
    deleted: dict[str, list[int]] = {}

    def record(connection: Any, cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith("DELETE FROM"):
            deleted.setdefault(sql.split()[2], []).append(cursor.rowcount)

    listeners.listen(ledger._engine, "after_cursor_execute", record)
    prune_events(ledger, AGE, batch_size=2)
    batches = [2, 2, 1]
    no_claims = [0, 0, 0]  # claims of complete processes stay
    assert deleted == {"report": batches, "once_claim": no_claims, "event": batches, "join_wait": batches}
