"""PostgreSQL finds the rows of each statement by an index; ``make bench-ledger`` measures the times."""

from __future__ import annotations

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
