"""
A year of events of ensembl_metadata.

From 100,000 rows on MariaDB to the ledger on PostgreSQL. The runs that Airflow
would start are counted, not started: tests/system has one with 3,000 jobs in a hive.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from event_hooks.collect_events.collect import Summary, collect_new_events
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import Wanted
from event_hooks.events import lookups
from tests.integration.ledger.databases import migrated_ledger, new_databases
from tests.support.practice_metadata import PracticeMetadata, temporary_metadata
from tools.bench.room import Measured

DAYS, A_DAY = 100, 1000
END = datetime(2026, 11, 1, tzinfo=UTC)
YEAR = Wanted(END - timedelta(days=365), END)
LIMIT = 300
"""Seconds for a year: minutes."""


@contextmanager
def metadata() -> Iterator[PracticeMetadata]:
    """Make an ensembl_metadata to which ``ensembl_metadata`` leads."""
    with temporary_metadata() as (metadata, address):
        os.environ["AIRFLOW_CONN_ENSEMBL_METADATA"] = address
        yield metadata


def measure() -> Iterator[Measured]:
    """Read a year, hand it over, and do it all again."""
    with metadata() as source, pytest.MonkeyPatch.context() as patch, new_databases(Path(), patch) as create:
        create("postgresql")
        for day in range(DAYS):
            source.collection(A_DAY, END - timedelta(days=3 * day + 1), f"bacterium_{day}")
        ledger = migrated_ledger()
        began = time.monotonic()
        found = MetadataHook().events(YEAR.start, YEAR.end)
        yield Measured("read 100,000 events", time.monotonic() - began, "s")
        known = lookups.load_cached()

        def collect_all() -> Summary:
            return collect_new_events(ledger, found, YEAR, known, "bench", lambda run_id: None)

        began = time.monotonic()
        summary = collect_all()
        seconds = time.monotonic() - began
        yield Measured("hand them over, in runs of 500", seconds, "s", f"< {LIMIT}", seconds < LIMIT)
        began = time.monotonic()
        again = collect_all()
        yield Measured("the same window again: nothing is handed over", time.monotonic() - began, "s")
        if (summary.handed_over, again.handed_over, again.known) != (DAYS * A_DAY, 0, DAYS * A_DAY):
            raise SystemExit(f"expected each event once, found {summary} and {again}")
        ledger.close()
    yield Measured("runs", len(summary.runs), "")
    yield Measured("memory at most", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")
