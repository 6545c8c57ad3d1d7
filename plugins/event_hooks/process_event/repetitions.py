"""Repeat events as new events, on behalf of a user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_hooks.events.models import EventBatch, event_reference
from event_hooks.exceptions import EventInvalid
from event_hooks.field_path import FieldPath
from event_hooks.ledger.events import load_events, load_events_by_key
from event_hooks.ledger.overview import load_event_views
from event_hooks.ledger.records import EventRequest, NewEvent, event_key
from event_hooks.process_event.planning import build_request, plan_batch

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.records import StoredEvent
    from event_hooks.ledger.views import EventView

SOURCE = "retry"
"""``source`` of repetitions in the ledger."""


@dataclass(frozen=True)
class Repetition:
    """An event that a user repeats as a new event."""

    event: EventView
    new_event: NewEvent | None
    reason: str | None
    """Why it is not repeated; ``None`` if it is."""


def plan_repetitions(ledger: Ledger, events: Sequence[EventView], lookups: Lookups) -> list[Repetition]:
    """
    Return the repetition of each event: the same payload with another ``event_id``.

    The repetition of an event with the ``event_id`` 42 has 42#2, the next one 42#3. An event is not repeated
    while it, or its last repetition, is unfinished, so a repeated request changes nothing.
    """
    stored = {event.id: event for event in load_events(ledger, [event.id for event in events])}
    numbers, latest = _find_latest(ledger, stored.values())
    views = load_event_views(ledger, sorted(set(latest.values())))
    unfinished = {view.id for view in (*views, *events) if not view.is_finished}
    return [
        _plan_repetition(event, stored[event.id], numbers[event.id], latest[event.id], unfinished, lookups)
        for event in events
        if event.id in stored
    ]


def _plan_repetition(
    view: EventView,
    event: StoredEvent,
    number: int,
    latest_id: int,
    unfinished: set[int],
    lookups: Lookups,
) -> Repetition:
    if view.id in unfinished:
        return Repetition(view, None, "it is unfinished")
    if latest_id in unfinished:
        return Repetition(view, None, f"event {latest_id} repeats it, and is unfinished")
    new_event = _build_repetition(event, number)
    try:
        plan_batch(EventBatch.from_event(new_event.payload), lookups)
    except EventInvalid as error:
        return Repetition(view, None, str(error))
    return Repetition(view, new_event, None)


def _find_latest(ledger: Ledger, events: Iterable[StoredEvent]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the number of each event's next repetition, and the id of its last one: ``{event id: …}``."""
    remaining = {event.id: event for event in events}
    numbers: dict[int, int] = {}
    latest, number = {event_id: event_id for event_id in remaining}, 2
    while remaining:
        keys = {event_id: _build_repetition(event, number).key for event_id, event in remaining.items()}
        stored = load_events_by_key(ledger, list(keys.values()))
        numbers |= {event_id: number for event_id, key in keys.items() if key not in stored}
        latest |= {event_id: stored[key].id for event_id, key in keys.items() if key in stored}
        remaining = {event_id: event for event_id, event in remaining.items() if keys[event_id] in stored}
        number += 1
    return numbers, latest


def _build_repetition(event: StoredEvent, number: int) -> NewEvent:
    payload = event.payload
    original = f"event-{event.id}" if payload.get("event_id") is None else str(payload["event_id"])
    event_id = f"{original.partition('#')[0]}#{number}"
    correlation_id = event.correlation_id or event_reference(event.run_id or "", event.position)
    return NewEvent(
        event_key(payload["type"], event_id),
        payload["type"],
        payload.get("genome"),
        {**payload, "event_id": event_id},
        SOURCE,
        counts_for_joins=False,
        correlation_id=correlation_id,
    )


def build_repetition_request(repetitions: Sequence[Repetition], lookups: Lookups) -> EventRequest:
    """
    Return the request that stores repetitions, which have no reason, with their processes.

    :raises EventInvalid: the lookups have changed since the plan.
    """
    new_events = [repetition.new_event for repetition in repetitions if repetition.new_event]
    events = tuple(EventBatch.from_event(new_event.payload).events[0] for new_event in new_events)
    batch = EventBatch(events, FieldPath("events"))
    return build_request(batch, new_events, lookups)
