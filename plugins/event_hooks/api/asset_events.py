"""Register the pending asset events of the ledger with Airflow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.ledger.asset_events import PendingAssetEvent, register_pending
from event_hooks.masking import mask_secrets
from event_hooks.process_event.assets import event_asset_name, process_asset_name

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger
    from event_hooks.runtime.asset_events import NewAssetEvent

log = logging.getLogger(__name__)

MAX_EVENTS = 500
"""Asset events in one transaction: more would delay the responses of the API server."""

CLOCK_DIFFERENCE = timedelta(hours=1)
"""More than the clocks of two API servers differ, and than a transaction takes."""


def register_asset_events(ledger: Ledger) -> None:
    """
    Register up to :data:`MAX_EVENTS` of the oldest pending asset events, each once.

    If the ledger does not store that they are registered, the next call finds them in Airflow's database.
    """
    register_pending(ledger, _register, MAX_EVENTS)


def _register(pending: Sequence[PendingAssetEvent]) -> None:
    # Its modules exist for the API server and are slow to import
    from event_hooks.runtime import asset_events

    since = max(event.age for event in pending) + CLOCK_DIFFERENCE
    count = asset_events.register([build_asset_event(event) for event in pending], since)
    log.info("%s of %s pending asset events registered", count, len(pending))


def build_asset_event(pending: PendingAssetEvent) -> NewAssetEvent:
    """Return the asset event of a received event, or of a completed process."""
    from event_hooks.runtime.asset_events import ID_KEY, NewAssetEvent  # as above

    extra: dict[str, Any] = {
        ID_KEY: str(pending.event_id),
        "event": pending.event_id,
        "type": pending.type,
        "genome": pending.genome,
        "event_id": pending.payload.get("event_id"),
        "run_id": pending.run_id,
    }
    name, task_id = event_asset_name(pending.type), "route"
    if pending.process:
        steps = (pending.event_id, pending.process, pending.job_id, pending.attempt)
        extra[ID_KEY] = "/".join(map(str, steps))
        extra |= {"process": pending.process, "hive": pending.hive, "job_id": pending.job_id}
        name, task_id = process_asset_name(pending.process), f"{pending.process}.wait"
    return NewAssetEvent(name, settings.DAG_ID, pending.run_id, task_id, mask_secrets(extra))
