"""
Benchmark of a ledger with a million events on PostgreSQL.

It measures each kind of statement of event hooks and the event board, and reads its query plan: no statement
may read a whole table. ``tests/integration/ledger/test_query_plans.py`` is the short form, without times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from tests.integration.ledger.large_ledger import (
    MAX_PAGES,
    Statement,
    filled_ledger,
    load_plans,
    process_events,
    read_board,
    recorded_statements,
)
from tools.bench.measurement import Measurement

EVENTS = 1_000_000
MAX_STATEMENT_MS = 20.0


def measure() -> Iterator[Measurement]:
    """Yield each measurement as soon as it is complete."""
    started = time.monotonic()
    with filled_ledger(EVENTS) as ledger:
        yield Measurement("fill the ledger", time.monotonic() - started, "s")
        with recorded_statements(ledger) as statements:
            process_events(ledger)
            yield from _measure_times("from an event's arrival to its report", statements)
            count = len(statements)
            read_board(ledger, EVENTS)
            yield from _measure_times("event board, joins, `once`", statements[count:])
        query_plans = list(load_plans(ledger, statements))
    pages = max(plan.pages for plan in query_plans)
    yield Measurement("most pages that a statement reads", pages, "", at_most=MAX_PAGES)
    scans = sum(plan.has_table_scan for plan in query_plans)
    yield Measurement("statements that scan a table", scans, "", at_most=0)


def _measure_times(step: str, statements: Sequence[Statement]) -> Iterator[Measurement]:
    times = [statement.milliseconds for statement in statements]
    yield Measurement(f"{step}: statements", len(times), "")
    yield Measurement(f"{step}: median of a statement", statistics.median(times), "ms")
    yield Measurement(f"{step}: longest statement", max(times), "ms", at_most=MAX_STATEMENT_MS)
