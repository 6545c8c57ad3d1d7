"""
A ledger of a million events on PostgreSQL.

Each kind of statement that event hooks and the event board execute is measured, and explained: none may read
a whole table. ``tests/integration/ledger/test_query_plans.py`` is the short form, without the times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from tests.integration.ledger.large_ledger import (
    MAX_PAGES,
    Statement,
    filled_ledger,
    plans,
    process_events,
    read_board,
    recorded_statements,
)
from tools.bench.room import Measured

EVENTS = 1_000_000
LIMIT_MS = 20.0
"""Milliseconds that one statement may take."""


def measure() -> Iterator[Measured]:
    """Yield each figure, once it is measured."""
    began = time.monotonic()
    with filled_ledger(EVENTS) as ledger:
        yield Measured("fill the ledger", time.monotonic() - began, "s")
        with recorded_statements(ledger) as statements:
            process_events(ledger)
            yield from _figures("from an event's arrival to its report", statements)
            count = len(statements)
            read_board(ledger, EVENTS)
            yield from _figures("event board, joins, `once`", statements[count:])
        explained = list(plans(ledger, statements))
    pages = max(plan.pages for plan in explained)
    yield Measured("pages that a statement reads at most", pages, "", f"<= {MAX_PAGES}", pages <= MAX_PAGES)
    scans = sum(plan.has_table_scan for plan in explained)
    yield Measured("statements that scan a table", scans, "", "0", not scans)


def _figures(step: str, statements: Sequence[Statement]) -> Iterator[Measured]:
    times = [statement.milliseconds for statement in statements]
    yield Measured(f"{step}: statements", len(times), "")
    yield Measured(f"{step}: median of a statement", statistics.median(times), "ms")
    longest = max(times)
    yield Measured(f"{step}: longest statement", longest, "ms", f"<= {LIMIT_MS:g}", longest <= LIMIT_MS)
