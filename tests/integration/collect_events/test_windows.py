"""The high-water mark: no scheduled run skips events, also after an outage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from event_hooks.collect_events.collect import collect_windows
from event_hooks.collect_events.params import CollectParams
from event_hooks.collect_events.summary import CollectSummary
from event_hooks.collect_events.windows import GAP_WINDOW, MARK_NAME
from event_hooks.events.lookups import Lookups
from event_hooks.exceptions import LedgerUnreachable, MetadataUnreachable
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.marks import load_or_create_mark, move_mark
from event_hooks.ledger.records import StoredReport
from event_hooks.ledger.reports import list_run_reports
from tests.integration.collect_events.stored import NOON, WINDOW, list_genomes
from tests.support.practice_metadata import PracticeMetadata, write_event

SCHEDULED = replace(WINDOW, moves_mark=True)
RUN = "collect_events/scheduled"

Run = Callable[..., CollectSummary]


@pytest.fixture
def run(ledger: Ledger, event_lookups: Lookups) -> Run:
    """A function that collects a window of a run, by default a scheduled one."""

    def run(
        window: CollectParams = SCHEDULED, start_run: Callable[[str], Any] = str, run_id: str = RUN
    ) -> CollectSummary:
        return collect_windows(ledger, window, event_lookups, run_id, start_run)

    return run


def scheduled(hours: float) -> CollectParams:
    """Return the window of a scheduled run that begins some hours after noon."""
    start = NOON + timedelta(hours=hours)
    return replace(SCHEDULED, start=start, end=start + timedelta(minutes=15))


def load_mark_hours(ledger: Ledger) -> float:
    """Return the position of the high-water mark, in hours after noon."""
    return (load_or_create_mark(ledger, MARK_NAME, NOON) - NOON).total_seconds() / 3600


def list_warnings(ledger: Ledger) -> list[StoredReport]:
    reports = list_run_reports(ledger, RUN)
    return [report for report in reports if report.routing_key == "report.warn"]


def test_a_run_after_an_outage_of_a_weekend_collects_the_events_of_the_weekend(
    metadata: PracticeMetadata, run: Run, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    for hours in (1, 30, 50, 62):
        metadata.add_event(
            metadata.add_genome(f"after_{hours}_hours"), created_at=NOON + timedelta(hours=hours)
        )
    summary = run(scheduled(62))
    assert (summary.found, summary.started) == (4, 4)
    assert len(list_genomes(ledger)) == 4
    assert load_mark_hours(ledger) == 62.25
    assert "the events from 2026-11-02T12:15:00+00:00 to 2026-11-05T02:00:00+00:00" in caplog.text
    assert len(list_warnings(ledger)) == 3
    assert all('"gap": true' in report.body["message"] for report in list_warnings(ledger))


def test_consecutive_scheduled_runs_have_no_gap(
    metadata: PracticeMetadata, run: Run, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    for quarter in range(3):
        metadata.add_event(
            metadata.add_genome("homo_sapiens"), created_at=NOON + quarter * timedelta(minutes=15)
        )
        assert run(scheduled(quarter / 4)).started == 1
        assert load_mark_hours(ledger) == (quarter + 1) / 4
    assert [report.routing_key for report in list_run_reports(ledger, RUN)] == ["report.info"] * 3
    assert "finished" not in caplog.text


def test_the_first_run_reads_only_its_window_and_the_overlap(
    metadata: PracticeMetadata, run: Run, ledger: Ledger
) -> None:
    for name, hours in (("history", -7), ("overlap", -1), ("window", 0)):
        metadata.add_event(metadata.add_genome(name), created_at=NOON + timedelta(hours=hours))
    assert run().found == 1
    assert list_genomes(ledger) == ["overlap", "window"]


def test_a_first_run_that_fails_leaves_its_window_to_the_next_one(
    metadata: PracticeMetadata, run: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_ENSEMBL_METADATA", "mysql://127.0.0.1:1/metadata")
        with pytest.raises(MetadataUnreachable):
            run()
    run(scheduled(10))
    assert list_genomes(ledger) == ["homo_sapiens"]


def test_an_event_committed_late_is_found_in_the_overlap_before_the_mark(
    metadata: PracticeMetadata, run: Run, ledger: Ledger
) -> None:
    genome_id = metadata.add_genome("homo_sapiens")
    with metadata.engine.begin() as connection:
        write_event(connection, "genome_event", genome_id, "new_genebuild", created_at=NOON)
        assert run().found == 0
    run(scheduled(24))
    assert list_genomes(ledger) == ["homo_sapiens"]


@pytest.mark.parametrize("mark_hours", [0, 20])
def test_a_run_that_does_not_move_the_mark_reads_only_its_window(
    mark_hours: float, metadata: PracticeMetadata, run: Run, ledger: Ledger
) -> None:
    load_or_create_mark(ledger, MARK_NAME, NOON + timedelta(hours=mark_hours))
    metadata.add_event(metadata.add_genome("in_gap"), created_at=NOON)
    metadata.add_event(metadata.add_genome("in_window"), created_at=NOON + timedelta(hours=10))
    run(replace(scheduled(10), moves_mark=False))
    assert list_genomes(ledger) == ["in_window"]
    assert load_mark_hours(ledger) == mark_hours


def test_a_repeated_old_run_does_not_move_the_mark_back(
    metadata: PracticeMetadata, run: Run, ledger: Ledger
) -> None:
    for hours in (0, 10, 0):
        run(scheduled(hours))
    assert load_mark_hours(ledger) == 10.25


def test_a_retry_after_a_crash_continues_with_the_first_unfinished_window(
    metadata: PracticeMetadata, run: Run, ledger: Ledger
) -> None:
    run()
    for day in range(4):
        metadata.add_event(metadata.add_genome(f"day_{day}"), created_at=NOON + timedelta(days=day, hours=1))

    def crash_on_day_2(run_id: str) -> None:
        if len(list_genomes(ledger)) == 3:
            raise LedgerUnreachable("event_ledger", "for a test")

    with pytest.raises(LedgerUnreachable):
        run(scheduled(4 * 24), crash_on_day_2)
    assert load_mark_hours(ledger) == 0.25 + 2 * GAP_WINDOW.total_seconds() / 3600
    assert run(scheduled(4 * 24)).started == 2  # of day 2, which the first attempt had accepted, and of day 3
    assert len(list_genomes(ledger)) == 4
    assert len(list_warnings(ledger)) == 4


def test_a_later_run_reads_the_window_of_an_earlier_unfinished_run(
    metadata: PracticeMetadata, run: Run, ledger: Ledger
) -> None:
    run()
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON + timedelta(minutes=20))

    def run_later(run_id: str) -> None:
        assert run(scheduled(0.5), run_id="collect_events/later").found == 1
        assert load_mark_hours(ledger) == 0.75

    run(scheduled(0.25), run_later)
    assert list_genomes(ledger) == ["homo_sapiens"]
    assert load_mark_hours(ledger) == 0.75


def test_concurrent_moves_leave_the_mark_at_the_last_position(ledger: Ledger) -> None:
    load_or_create_mark(ledger, MARK_NAME, NOON)

    def move(hours: int) -> None:
        with ledger.transaction() as connection:
            move_mark(connection, MARK_NAME, NOON + timedelta(hours=hours))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, [3, 9, 1, 7, 5, 2, 8, 4]))
    assert load_mark_hours(ledger) == 9
