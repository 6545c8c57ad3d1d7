"""Runs of `process_event`: their ids, their notes, and how event hooks starts them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from event_hooks import settings
from event_hooks.ledger.events import load_run_events
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger

log = logging.getLogger(__name__)

API_PREFIX = "api__"
COLLECT_PREFIX = "collect__"
JOIN_PREFIX = "joined__"
MAINTENANCE_PREFIX = "ledger__"

PREFIXES = (MAINTENANCE_PREFIX, API_PREFIX, JOIN_PREFIX, COLLECT_PREFIX)
"""Prefixes of the ids of runs that event hooks starts: `maintain_ledger` starts them if their creator did not."""

MAX_NOTE_LENGTH = 1000
"""Characters of a run's note: the length of Airflow's column."""


def start_run(ledger: Ledger, run_id: str) -> int:
    """
    Start a run, from inside a task, for the events that are assigned to it; do nothing if it exists.

    :return: how many events it has.
    :raises RuntimeError: Airflow cannot start it now; ``maintain_ledger`` retries.
    """
    events = [entry.payload for entry in load_run_events(ledger, run_id)]
    supervisor.trigger_run(settings.DAG_ID, run_id, {"events": events}, build_note(events))
    return len(events)


def start_run_from_api(run_id: str, ledger: Ledger, user: str) -> None:
    """Start a run of process_event for the events that the ledger has under its id; harmless to repeat."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagRunAlreadyExists
    from airflow.utils.types import DagRunTriggeredByType

    events = [entry.payload for entry in load_run_events(ledger, run_id)]
    if not events:
        return
    try:
        trigger_dag(
            settings.DAG_ID,
            run_id=run_id,
            conf={"events": events},
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=user or None,
            note=build_note(events),
        )
    except DagRunAlreadyExists:
        log.info("Run %s was started before", run_id)


def build_note(events: Sequence[dict[str, object]]) -> str | None:
    """Give the comments of events as the note of their run; None if there are none."""
    comments = [str(event["comment"]) for event in events if event.get("comment")]
    return "\n".join(dict.fromkeys(comments))[:MAX_NOTE_LENGTH] or None
