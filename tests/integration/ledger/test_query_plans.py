"""PostgreSQL finds the rows of each statement by an index; ``make bench-ledger`` measures the times."""

from __future__ import annotations

from sqlalchemy import text

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.overview import needs_maintenance
from event_hooks.ledger.reports import has_ready_reports, publish_pending
from tests.integration.ledger.large_ledger import (
    MAX_PAGES,
    filled_ledger,
    load_plans,
    process_events,
    read_board,
    recorded_statements,
)

EVENTS = 50_000
"""A scan of a table with a row for each event reads 569 to 1,153 pages."""


def test_no_statement_reads_a_whole_table_of_50_000_events() -> None:
    with filled_ledger(EVENTS) as ledger:
        with recorded_statements(ledger) as statements:
            process_events(ledger)
            read_board(ledger, EVENTS)
        assert len(statements) > 30
        slow = [
            plan for plan in load_plans(ledger, statements) if plan.has_table_scan or plan.pages > MAX_PAGES
        ]
        assert slow == []


def execute_each(ledger: Ledger, *statements: str) -> None:
    """Execute statements that no transaction may contain."""
    with ledger._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_pending_reports_are_found_by_an_index_after_many_were_pending() -> None:
    """An EXISTS, or an order by id, reads the whole table with such statistics, twice a second."""
    with filled_ledger(EVENTS) as ledger:
        execute_each(
            ledger,
            "UPDATE report SET sent_at = NULL WHERE id % 5 = 0",
            "ANALYZE report",
            "UPDATE report SET sent_at = created_at WHERE sent_at IS NULL",
            "VACUUM report",
        )
        with recorded_statements(ledger) as statements:
            assert not has_ready_reports(ledger)
            assert not needs_maintenance(ledger)
            assert publish_pending(ledger, lambda reports: reports) == 0
        slow = [
            plan for plan in load_plans(ledger, statements) if plan.has_table_scan or plan.pages > MAX_PAGES
        ]
        assert slow == []
