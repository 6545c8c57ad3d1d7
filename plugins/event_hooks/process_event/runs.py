"""Runs of `process_event`: their ids, their notes, and their start by event hooks."""

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
"""Prefixes of the ids of runs that event hooks starts, or `maintain_ledger` in place of their creator."""

MAX_NOTE_LENGTH = 1000
"""Characters of a run's note: the length of Airflow's column."""


def start_run(ledger: Ledger, run_id: str) -> int:
    """
    Start a run, from inside a task, for the events that are assigned to it; do nothing if it exists.

    :return: the number of its events.
    :raises RuntimeError: Airflow cannot start it now; ``maintain_ledger`` retries.
    """
    events = [event.payload for event in load_run_events(ledger, run_id)]
    supervisor.trigger_run(settings.DAG_ID, run_id, {"events": events}, build_note(events))
    return len(events)


def start_run_from_api(run_id: str, ledger: Ledger, user: str) -> None:
    """
    Start a run, in the API server, for the events that are assigned to it; idempotent.

    :param user: names of the users that sent the events; may be empty.
    """
    from event_hooks.runtime import api_server  # its modules exist for the API server and are slow to import

    events = [event.payload for event in load_run_events(ledger, run_id)]
    if not events:
        return
    is_started = api_server.trigger_run(
        settings.DAG_ID, run_id, {"events": events}, build_note(events), user or None
    )
    if not is_started:
        log.info("Run %s was started before", run_id)


def build_note(events: Sequence[dict[str, object]]) -> str | None:
    """Return the comments of events as the note of their run; ``None`` if no event has a comment."""
    comments = [str(event["comment"]) for event in events if event.get("comment")]
    return "\n".join(dict.fromkeys(comments))[:MAX_NOTE_LENGTH] or None
