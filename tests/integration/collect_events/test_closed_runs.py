"""Collecting a window again after its runs have read their events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from event_hooks.collect_events.collect import collect_new_events
from event_hooks.collect_events.hook import MetadataHook
from event_hooks.collect_events.params import CollectParams
from event_hooks.events.lookups import Lookups
from event_hooks.exceptions import RunClosed
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import close_run
from event_hooks.ledger.tables import event
from tests.support.practice_metadata import PracticeMetadata

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
WINDOW = CollectParams(NOON, NOON + timedelta(minutes=15))


def collect(ledger: Ledger, event_lookups: Lookups) -> list[str]:
    """Collect the window, and return the started runs; each of them reads its events at once."""
    started: list[str] = []

    def start_run(run_id: str) -> None:
        started.append(run_id)
        close_run(ledger, run_id)

    events = MetadataHook().list_events(WINDOW.start, WINDOW.end)
    collect_new_events(ledger, events, WINDOW, event_lookups, "collect_events/test", start_run)
    return started


def test_a_repeated_window_needs_no_open_run(
    metadata: PracticeMetadata, ledger: Ledger, event_lookups: Lookups
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    assert [len(collect(ledger, event_lookups)) for _ in range(2)] == [1, 0]


def test_an_event_that_the_ledger_has_lost_is_not_added_to_its_closed_run(
    metadata: PracticeMetadata, ledger: Ledger, event_lookups: Lookups
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    (run_id,) = collect(ledger, event_lookups)
    with ledger.transaction() as connection:
        connection.execute(delete(event))
    with pytest.raises(RunClosed, match=run_id):
        collect(ledger, event_lookups)
