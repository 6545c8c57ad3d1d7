"""Runs of events for tests that need no ledger."""

from __future__ import annotations

from typing import Any

from event_hooks.ledger.records import RunEvents, StoredEvent


def build_run(*payloads: dict[str, Any], run_id: str = "run") -> RunEvents:
    """Return a run with these events; their ids in the ledger count from 100."""
    stored = [
        StoredEvent(100 + position, payload, run_id, position) for position, payload in enumerate(payloads)
    ]
    return RunEvents.from_stored(run_id, stored)
