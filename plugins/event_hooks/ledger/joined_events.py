"""Build the event that a join creates from the events that have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from event_hooks.events.models import build_causation
from event_hooks.ledger.records import NewEvent, event_key

if TYPE_CHECKING:
    from event_hooks.ledger.joins import JoinWait

SOURCE = "joined"
"""Source of joined events."""


def build_joined_event(wait: JoinWait) -> NewEvent:
    """Return the joined event: the fields of the last event, and all events in ``joined``."""
    last = wait.events[-1]
    payload = {
        **last.payload,
        **_find_force(wait),
        "event_id": f"{wait.process}/{wait.opened_at:%Y%m%dT%H%M%S}/{wait.id}",
        "follows": build_causation(last.payload, last.run_id, last.position, wait.process),
        "joined": {
            "process": wait.process,
            "missing": wait.missing,
            "events": [join_event.payload for join_event in wait.events],
        },
    }
    event_type = payload["type"]
    key = event_key(event_type, payload["event_id"])
    return NewEvent(key, event_type, payload.get("genome"), payload, SOURCE)


def _find_force(wait: JoinWait) -> dict[str, Any]:
    """Return ``force`` and ``reason`` of the last forced event, if an event is forced."""
    forced = [join_event.payload for join_event in wait.events if join_event.payload.get("force")]
    return {name: forced[-1].get(name) for name in ("force", "reason")} if forced else {}
