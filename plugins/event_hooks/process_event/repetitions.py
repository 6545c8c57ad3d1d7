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
from event_hooks.ledger.records import EventRequest, NewEvent, ProcessState, event_key
from event_hooks.process_event.planning import build_request, plan_batch
from event_hooks.process_event.user_requests import STOPPED_REASON

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


def plan_repetitions(
    ledger: Ledger, events: Sequence[EventView], lookups: Lookups, *, is_filtered: bool = False
) -> list[Repetition]:
    """
    Return the repetition of each event: the same payload with another ``event_id``.

    The repetition of an event with the ``event_id`` 42 has 42#2, the next one 42#3. An event is not repeated
    while it, or its last repetition, is unfinished, so a repeated request changes nothing.

    :param is_filtered: as in :func:`event_hooks.process_event.user_requests.plan_retries`.
    """
    stored = {event.id: event for event in load_events(ledger, [event.id for event in events])}
    numbers, latest = _find_latest(ledger, stored.values())
    views = load_event_views(ledger, sorted(set(latest.values())))
    unfinished = {view.id for view in (*views, *events) if not view.is_finished}
    repetitions = []
    for event in events:
        if event.id in stored:
            reason = _explain(event, latest[event.id], unfinished, is_filtered=is_filtered)
            new_event = _build_repetition(stored[event.id], numbers[event.id])
            reason = reason or _find_error(new_event, lookups)
            repetitions.append(Repetition(event, None if reason else new_event, reason))
    return repetitions


def _explain(event: EventView, latest_id: int, unfinished: set[int], *, is_filtered: bool) -> str | None:
    """Return why an event is not repeated because of its state, or that of its last repetition."""
    if event.id in unfinished:
        return "it is unfinished"
    if latest_id in unfinished:
        return f"event {latest_id} repeats it, and is unfinished"
    is_stopped = any(process.state == ProcessState.STOPPED for process in event.processes)
    return STOPPED_REASON if is_stopped and is_filtered else None


def _find_error(new_event: NewEvent, lookups: Lookups) -> str | None:
    try:
        plan_batch(EventBatch.from_event(new_event.payload), lookups)
    except EventInvalid as error:
        return str(error)
    return None


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
