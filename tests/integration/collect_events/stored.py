"""A window of ensembl_metadata, and the events of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from event_hooks.collect_events.params import CollectParams
from event_hooks.collect_events.summary import CollectSummary
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import list_runs_since, load_run_events
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.records import ProcessOutcome, ProcessState, ProcessStatus, StoredEvent

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
Collect = Callable[..., CollectSummary]
"""The fixture ``collect``."""

WINDOW = CollectParams(NOON, NOON + timedelta(minutes=15))


def list_stored_events(ledger: Ledger) -> list[StoredEvent]:
    """Return all events of the ledger, by run."""
    runs = list_runs_since(ledger, NOON - timedelta(days=3650))
    return [event for run_id in runs for event in load_run_events(ledger, run_id)]


def list_genomes(ledger: Ledger) -> list[str | None]:
    """Return the genomes of all events of the ledger, sorted."""
    return sorted(str(event.payload["genome"]) for event in list_stored_events(ledger))


def store_states(ledger: Ledger, event: StoredEvent, **states: ProcessState) -> None:
    """Store the final states of the processes of an event."""
    assert event.run_id
    planned = [ProcessStatus(event.id, event.position, name, "hive", "analysis") for name in states]
    store_plan(ledger, event.run_id, planned)
    for name, state in states.items():
        if state == ProcessState.PLANNED:
            continue
        store_outcomes(ledger, name, [ProcessOutcome(event.id, state)], "ti", ())
