"""The command that compares the ledger with hives and reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import NewEvent, StoredEvent, run_event_key
from event_hooks.ledger.tables import event
from event_hooks.maintain_ledger.consistency import GRACE, find_inconsistencies

DAY = timedelta(days=1)


def accept(ledger: Ledger, run_id: str, age: timedelta) -> StoredEvent:
    """Store an event that was received some time ago."""
    payload = {"type": "new_assembly", "genome": "a_genome"}
    new_event = NewEvent(run_event_key(run_id, 0), payload["type"], payload["genome"], payload, "test")
    (stored,) = accept_events(ledger, [new_event], run_id)
    with ledger.transaction() as connection:
        statement = update(event).where(event.c.id == stored.id)
        connection.execute(statement.values(received_at=datetime.now(UTC) - age))
    return stored


@pytest.mark.parametrize("run_id", ["api__1", "manual__2026-11-28", "a run of a user"])
def test_an_event_that_is_not_planned_in_time_is_reported(ledger: Ledger, run_id: str) -> None:
    stored = accept(ledger, run_id, 2 * GRACE)
    accept(ledger, "api__young", timedelta(0))
    (text,) = find_inconsistencies(ledger, datetime.now(UTC) - DAY)
    event_text = f"run {run_id}: event {stored.id} (new_assembly, a_genome) is not planned: see the log of"
    assert text.startswith(event_text)


def test_an_old_event_that_is_not_planned_is_reported(ledger: Ledger) -> None:
    accept(ledger, "api__1", 2 * DAY)
    assert len(list(find_inconsistencies(ledger, datetime.now(UTC) - DAY))) == 1


def test_a_planned_event_without_processes_is_consistent(ledger: Ledger) -> None:
    accept(ledger, "api__1", 2 * GRACE)
    store_plan(ledger, "api__1")
    assert list(find_inconsistencies(ledger, datetime.now(UTC) - DAY)) == []
