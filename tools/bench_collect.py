"""
Measure a year of events of ensembl_metadata, and write ``docs/bench-collect.md``.

Run by ``make bench-collect``: from 100,000 rows on MariaDB to the ledger on PostgreSQL. The runs that Airflow
would start are counted, not started: tests/system has one with 3,000 jobs in a hive.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from event_hooks import collecting, lookups
from event_hooks.collecting import Summary, Wanted
from event_hooks.metadata.hook import MetadataHook
from tests.integration.ledger.conftest import databases_made, migrated
from tests.support.practice_hive.database import parse
from tests.support.practice_metadata import PracticeMetadata
from tools.bench_hive import machine

if TYPE_CHECKING:
    from event_hooks.ledger.ledger import Ledger

T = TypeVar("T")

REPORT = Path(__file__).parents[1] / "docs" / "bench-collect.md"
DAYS, A_DAY = 100, 1000
END = datetime(2026, 11, 1, tzinfo=UTC)
YEAR = Wanted(END - timedelta(days=365), END)
LIMIT = 300
"""Seconds for a year: minutes."""


@contextmanager
def metadata() -> Iterator[PracticeMetadata]:
    """Make an ensembl_metadata to which ``ensembl_metadata`` leads."""
    server, name = os.environ["MYSQL_URL"].rstrip("/"), f"metadata_{uuid4().hex[:16]}"
    with create_engine(parse(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"CREATE DATABASE {name}")
    os.environ["AIRFLOW_CONN_ENSEMBL_METADATA"] = f"{server}/{name}"
    made = PracticeMetadata(f"{server}/{name}")
    made.create()
    yield made
    made.close()
    with create_engine(parse(f"{server}/mysql")).begin() as root:
        root.exec_driver_sql(f"DROP DATABASE {name}")


def measure(ledger: Ledger, steps: list[tuple[str, float]]) -> Summary:
    """Read, hand over, and do it all again."""
    found = timed(steps, "read 100,000 events", lambda: MetadataHook().events(YEAR.start, YEAR.end))
    known = lookups.current()

    def collect() -> Summary:
        return collecting.collect(ledger, found, YEAR, known, "bench", lambda run_id: None)

    summary = timed(steps, "hand them over, in runs of 500", collect)
    again = timed(steps, "the same window again: nothing is handed over", collect)
    if (summary.handed_over, again.handed_over, again.known) != (DAYS * A_DAY, 0, DAYS * A_DAY):
        raise SystemExit(f"expected each event once, found {summary} and {again}")
    return summary


def timed(steps: list[tuple[str, float]], step: str, deed: Callable[[], T]) -> T:
    """Do something, and note how long it took."""
    began = time.monotonic()
    done = deed()
    steps.append((step, time.monotonic() - began))
    print(f"{steps[-1][1]:7.1f} s  {step}", flush=True)
    return done


def main() -> int:
    """Measure, print, and keep the table."""
    steps: list[tuple[str, float]] = []
    with metadata() as source, pytest.MonkeyPatch.context() as patch, databases_made(Path(), patch) as make:
        make("postgresql")
        for day in range(DAYS):
            source.collection(A_DAY, END - timedelta(days=3 * day + 1), f"bacterium_{day}")
        ledger = migrated()
        summary = measure(ledger, steps)
        ledger.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [f"| {step} | {seconds:.1f} s |" for step, seconds in steps]
    rows += [f"| runs | {len(summary.runs)} |", f"| memory at most | {memory:.0f} MiB |"]
    table = "\n".join(["| What | Measured |", "| --- | ---: |", *rows])
    where = machine("MariaDB, PostgreSQL")
    REPORT.write_text(
        f"# A year of events of ensembl_metadata\n\nBy `make bench-collect`. {where}.\n\n{table}\n"
    )
    print(f"\n{table}\n\nKept in {REPORT}")
    return 0 if sum(seconds for _, seconds in steps) < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
