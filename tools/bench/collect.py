"""
Benchmark of the collection of a year of events: 100,000 rows of ensembl_metadata.

They are read from MariaDB and stored in the ledger on PostgreSQL. The runs are counted and not started;
tests/system starts a run with 3,000 jobs in a hive.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_hooks.collect_events.collect import collect_new_events
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import CollectParams
from event_hooks.events import lookups
from tests.integration.ledger.databases import migrated_ledger, new_databases
from tests.support.practice_metadata import PracticeMetadata, temporary_metadata
from tools.bench.measurement import Measurement

if TYPE_CHECKING:
    from event_hooks.collect_events.summary import CollectSummary

DAYS, EVENTS_PER_DAY = 100, 1000
END = datetime(2026, 11, 1, tzinfo=UTC)
YEAR = CollectParams(END - timedelta(days=365), END)
MAX_SECONDS = 300
"""Limit for all events of the year."""


@contextmanager
def metadata() -> Iterator[PracticeMetadata]:
    """Create an ensembl_metadata, and the Airflow connection ``ensembl_metadata`` to it."""
    with temporary_metadata() as (metadata, url):
        os.environ["AIRFLOW_CONN_ENSEMBL_METADATA"] = url
        yield metadata


def measure() -> Iterator[Measurement]:
    """Collect a year of events, collect the same year again, and yield the measurements."""
    with metadata() as source, pytest.MonkeyPatch.context() as patch, new_databases(Path(), patch) as create:
        create("postgresql")
        for day in range(DAYS):
            source.add_collection(EVENTS_PER_DAY, END - timedelta(days=3 * day + 1), f"bacterium_{day}")
        ledger = migrated_ledger()
        started = time.monotonic()
        events = MetadataHook().list_events(YEAR.start, YEAR.end)
        yield Measurement("read 100,000 events", time.monotonic() - started, "s")
        current_lookups = lookups.load_cached()

        def collect_all(run_id: str) -> CollectSummary:
            return collect_new_events(ledger, events, YEAR, current_lookups, run_id, lambda run_id: None)

        started = time.monotonic()
        summary = collect_all("first")
        seconds = time.monotonic() - started
        yield Measurement("accept them, in runs of 500", seconds, "s", at_most=MAX_SECONDS)
        started = time.monotonic()
        again = collect_all("second")
        yield Measurement("the same window again: no event is started", time.monotonic() - started, "s")
        count = DAYS * EVENTS_PER_DAY
        if (summary.started, again.started, again.duplicates) != (count, 0, count):
            raise SystemExit(f"expected each event once, not {summary} and {again}")
        ledger.close()
    yield Measurement("runs", len(summary.runs), "")
    yield Measurement("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")
