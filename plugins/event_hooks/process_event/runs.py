"""Runs of `process_event`: their ids, their notes, and their start by event hooks."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from event_hooks import settings
from event_hooks.ledger.events import load_run
from event_hooks.masking import mask_text
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import RunEvents

log = logging.getLogger(__name__)

API_PREFIX = "api__"
COLLECT_PREFIX = "collect__"
JOIN_PREFIX = "joined__"
OWN_PREFIXES = (API_PREFIX, COLLECT_PREFIX, JOIN_PREFIX)
"""Prefixes of the ids of runs that event hooks starts; no user can start such a run."""

REFERENCE_KEY = "ledger"
"""
The only key in the ``conf`` of a run that event hooks starts: the run's events are in the ledger.

Its value is for users who read the ``conf``: ``{"events": number of events, "first_event_id": …}``. Tasks
read the events that the ledger has assigned to the run.
"""

MAX_NOTE_LENGTH = 1000
"""Characters of a run's note: the length of Airflow's column."""


def start_run(ledger: Ledger, run_id: str) -> int:
    """
    Start a run, from inside a task, for the events that are assigned to it; do nothing if it exists.

    :return: the number of its events.
    :raises RuntimeError: Airflow cannot start it now; ``maintain_ledger`` retries.
    """
    run = load_run(ledger, run_id)
    supervisor.trigger_run(settings.DAG_ID, run_id, build_conf(run), build_note(run))
    return len(run.events)


def start_run_from_api(run_id: str, ledger: Ledger, user: str) -> None:
    """
    Start a run, in the API server, for the events that are assigned to it; idempotent.

    :param user: names of the users that sent the events; may be empty.
    """
    from event_hooks.runtime import api_server  # its modules exist for the API server and are slow to import

    run = load_run(ledger, run_id)
    if not run.events:
        return
    conf, note = build_conf(run), build_note(run)
    is_started = api_server.trigger_run(settings.DAG_ID, run_id, conf, note, user or None)
    if not is_started:
        log.info("Run %s was started before", run_id)


def clear_tasks_from_api(task_ids: Mapping[str, Collection[str]]) -> None:
    """Clear tasks, in the API server; idempotent: ``{run id: ids of its tasks}``."""
    from event_hooks.runtime import api_server  # as above

    api_server.clear_tasks(settings.DAG_ID, task_ids)


def build_conf(run: RunEvents) -> dict[str, Any]:
    """Return the ``conf`` of a run whose events are in the ledger."""
    return {REFERENCE_KEY: {"events": len(run.events), "first_event_id": min(run.event_ids.values())}}


def is_own(run_id: str) -> bool:
    """Return whether event hooks starts a run with this id; also an id that differs in letter case only."""
    return run_id.strip().lower().startswith(OWN_PREFIXES)


def is_reference(conf: object) -> bool:
    """Return whether a run's ``conf`` refers to the ledger, instead of containing events."""
    return isinstance(conf, Mapping) and set(conf) == {REFERENCE_KEY}


def build_note(run: RunEvents) -> str | None:
    """Return the comments of events as the note of their run; ``None`` if no event has a comment."""
    comments = [str(comment) for event in run.events.values() if (comment := event.payload().get("comment"))]
    return mask_text("\n".join(dict.fromkeys(comments)))[:MAX_NOTE_LENGTH] or None
